//! Chains in words that a Python programmer reads: `module app`, `app.cache`, `dict['user-17']`, `app.Embedding`.

use std::ops::ControlFlow;

use super::chains::Chain;
use super::graph::{Edge, Graph};
use super::roots::{Root, Roots};
use crate::heap::names::{TypeNames, c_string};
use crate::heap::objects::TAGGED_INTS;
use crate::heap::references::{By, References};
use crate::symbolize::unicode;
use crate::target::layout::Layout;
use crate::target::memory::Memory;
use crate::units::Addr;

/// Characters of a name, and of a key.
const MAX_NAME: usize = 200;
const MAX_KEY: usize = 40;

/// Entries of a module's dict among which its name is searched for.
const MAX_ENTRIES: usize = 256;

/// A step of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    /// In words.
    pub text: String,
    /// The same without keys: equal for objects that hang in the same way.
    pub pattern: String,
}

impl Word {
    fn same(text: String) -> Self {
        Self { pattern: text.clone(), text }
    }
}

/// Reads names.
pub(super) struct Names<'a, M> {
    memory: &'a M,
    layout: &'static Layout,
    types: TypeNames,
}

impl<'a, M: Memory> Names<'a, M> {
    /// Reads nothing yet; `type_type` is `PyType_Type`.
    pub(super) fn new(memory: &'a M, layout: &'static Layout, type_type: Addr) -> Self {
        Self { memory, layout, types: TypeNames::new(layout, type_type) }
    }

    /// The whole name of an object's class.
    pub(super) fn class_of(
        &mut self,
        references: &mut References<'_, M>,
        object: Addr,
    ) -> Option<String> {
        let (class, _) = references.class(object)?;
        Some(self.types.name(self.memory, class)?.to_string())
    }

    /// A chain in words, the object at its end by its class.
    pub(super) fn words(
        &mut self,
        references: &mut References<'_, M>,
        graph: &Graph,
        roots: &Roots,
        chain: &Chain,
    ) -> Vec<Word> {
        let mut words = Vec::new();
        match chain.root {
            Some(Root::Itself) => {
                let first = chain.links.first().map_or(chain.end, |link| link.holder);
                words.push(Word::same(self.itself(references, graph.addr(first))));
            }
            Some(Root::Function { thread, code, by }) => {
                let (text, pattern) = (format!("thread {thread}"), "thread …".to_owned());
                words.push(Word { text, pattern });
                let name = self.code(code);
                let text = match by {
                    By::Local(local) => format!("{name}: local {}", self.text(local, MAX_NAME)),
                    By::Stack | By::Word(_) => format!("{name}: what it works on"),
                    other => format!("{name}: {}", self.plain(other)),
                };
                words.push(Word::same(text));
            }
            Some(Root::Region { region, at }) => {
                let what = roots.regions.get(region as usize).map(|region| region.what.clone());
                let pattern = what.unwrap_or_default();
                words.push(Word { text: format!("{pattern}, at {at:#x}"), pattern });
            }
            None => {}
        }
        let mut rest = chain.links.as_slice();
        while let Some(first) = rest.first() {
            let (word, used) = self.step(references, graph, first, rest);
            words.push(word);
            rest = rest.get(used..).unwrap_or_default();
        }
        let end = self.class_of(references, graph.addr(chain.end));
        words.push(Word::same(end.unwrap_or_else(|| "?".to_owned())));
        words
    }

