//! References of functions that run, or wait in the middle: their local variables and what they are at work on.

use std::ops::ControlFlow;

use super::offsets::{GeneratorFrame, Locals, Top};
use super::{By, References, See, give, word};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Local variables and stack of a function.
const MAX_SLOTS: u64 = 1 << 16;

/// Bytes of a `_PyInterpreterFrame` before its locals, at most.
const FRAME_HEAD: usize = 96;

/// The lowest bits of a slot of 3.14 and later are a tag: 1 says that it does not count, 3 that it is a number.
const TAG: u64 = 3;
const TAGGED_NUMBER: u64 = 3;

/// A function that runs in a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Its frame: an object in 3.10 and before.
    pub frame: Addr,
    /// Its code.
    pub code: Addr,
}

impl<M: Memory> References<'_, M> {
    /// What a function that runs in a thread refers to.
    pub fn running(&mut self, running: Running, see: See<'_>) {
        let _ = match self.offsets.locals {
            Locals::Object { .. } => self.locals_of_object(running.frame, running.code, true, see),
            Locals::Frame { .. } => self.locals_of_frame(running.frame, Some(running.code), see),
        };
    }

    /// The names of the variables that a function of this code has from around it: the last ones.
    pub fn free_variables(&self, code: Addr) -> Vec<Addr> {
        match self.offsets.locals {
            Locals::Object { names: [_, _, free], .. } => self.tuple(code.offset(free)),
            Locals::Frame { names, free, .. } => {
                let mut all = self.tuple(code.offset(names));
                let count = self.memory.half(code.offset(free)).unwrap_or(0);
                let bound = all.len().saturating_sub(usize::try_from(count).unwrap_or(0));
                all.split_off(bound)
            }
        }
    }

    pub(super) fn generator(&mut self, object: Addr, own: &[u8], see: See<'_>) -> ControlFlow<()> {
        for field in self.offsets.generator {
            // An asynchronous generator's hook is where a coroutine's origin is.
            give(word(own, field.at), By::Field(field.name), see)?;
        }
        match self.offsets.generator_frame {
            GeneratorFrame::Object(at) => give(word(own, at), By::Field("its frame"), see),
            GeneratorFrame::Inside { at, state, finished } => {
                let state = usize::try_from(state).ok().and_then(|at| own.get(at));
                let is_finished = state.is_none_or(|state| finished.contains(&state.cast_signed()));
                if is_finished {
                    let keeps_code =
                        matches!(self.offsets.locals, Locals::Frame { top: Top::Pointer(_), .. });
                    let code = word(own, at + self.layout.frame.code).filter(|_| keeps_code);
                    return give(code.map(|code| code & !TAG), By::Field("f_code"), see);
                }
                self.locals_of_frame(object.offset(at), None, see)
            }
        }
    }

    pub(super) fn frame_object(
        &mut self,
        object: Addr,
        own: &[u8],
        see: See<'_>,
    ) -> ControlFlow<()> {
        for field in self.offsets.frame_object {
            give(word(own, field.at), By::Field(field.name), see)?;
        }
        match self.offsets.locals {
            Locals::Object { .. } => {
                let code = word(own, self.layout.frame.code).unwrap_or(0);
                self.locals_of_object(object, Addr(code), false, see)
            }
            Locals::Frame { of_object, .. } => match word(own, of_object) {
                Some(frame) if frame != 0 => self.locals_of_frame(Addr(frame), None, see),
                _ => ControlFlow::Continue(()),
            },
        }
    }

    /// The locals of a `PyFrameObject` of 3.10 and before.
    fn locals_of_object(
        &self,
        object: Addr,
        code: Addr,
        runs: bool,
        see: See<'_>,
    ) -> ControlFlow<()> {
        let Locals::Object { at, nlocals, names, stack, top } = self.offsets.locals else {
            return ControlFlow::Continue(());
        };
        let slots = self.memory.word(object.offset(self.layout.object.size)).unwrap_or(0);
        if slots > MAX_SLOTS || !self.is_code(code) {
            return ControlFlow::Continue(());
        }
        let [mut known, cells, free] = names.map(|at| self.tuple(code.offset(at)));
        let nlocals = self.memory.half(code.offset(nlocals)).unwrap_or(0);
        known.truncate(usize::try_from(nlocals).unwrap_or(0));
        known.extend(cells.into_iter().chain(free));
        let locals = (known.len() as u64).min(slots);
        let first = object.offset(at);
        self.words(first, locals, &mut |n, to| see(slot(&known, n), to))?;
        let stack = self.memory.word(object.offset(stack)).unwrap_or(0);
        let used = match top {
            Top::Pointer(at) => {
                let top = self.memory.word(object.offset(at)).unwrap_or(0);
                top.checked_sub(stack).map(|bytes| bytes / 8)
            }
            Top::Count(at) => self.memory.half(object.offset(at)).ok().map(u64::from),
        };
        let used = used.filter(|used| locals + used <= slots);
        let beyond = if runs { slots - locals } else { 0 };
        self.words(first.offset(8 * locals), used.unwrap_or(beyond), &mut |n, to| {
            see(if used.is_some() { By::Stack } else { By::Word(at + 8 * (locals + n)) }, to)
        })
    }

    /// The locals of a `_PyInterpreterFrame`, and its fields; of one that runs, if it still runs what it did.
    fn locals_of_frame(&self, frame: Addr, running: Option<Addr>, see: See<'_>) -> ControlFlow<()> {
        let Locals::Frame { at, top, fields, count, stack, names, .. } = self.offsets.locals else {
            return ControlFlow::Continue(());
        };
        let mut head = [0; FRAME_HEAD];
        if self.memory.read(frame, &mut head).is_err() {
            return ControlFlow::Continue(());
        }
        let tagged = matches!(top, Top::Pointer(_));
        let untagged = |word: u64| match (tagged, word & TAG) {
            (true, TAGGED_NUMBER) => 0,
            (true, _) => word & !TAG,
            (false, _) => word,
        };
        let code = Addr(word(&head, self.layout.frame.code).map_or(0, untagged));
        // One that has returned meanwhile, and whose frame is another's now, has no variables.
        let is_anothers = |code: Addr| running.is_some_and(|running| running != code);
        if is_anothers(code) {
            return ControlFlow::Continue(());
        }
        for field in fields {
            give(word(&head, field.at).map(untagged), By::Field(field.name), see)?;
        }
        if !self.is_code(code) {
            return ControlFlow::Continue(());
        }
        let half = |at: u64| u64::from(self.memory.half(code.offset(at)).unwrap_or(0));
        let (locals, stack) = (half(count).min(MAX_SLOTS), half(stack).min(MAX_SLOTS));
        let used = match top {
            Top::Count(count) => word(&head, count).map(|word| u64::from(word as u32)),
            Top::Pointer(pointer) => {
                let bytes =
                    word(&head, pointer).and_then(|top| top.checked_sub(frame.0.wrapping_add(at)));
                bytes.map(|bytes| bytes / 8)
            }
        };
        // While it runs, it isn't written down how high the stack is: what lies there may be of before.
        let used = used.filter(|used| (locals..=locals + stack).contains(used));
        let slots = used.unwrap_or(if running.is_some() { locals + stack } else { locals });
        let known = self.tuple(code.offset(names));
        let mut words = vec![0; usize::try_from(8 * slots).unwrap_or(0)];
        if self.memory.read(frame.offset(at), &mut words).is_err() {
            return ControlFlow::Continue(());
        }
        let now = self.memory.word(frame.offset(self.layout.frame.code)).map_or(0, untagged);
        if is_anothers(Addr(now)) {
            return ControlFlow::Continue(());
        }
        for n in 0..slots {
            let by =
                if n >= locals && used.is_none() { By::Word(at + 8 * n) } else { slot(&known, n) };
            give(word(&words, 8 * n).map(untagged), by, see)?;
        }
        ControlFlow::Continue(())
    }

    fn is_code(&self, code: Addr) -> bool {
        self.memory.pointer(code.offset(self.layout.object.class)) == Ok(self.code_type)
    }

    /// The items of the tuple that is pointed to from there.
    fn tuple(&self, at: Addr) -> Vec<Addr> {
        let Ok(tuple) = self.memory.pointer(at) else { return Vec::new() };
        let count = self.memory.word(tuple.offset(self.layout.object.size)).unwrap_or(0);
        let mut items = vec![0; usize::try_from(count.min(MAX_SLOTS)).unwrap_or(0) * 8];
        if self.memory.read(tuple.offset(self.offsets.tuple_items), &mut items).is_err() {
            return Vec::new();
        }
        let (words, _) = items.as_chunks::<8>();
        words.iter().map(|word| Addr(u64::from_le_bytes(*word))).collect()
    }
}

/// What a slot is: a local variable, or what the function is at work on.
fn slot(names: &[Addr], n: u64) -> By {
    usize::try_from(n).ok().and_then(|n| names.get(n)).map_or(By::Stack, |name| By::Local(*name))
}
