//! What is looked for again, since the process goes on meanwhile.
//!
//! A pool that changes while it is read can't be told from nonsense, and the frame of a function that has returned is
//! another's: so a holder may be missed, and one be found that holds nothing. The more others want its core, the longer
//! a reader waits between two reads, and the more often that is.

use super::{Block, Counted, Search};
use crate::heap::retention::{graph::Graph, roots::Root};
use crate::target::memory::Memory;
use crate::units::Addr;

/// Times that the holders of one object, or one block, are looked for.
const LOOKS: u8 = 3;

/// What a pass looks for.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Objects.
    pub nodes: Vec<u32>,
    /// Blocks that are no objects.
    pub blocks: Vec<Addr>,
}

impl Due {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.blocks.is_empty()
    }
}

impl<M: Memory> Search<'_, '_, M> {
    /// Of what leads to samples that hang from nothing: what has references of which it isn't certain that they were
    /// found, or is a block of nobody's, and may be looked for once more.
    pub(super) fn missed(&mut self, leads: &[bool]) -> Due {
        if self.case.frozen {
            return Due::default();
        }
        let leads = |node: u32| leads.get(node as usize) == Some(&true);
        let Self { looks, graph, references, counts, blocks, .. } = self;
        let is_left = |(_, looks): &(&u32, &u8)| **looks < LOOKS;
        let looked_for = looks.iter().filter(is_left).map(|(node, _)| *node);
        let mut nodes: Vec<u32> = looked_for
            .filter(|node| leads(*node))
            .filter(|node| {
                let Counted { certain, .. } = counts.get(node).copied().unwrap_or_default();
                references.count(graph.addr(*node)).is_none_or(|says| says > certain)
            })
            .collect();
        nodes.sort_unstable();
        let is_nobodys = |block: &Block| block.owners.is_empty() && block.looks < LOOKS;
        let blocks = blocks.iter().filter(|(_, block)| is_nobodys(block));
        let blocks = blocks.filter(|(_, block)| block.held.iter().any(|node| leads(*node)));
        Due { nodes, blocks: blocks.map(|(addr, _)| *addr).collect() }
    }

    /// Forgets what running functions referred to and don't any more: it keeps nothing alive that stays. Tells whether
    /// there was any such.
    pub(super) fn forget_what_has_gone(&mut self) -> bool {
        if self.case.frozen {
            return false;
        }
        self.allow_reads();
        let now = self.case.roots.held(self.references);
        let stays = |at: Addr, root: &Root| now.get(&at).is_some_and(|roots| roots.contains(root));
        self.running.retain(|at, roots| {
            roots.retain(|root| stays(*at, root));
            !roots.is_empty()
        });
        let before = self.graph.roots.len();
        let Graph { roots, addrs, .. } = &mut self.graph;
        roots.retain(|(root, node)| {
            !matches!(root, Root::Function { .. })
                || addrs.get(*node as usize).is_some_and(|at| stays(*at, root))
        });
        self.graph.roots.len() < before
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::Search;
    use crate::heap::retention::graph::Trust;
    use crate::heap::retention::{Case, Wanted, why};
    use crate::heap::surroundings::Surroundings;
    use crate::heap::testing::{Python, interpreters};
    use crate::target::memory::{Memory, ProcessMemory, ReadError};
    use crate::target::{self, Target};
    use crate::units::Addr;

    /// Keeps one note in a list of its own, and says where they are; then calls a function that has another.
    const PROGRAM: &str = "
class Note:
    pass
kept = [Note()]
def wait(note):
    print(id(note), id(kept), flush=True)
    input()
wait(kept[0])
wait(None)
";

    /// Memory in which nobody sees an object for so many reads.
    struct Blind {
        inner: ProcessMemory,
        object: Addr,
        left: Cell<u32>,
    }

    impl Memory for Blind {
        fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError> {
            self.inner.read(addr, out)?;
            let begin = self.object.0.checked_sub(addr.0).and_then(|at| usize::try_from(at).ok());
            let Some(hidden) = begin.and_then(|begin| out.get_mut(begin..begin + 16)) else {
                return Ok(());
            };
            if self.left.get() > 0 {
                self.left.set(self.left.get() - 1);
                hidden.fill(0);
            }
            Ok(())
        }
    }

    /// What a search for one object makes of a process that may go on.
    fn with_case<M: Memory, T>(
        target: &Target,
        memory: &M,
        look: impl FnOnce(&Case<'_, M>) -> T,
    ) -> T {
        let python = target.python.as_ref().expect("it is Python");
        let around = Surroundings::of(target.pid, &target.memory, python).expect("a heap");
        let roots = around.roots(target.pid, &target.memory, python).expect("roots");
        look(&Case {
            memory,
            heap: around.heap(python),
            roots: &roots,
            code_type: python.code_type,
            until: None,
            frozen: false,
        })
    }

    fn ids(python: &mut Python) -> [Addr; 2] {
        let line = python.line();
        let mut ids = line.split(' ').map(|id| Addr(id.parse().expect("an id")));
        python.rest();
        [ids.next().expect("a note's"), ids.next().expect("the list's")]
    }

    #[test]
    fn a_holder_that_was_not_seen_is_looked_for_again() {
        for (exe, _) in interpreters() {
            let mut python = Python::run(&exe, PROGRAM);
            let [note, list] = ids(&mut python);
            python.send("");
            ids(&mut python);
            let target = target::discover(python.pid()).expect("a target");
            for unseen in 0..4 {
                let inner = python.memory();
                let memory = Blind { inner, object: list, left: Cell::new(unseen) };
                let found = with_case(&target, &memory, |case| {
                    why(case, &Wanted::Object(note), 1).expect("a note")
                });
                let path = found.groups.first().map_or(&[][..], |group| &group.path);
                let is_told = path.iter().any(|word| word == "__main__.kept");
                assert!(is_told, "{} {unseen}: {path:?}", exe.display());
            }
        }
    }

    /// What a function has that has returned since keeps nothing alive.
    #[test]
    fn a_variable_that_has_gone_holds_nothing() {
        for (exe, _) in interpreters() {
            let mut python = Python::run(&exe, PROGRAM);
            let [note, _] = ids(&mut python);
            let target = target::discover(python.pid()).expect("a target");
            with_case(&target, &target.memory, |case| {
                let mut references = case.references();
                let mut search = Search::new(case, &mut references, &[note]);
                assert!(!search.graph.roots.is_empty(), "{}: wait's argument", exe.display());
                assert!(!search.forget_what_has_gone(), "{}: it is still there", exe.display());
                python.send("");
                ids(&mut python);
                assert!(search.forget_what_has_gone(), "{}", exe.display());
                assert!(search.graph.roots.is_empty(), "{}", exe.display());
                search.run().expect("a heap");
                assert!(search.graph.held(Trust::Certain)[0], "{}: the list", exe.display());
            });
        }
    }
}