    /// One step, and how many references it stands for.
    fn step(
        &mut self,
        references: &mut References<'_, M>,
        graph: &Graph,
        first: &Edge,
        rest: &[Edge],
    ) -> (Word, usize) {
        let holder = graph.addr(first.holder);
        let ways: Vec<By> = rest.iter().map(|edge| edge.by).take(3).collect();
        match *ways.as_slice() {
            [By::Dict, By::Item(key), ..] => {
                let prefix = self.prefix(references, holder);
                if references.class(key).is_some_and(|(_, class)| class.is_str()) {
                    return (Word::same(format!("{prefix}.{}", self.text(key, MAX_NAME))), 2);
                }
                let text = format!("{prefix}.__dict__[{}]", self.key(references, key));
                return (Word { text, pattern: format!("{prefix}.__dict__[…]") }, 2);
            }
            [By::Dict, By::Attribute(name), ..] => {
                let prefix = self.prefix(references, holder);
                return (Word::same(format!("{prefix}.{}", self.text(name, MAX_NAME))), 2);
            }
            [By::Field("its frame"), By::Local(name), ..] => {
                let prefix = self.prefix(references, holder);
                return (Word::same(format!("{prefix}: local {}", self.text(name, MAX_NAME))), 2);
            }
            [By::Field("__closure__"), By::Index(n), By::Field("cell_contents"), ..] => {
                let prefix = self.prefix(references, holder);
                let name = self.free_variable(references, holder, n);
                return (Word::same(format!("{prefix}: closure variable {name}")), 3);
            }
            [By::Field("its cache"), By::Item(key), ..] => {
                let prefix = self.prefix(references, holder);
                let text = format!("{prefix}: cached result for {}", self.key(references, key));
                // In a bounded one, results are held by links.
                let used = if ways.get(2) == Some(&By::Field("result")) { 3 } else { 2 };
                return (Word { text, pattern: format!("{prefix}: cached result") }, used);
            }
            _ => {}
        }
        let prefix = self.prefix(references, holder);
        let word = match first.by {
            By::Item(key) => Word {
                text: format!("{prefix}[{}]", self.key(references, key)),
                pattern: format!("{prefix}[…]"),
            },
            By::Index(n) => {
                Word { text: format!("{prefix}[{n}]"), pattern: format!("{prefix}[…]") }
            }
            By::Attribute(name) => Word::same(format!("{prefix}.{}", self.text(name, MAX_NAME))),
            By::Member(name) => {
                let name = c_string(self.memory, name).unwrap_or_else(|| "?".to_owned());
                Word::same(format!("{prefix}.{name}"))
            }
            By::Local(name) => Word::same(format!("{prefix}: local {}", self.text(name, MAX_NAME))),
            By::Field(name) if is_attribute(name) => Word::same(format!("{prefix}.{name}")),
            By::Dict | By::Class => Word::same(format!("{prefix}.{}", self.plain(first.by))),
            other => Word::same(format!("{prefix}: {}", self.plain(other))),
        };
        (word, 1)
    }

    /// A way of referring that needs no name.
    fn plain(&self, by: By) -> String {
        match by {
            By::Key => "a key".to_owned(),
            By::Element => "an element".to_owned(),
            By::Stack => "what it works on".to_owned(),
            By::Dict => "__dict__".to_owned(),
            By::Class => "__class__".to_owned(),
            By::Own(_) => "a field of its".to_owned(),
            By::Field(name) => name.to_owned(),
            By::Word(at) => format!("maybe its word at {at}"),
            By::Index(n) => format!("[{n}]"),
            By::Item(_) => "an item".to_owned(),
            By::Attribute(name) | By::Local(name) => self.text(name, MAX_NAME),
            By::Member(name) => c_string(self.memory, name).unwrap_or_default(),
        }
    }

    /// What lives for itself.
    fn itself(&mut self, references: &mut References<'_, M>, object: Addr) -> String {
        let is_class = references.class(object).is_some_and(|(_, head)| head.is_metatype());
        let kind = if is_class { "class" } else { "module" };
        format!("{kind} {}", self.prefix(references, object))
    }

