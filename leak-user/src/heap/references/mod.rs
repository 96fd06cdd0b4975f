//! What an object refers to, and how: `gc.get_referents` from outside, with names.
//!
//! The target runs on, so an object may change while it is read: what is said of it was so at some time meanwhile, or
//! was never so. Who needs to be sure asks again.

mod containers;
mod frames;
mod kinds;
mod offsets;
mod plan;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use foldhash::HashMap;

use self::kinds::Kind;
use self::offsets::{
    Attributes, ModuleState, Offsets, TYPE_BASE, TYPE_BASES, TYPE_CACHE, TYPE_MRO,
};
use self::plan::{Part, Plan, Trust};
use super::collector::LINK_FLAGS;
use super::identity::{candidate, is_instance};
use super::types::{TypeHead, Types, plausible};
use crate::symbolize::unicode;
use crate::target::layout::Layout;
use crate::target::memory::Memory;
use crate::units::Addr;

pub use self::frames::Running;

/// Types that are remembered.
const MAX_PLANS: usize = 1 << 16;

/// Characters of a class's name.
const MAX_NAME: usize = 400;

/// The words before an object that hold its attributes, or lead to them.
const VALUES_BEFORE: u64 = 32;
const DICT_BEFORE: u64 = 24;

/// Most of an object's own words that are read, and of a module's state.
const MAX_OWN: u64 = 1 << 20;

/// How an object refers to another. What the target chose is not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum By {
    /// A dict's value for the key there.
    Item(Addr),
    /// A dict's key.
    Key,
    /// A list's or a tuple's item, or a deque's.
    Index(u64),
    /// An element of a set.
    Element,
    /// An attribute, by its name, a `str`.
    Attribute(Addr),
    /// An attribute, by its name, a C string.
    Member(Addr),
    /// A local variable, by its name, a `str`.
    Local(Addr),
    /// What a function is at work on.
    Stack,
    /// A field with a name of its own.
    Field(&'static str),
    /// Its `__dict__`.
    Dict,
    /// Its class.
    Class,
    /// A field whose name isn't known, so many bytes from its start.
    Own(u64),
    /// A word, so many bytes from its start: maybe no reference.
    Word(u64),
}

impl By {
    /// May it be no reference at all?
    #[must_use]
    pub fn is_maybe(self) -> bool {
        matches!(self, Self::Word(_))
    }
}

/// Takes references: how, and to what.
type See<'s> = &'s mut dyn FnMut(By, Addr) -> ControlFlow<()>;

/// Reads references.
pub struct References<'a, M> {
    memory: &'a M,
    layout: &'static Layout,
    offsets: &'static Offsets,
    code_type: Addr,
    types: Types,
    plans: HashMap<Addr, Option<Rc<Plan>>>,
    /// Bytes of containers that may still be read.
    left: Cell<u64>,
}

impl<'a, M: Memory> References<'a, M> {
    /// Reads nothing yet; `type_type` and `code_type` are `PyType_Type` and `PyCode_Type`.
    #[must_use]
    pub fn new(memory: &'a M, layout: &'static Layout, type_type: Addr, code_type: Addr) -> Self {
        Self {
            memory,
            layout,
            offsets: offsets::offsets(layout.version),
            code_type,
            types: Types::new(layout, type_type),
            plans: HashMap::default(),
            left: Cell::new(u64::MAX),
        }
    }

    /// From now on, no more than so many bytes of containers are read: one that lies may be as large as memory, and
    /// a million of them may say that they share it.
    pub fn allow(&mut self, bytes: u64) {
        self.left.set(bytes);
    }

    /// May so many bytes be read?
    fn spend(&self, bytes: usize) -> bool {
        let left = self.left.get().checked_sub(bytes as u64);
        self.left.set(left.unwrap_or(0));
        left.is_some()
    }

    /// The class of an object.
    pub fn class(&mut self, object: Addr) -> Option<(Addr, TypeHead)> {
        let class = self.memory.pointer(object.offset(self.layout.object.class)).ok()?;
        Some((class, self.types.get(self.memory, class)?))
    }

