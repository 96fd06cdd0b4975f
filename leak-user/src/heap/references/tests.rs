//! References, against what interpreters say themselves.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use super::{By, References};
use crate::heap::names::c_string;
use crate::heap::testing::{FakeMemory, Python, interpreters, rooted};
use crate::target::layout::layout;
use crate::units::Addr;

/// Many kinds of objects; of each a line: its name, its address, what `gc.get_referents` says.
const ZOO: &str = include_str!("zoo.py");

/// References that the collector isn't told of, or that are none, and look so.
const NOT_VISITED: [(&str, &str); 6] = [
    ("dict that was an instance's", "the values, which the instance has told of (3.13)"),
    ("itertools", "the module's state (3.12)"),
    ("bytes io", "the module's state, whose first words are a one and a class (3.12)"),
    ("file", "the module's state (3.12)"),
    ("thread local", "what it does when a thread ends"),
    ("instance with a dict", "its dict, where both have the same values (3.13)"),
];

/// How many kinds there are at least.
const KINDS: usize = 60;

#[test]
fn references_are_those_that_the_collector_sees() {
    for (exe, layout) in interpreters().into_iter().chain(rooted()) {
        let mut python = Python::run(&exe, ZOO);
        let types: Vec<u64> = python.numbers();
        let memory = python.memory();
        let mut references = References::new(&memory, layout, Addr(types[0]), Addr(types[1]));
        let mut wrong = Vec::new();
        let mut kinds = BTreeSet::new();
        loop {
            let line = python.line();
            let Some((name, numbers)) = line.split_once(": ") else { break };
            let mut numbers = numbers.split(' ').map(|n| n.parse::<u64>().unwrap());
            let object = Addr(numbers.next().unwrap());
            let said: BTreeSet<u64> = numbers.collect();
            let mut seen = HashSet::new();
            let mut ways = Vec::new();
            references.each(object, &mut |by, to| {
                ways.push((by, to));
                ControlFlow::Continue(())
            });
            for (by, to) in ways {
                // What can't be part of a cycle, the collector need not see: text, numbers, names.
                let is_seen = references.class(to).is_some_and(|(_, class)| class.header > 0);
                if said.contains(&to.0)
                    || (is_seen
                        && (!matches!(by, By::Word(_) | By::Own(_)) || references.is_object(to)))
                {
                    seen.insert((to.0, by));
                }
            }
            kinds.insert(name.to_owned());
            let found: BTreeSet<u64> = seen.iter().map(|(to, _)| *to).collect();
            let missing: Vec<_> = said.difference(&found).collect();
            let more: Vec<_> = seen.iter().filter(|(to, _)| !said.contains(to)).collect();
            let may_more = NOT_VISITED.iter().any(|(kind, _)| *kind == name);
            if !(missing.is_empty() && (more.is_empty() || may_more)) {
                let mut what = |to: u64| {
                    let class = references
                        .class(Addr(to))
                        .and_then(|(_, head)| c_string(&memory, head.name));
                    format!("{:?} at {to:x}", class.unwrap_or_default())
                };
                let missing: Vec<_> = missing.iter().map(|to| what(**to)).collect();
                let more: Vec<_> = more.iter().map(|(to, by)| (what(*to), by)).collect();
                wrong.push(format!("{name} at {object}: lacks {missing:?}, has more {more:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}:\n{}", exe.display(), wrong.join("\n"));
        assert!(kinds.len() >= KINDS, "{}: {} kinds", exe.display(), kinds.len());
    }
}

#[test]
fn made_up_objects_refer_to_nothing_and_end() {
    let layout = layout((3, 12)).unwrap();
    let mut memory = FakeMemory::default();
    memory.map(0x10_0000, 0x1000);
    for at in (0x10_0000..0x10_1000).step_by(8) {
        memory.put(at, at ^ 0x800);
    }
    let mut references = References::new(&memory, layout, Addr(0x10_0000), Addr(0x10_0100));
    for at in (0x10_0000..0x10_1000).step_by(8) {
        references.each(Addr(at), &mut |_, _| ControlFlow::Continue(()));
    }
}