    /// How to call what refers.
    fn prefix(&mut self, references: &mut References<'_, M>, object: Addr) -> String {
        let unknown = || "?".to_owned();
        let Some((_, head)) = references.class(object) else { return unknown() };
        if references.is_module(object) {
            return self.module(references, object).unwrap_or_else(unknown);
        }
        if head.is_metatype() {
            return self
                .types
                .name(self.memory, object)
                .map_or_else(unknown, |name| name.to_string());
        }
        let class = self.class_of(references, object).unwrap_or_else(unknown);
        let short = class.rsplit('.').next().unwrap_or_default().to_owned();
        match short.as_str() {
            "function" | "generator" | "coroutine" | "async_generator"
                if class.starts_with("builtins.") =>
            {
                let name = references.field(object, "__qualname__");
                format!("{short} {}", name.map_or_else(unknown, |name| self.text(name, MAX_NAME)))
            }
            "method" if class == "builtins.method" => {
                let function = references.field(object, "__func__");
                let name = function.and_then(|function| references.field(function, "__qualname__"));
                format!("method {}", name.map_or_else(unknown, |name| self.text(name, MAX_NAME)))
            }
            "frame" if class == "builtins.frame" => {
                let code = references.field(object, "f_code");
                format!("frame of {}", code.map_or_else(unknown, |code| self.code(code)))
            }
            "_lru_cache_wrapper" => {
                let function = references.field(object, "__wrapped__");
                let name = function.and_then(|function| references.field(function, "__qualname__"));
                format!("lru_cache {}", name.map_or_else(unknown, |name| self.text(name, MAX_NAME)))
            }
            _ => short,
        }
    }

    /// A module's `__name__`.
    fn module(&self, references: &mut References<'_, M>, module: Addr) -> Option<String> {
        let mut dict = None;
        references.each(module, &mut |by, to| {
            if by == By::Dict {
                dict = Some(to);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        let (mut left, mut found) = (MAX_ENTRIES, None);
        references.each(dict?, &mut |by, to| {
            if let By::Item(key) = by {
                left -= 1;
                if self.text(key, MAX_NAME) == "__name__" {
                    found = unicode::read(self.memory, self.layout, to, MAX_NAME);
                    return ControlFlow::Break(());
                }
            }
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        found
    }

    /// The name of a variable that a function has from around it.
    fn free_variable(&self, references: &mut References<'_, M>, function: Addr, n: u64) -> String {
        let code = references.field(function, "__code__");
        let names = code.map(|code| references.free_variables(code)).unwrap_or_default();
        let name = usize::try_from(n).ok().and_then(|n| names.get(n).copied());
        name.map_or_else(|| format!("{n}"), |name| self.text(name, MAX_NAME))
    }

    fn code(&self, code: Addr) -> String {
        let name = self.memory.pointer(code.offset(self.layout.code.name));
        name.map_or_else(|_| "?".to_owned(), |name| self.text(name, MAX_NAME))
    }

    fn text(&self, addr: Addr, most: usize) -> String {
        unicode::read(self.memory, self.layout, addr, most).unwrap_or_else(|| "?".to_owned())
    }

    /// A key, as Python writes it where it is short.
    fn key(&mut self, references: &mut References<'_, M>, key: Addr) -> String {
        let Some((_, head)) = references.class(key) else { return "?".to_owned() };
        if head.is_str() {
            let text = self.text(key, MAX_KEY + 1);
            let cut: String = text.chars().take(MAX_KEY).collect();
            let rest = if cut.len() < text.len() { "…" } else { "" };
            return format!("'{cut}{rest}'");
        }
        if head.is_int()
            && let Some(number) = self.int(key)
        {
            return number.to_string();
        }
        let class = self.class_of(references, key).unwrap_or_else(|| "?".to_owned());
        format!("<{}>", class.strip_prefix("builtins.").unwrap_or(&class))
    }

    /// An int of up to 60 bits: digits of 30 bits at 24.
    fn int(&self, addr: Addr) -> Option<i64> {
        let size = self.memory.word(addr.offset(self.layout.object.size)).ok()?;
        let (digits, is_negative) = if self.layout.version >= TAGGED_INTS {
            (size >> 3, size & 3 == 2)
        } else {
            (size.cast_signed().unsigned_abs(), size.cast_signed() < 0)
        };
        if digits > 2 {
            return None;
        }
        let mut value = 0;
        for n in 0..digits {
            let digit = self.memory.half(addr.offset(24 + 4 * n)).ok()?;
            value |= i64::from(digit) << (30 * n);
        }
        Some(if is_negative { -value } else { value })
    }
}

/// Can it stand behind a dot?
fn is_attribute(name: &str) -> bool {
    !name.contains(' ')
}