    /// Is there an object at an address, as far as can be told from it and from what is before it?
    pub fn is_object(&mut self, addr: Addr) -> bool {
        let mut bytes = [0; 32];
        let links = Addr(addr.0.wrapping_sub(16));
        if !plausible(links) || self.memory.read(links, &mut bytes).is_err() {
            return false;
        }
        let Some((class, references)) = candidate(&self.layout.object, &bytes, 16) else {
            return false;
        };
        let Some(head) = self.types.get(self.memory, class) else { return false };
        if !is_instance(&mut self.types, self.memory, &head, head.header, references) {
            return false;
        }
        // Types of the interpreter's own are variables of its, with nothing before them.
        let is_static =
            head.is_metatype() && !self.type_at(addr).is_some_and(|one| one.is_heap_type());
        if head.header == 0 || is_static {
            return true;
        }
        let Some(next) = word(&bytes, 0).map(|next| next & !LINK_FLAGS) else { return false };
        let back = || self.memory.word(Addr(next).offset(8)).map(|back| Addr(back & !LINK_FLAGS));
        next == 0 || back() == Ok(links)
    }

    /// How many refer to an object, as it counts them itself.
    pub fn count(&self, object: Addr) -> Option<u64> {
        let mut bytes = [0; 16];
        self.memory.read(object, &mut bytes).ok()?;
        candidate(&self.layout.object, &bytes, 0).map(|(_, references)| references)
    }

    /// The type at an address.
    pub fn type_at(&mut self, addr: Addr) -> Option<TypeHead> {
        self.types.get(self.memory, addr)
    }

    /// All that an object refers to. What [`By::is_maybe`] may be no object.
    pub fn each(&mut self, object: Addr, see: See<'_>) {
        let _ = self.visit(object, see);
    }

