//! What was found: objects, and which refers to which.

use foldhash::{HashMap, HashMapExt as _};

use super::roots::Root;
use crate::heap::references::By;
use crate::units::Addr;

/// Objects and blocks that are remembered.
const MAX_NODES: usize = 1 << 20;

/// References that are.
const MAX_EDGES: usize = 1 << 22;

/// What a frame calls its namespace, where that is a dict.
const NAMESPACE: &str = "f_locals";

/// That an object refers to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Edge {
    /// The one that refers.
    pub holder: u32,
    /// How.
    pub by: By,
    /// The one that is referred to.
    pub held: u32,
}

/// Which references and roots count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trust {
    /// Those that are certain.
    Certain,
    /// Also words of objects that may be none.
    Words,
    /// Also words of compiled code's memory.
    All,
}

impl Trust {
    /// Does a reference count?
    pub(super) fn has(self, by: By) -> bool {
        self >= Self::Words || !by.is_maybe()
    }

    /// Does a root?
    pub(super) fn has_root(self, root: &Root) -> bool {
        match root {
            Root::Itself => true,
            // The namespace of a module or a class that is being run is held by the module, too.
            Root::Function { by: By::Field(NAMESPACE), .. } => self == Self::All,
            Root::Function { by, .. } => self.has(*by),
            Root::Region { .. } => self == Self::All,
        }
    }
}

/// Objects and blocks by number.
#[derive(Debug, Default)]
pub(super) struct Graph {
    numbers: HashMap<Addr, u32>,
    pub addrs: Vec<Addr>,
    /// Each once.
    pub edges: Vec<Edge>,
    /// What objects hang from directly: objects that live for themselves hang from [`Root::Itself`].
    pub roots: Vec<(Root, u32)>,
    /// Of those that lead to samples which hang from nothing: objects that count more references than were found.
    pub unexplained: Vec<u32>,
    /// What there was no room for.
    pub over: u64,
}

impl Graph {
    /// The object at an address, if it was found.
    pub(super) fn node(&self, addr: Addr) -> Option<u32> {
        self.numbers.get(&addr).copied()
    }

    /// The address of one.
    pub(super) fn addr(&self, node: u32) -> Addr {
        self.addrs.get(node as usize).copied().unwrap_or(Addr(0))
    }

    /// Takes note of one; true if it is new. None where there is no room.
    pub(super) fn note(&mut self, addr: Addr) -> Option<(u32, bool)> {
        if let Some(known) = self.node(addr) {
            return Some((known, false));
        }
        let number = u32::try_from(self.addrs.len()).ok().filter(|_| self.addrs.len() < MAX_NODES);
        let Some(number) = number else {
            self.over += 1;
            return None;
        };
        self.numbers.insert(addr, number);
        self.addrs.push(addr);
        Some((number, true))
    }

    /// Takes note of a reference.
    pub(super) fn refer(&mut self, edge: Edge) {
        if self.edges.len() < MAX_EDGES {
            self.edges.push(edge);
        } else {
            self.over += 1;
        }
    }

    /// Which objects hang from a root.
    pub(super) fn held(&self, trust: Trust) -> Vec<bool> {
        let edges = self.edges.iter().filter(|edge| trust.has(edge.by));
        let roots = self.roots.iter().filter(|(root, _)| trust.has_root(root));
        self.reached(edges.map(|edge| (edge.holder, edge.held)), roots.map(|(_, node)| *node))
    }

    /// What hangs from something that isn't known, directly or not.
    pub(super) fn held_by_unknown(&self) -> Vec<bool> {
        let edges = self.edges.iter().map(|edge| (edge.holder, edge.held));
        self.reached(edges, self.unexplained.iter().copied())
    }

    /// What leads to some objects, directly or not, with themselves.
    pub(super) fn leading_to(&self, nodes: impl Iterator<Item = u32>) -> Vec<bool> {
        self.reached(self.edges.iter().map(|edge| (edge.held, edge.holder)), nodes)
    }

    /// What is reached from some objects along edges, from, to.
    fn reached(
        &self,
        edges: impl Iterator<Item = (u32, u32)>,
        from: impl Iterator<Item = u32>,
    ) -> Vec<bool> {
        let mut next: HashMap<u32, Vec<u32>> = HashMap::new();
        for (from, to) in edges {
            next.entry(from).or_default().push(to);
        }
        let mut reached = vec![false; self.addrs.len()];
        let mut due: Vec<u32> = from.collect();
        while let Some(node) = due.pop() {
            let Some(known) = reached.get_mut(node as usize) else { continue };
            if !std::mem::replace(known, true) {
                due.extend(next.get(&node).into_iter().flatten());
            }
        }
        reached
    }
}