    /// The field of this name, of the interpreter's own types.
    pub fn field(&mut self, object: Addr, name: &str) -> Option<Addr> {
        let mut found = None;
        self.each(object, &mut |by, to| {
            if matches!(by, By::Field(known) if known == name) {
                found = Some(to);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        found
    }

    /// Is it a module?
    pub fn is_module(&mut self, object: Addr) -> bool {
        let plan = self.class(object).and_then(|(class, _)| self.plan(class));
        plan.is_some_and(|plan| plan.parts.contains(&Part::Special(Kind::Module)))
    }

    /// Is it a class that was made within a function, by its name?
    pub fn is_local_class(&mut self, class: Addr) -> bool {
        let is_made = self.type_at(class).is_some_and(|head| head.is_heap_type());
        let name = self.memory.pointer(class.offset(self.layout.types.qualname));
        let name = name.ok().filter(|_| is_made);
        let name = name.and_then(|name| unicode::read(self.memory, self.layout, name, MAX_NAME));
        name.is_some_and(|name| name.contains("<locals>"))
    }

    fn visit(&mut self, object: Addr, see: See<'_>) -> ControlFlow<()> {
        let Some((class, _)) = self.class(object) else { return ControlFlow::Continue(()) };
        let Some(plan) = self.plan(class) else { return ControlFlow::Continue(()) };
        let mut own = vec![0; usize::try_from(plan.basicsize.min(MAX_OWN)).unwrap_or(0)];
        if self.memory.read(object, &mut own).is_err() {
            return ControlFlow::Continue(());
        }
        let word = |at: u64| word(&own, at);
        for part in &plan.parts {
            match *part {
                Part::Field(field) => give(word(field.at), By::Field(field.name), see)?,
                Part::Member(at, name) => give(word(at), By::Member(name), see)?,
                Part::Words(from, to, trust) => {
                    for at in (from..to).step_by(8) {
                        give(word(at), trust.by(at), see)?;
                    }
                }
                Part::Items(trust) => {
                    let count = word(self.layout.object.size);
                    self.items(object, &plan, count, trust, see)?;
                }
                Part::DictAt(at) => self.dict_at(object, &plan, at, see)?,
                Part::Managed => self.managed(object, class, see)?,
                Part::Inline => {
                    let values = object.offset(plan.basicsize);
                    self.values(values, self.cached_keys(class), true, see)?;
                }
                Part::Class => see(By::Class, class)?,
                Part::Special(kind) => self.special(kind, object, &own, see)?,
            }
        }
        ControlFlow::Continue(())
    }

    fn plan(&mut self, class: Addr) -> Option<Rc<Plan>> {
        if let Some(known) = self.plans.get(&class) {
            return known.clone();
        }
        let plan = Plan::new(self.memory, &mut self.types, self.offsets, class).map(Rc::new);
        if self.plans.len() >= MAX_PLANS {
            self.plans.clear();
        }
        self.plans.insert(class, plan.clone());
        plan
    }

    /// Words of an object behind its own size.
    fn items(
        &self,
        object: Addr,
        plan: &Plan,
        count: Option<u64>,
        trust: Trust,
        see: See<'_>,
    ) -> ControlFlow<()> {
        let count = count.unwrap_or(0).cast_signed().unsigned_abs();
        self.words(object.offset(plan.basicsize), count, &mut |n, to| {
            see(trust.by(plan.basicsize + 8 * n), to)
        })
    }

    /// The `__dict__` at an offset, which is from the end of an object with items where it is negative.
    fn dict_at(&self, object: Addr, plan: &Plan, at: i64, see: See<'_>) -> ControlFlow<()> {
        let at = if at >= 0 {
            Some(object.offset(at.unsigned_abs()))
        } else {
            let size = self.memory.word(object.offset(self.layout.object.size)).unwrap_or(0);
            let items = size.cast_signed().unsigned_abs().checked_mul(plan.itemsize);
            let bytes = items.and_then(|items| items.checked_add(plan.basicsize));
            let bytes = bytes.and_then(|bytes| bytes.checked_next_multiple_of(8));
            bytes.map(|bytes| Addr(object.0.wrapping_add(bytes).wrapping_add_signed(at)))
        };
        give(at.and_then(|at| self.memory.word(at).ok()), By::Dict, see)
    }

    /// Attributes at the managed words.
    fn managed(&self, object: Addr, class: Addr, see: See<'_>) -> ControlFlow<()> {
        let before = |bytes: u64| self.memory.word(Addr(object.0.wrapping_sub(bytes))).ok();
        let dict = before(DICT_BEFORE);
        match (self.offsets.attributes, dict) {
            (Attributes::Two, _) => {
                let values = before(VALUES_BEFORE).filter(|values| *values != 0);
                if let Some(values) = values {
                    self.values(Addr(values), self.cached_keys(class), true, see)?;
                }
                give(dict, By::Dict, see)
            }
            (Attributes::Tagged, Some(tagged)) if tagged & 1 != 0 => {
                self.values(Addr(tagged.wrapping_add(1)), self.cached_keys(class), true, see)
            }
            _ => give(dict, By::Dict, see),
        }
    }

    /// The keys that the instances of a class share (`ht_cached_keys`).
    fn cached_keys(&self, class: Addr) -> Option<Addr> {
        let at = class.offset(self.layout.types.qualname + 8);
        self.memory.pointer(at).ok().filter(|keys| !keys.is_null())
    }

    fn type_object(&mut self, object: Addr, see: See<'_>) -> ControlFlow<()> {
        let field = |at: u64| self.memory.word(object.offset(at)).ok();
        // Those of the interpreter's own have a small number there, or nothing (3.12 and later).
        give(field(self.layout.types.dict), By::Dict, see)?;
        if !self.type_at(object).is_some_and(|head| head.is_heap_type()) {
            return ControlFlow::Continue(());
        }
        give(field(TYPE_CACHE), By::Field("tp_cache"), see)?;
        give(field(TYPE_MRO), By::Field("__mro__"), see)?;
        give(field(TYPE_BASES), By::Field("__bases__"), see)?;
        give(field(TYPE_BASE), By::Field("__base__"), see)?;
        if self.offsets.type_module {
            give(field(self.layout.types.qualname + 16), By::Field("its module"), see)?;
        }
        ControlFlow::Continue(())
    }

    fn module(&self, object: Addr, see: See<'_>) -> ControlFlow<()> {
        let field = |at: u64| self.memory.word(object.offset(at)).ok();
        let (state, size) = match self.offsets.module_state {
            ModuleState::Def { state, def, size } => {
                let def = field(def).filter(|def| *def != 0);
                let size = def.and_then(|def| self.memory.word(Addr(def).offset(size)).ok());
                (field(state), size)
            }
            ModuleState::Own { state, size } => (field(state), field(size)),
        };
        let (Some(state), Some(size)) = (state.filter(|state| *state != 0), size) else {
            return ControlFlow::Continue(());
        };
        // -1: it has none, and can't be made twice.
        let words = if size > MAX_OWN { 0 } else { size / 8 };
        self.words(Addr(state), words, &mut |n, to| see(By::Word(8 * n), to))
    }
}

/// Gives a reference, where there is one.
fn give(word: Option<u64>, by: By, see: See<'_>) -> ControlFlow<()> {
    match word.map(Addr) {
        Some(to) if plausible(to) => see(by, to),
        _ => ControlFlow::Continue(()),
    }
}

fn word(bytes: &[u8], at: u64) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests;
