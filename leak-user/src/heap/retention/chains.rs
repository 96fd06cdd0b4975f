//! The shortest chains from what lives for itself to the samples, and cycles among what nothing holds.

use std::collections::VecDeque;
use std::collections::hash_map::Entry;

use foldhash::{HashMap, HashMapExt as _, HashSet};

use super::graph::{Edge, Graph, Trust};
use super::roots::Root;
use crate::units::Addr;

/// References that the searches for cycles follow.
const MAX_STEPS: usize = 1 << 22;

/// From a root to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// What it begins with.
    pub root: Option<Root>,
    /// From the first object on.
    pub links: Vec<Edge>,
    /// The object at its end.
    pub end: u32,
}

impl Chain {
    /// May one of its references be none?
    pub(super) fn is_maybe(&self) -> bool {
        self.root.is_some_and(|root| root.is_maybe())
            || self.links.iter().any(|edge| edge.by.is_maybe())
    }
}

/// The shortest chain to each of some objects that hangs from something: of certain references where there is one.
pub(super) fn chains(graph: &Graph, objects: &[Addr]) -> HashMap<u32, Chain> {
    let mut found = HashMap::new();
    let mut left: Vec<u32> = objects.iter().filter_map(|addr| graph.node(*addr)).collect();
    for trust in [Trust::Certain, Trust::Words, Trust::All] {
        found.extend(shortest(graph, trust, &left));
        left.retain(|node| !found.contains_key(node));
    }
    found
}

fn shortest(graph: &Graph, trust: Trust, objects: &[u32]) -> HashMap<u32, Chain> {
    if objects.is_empty() {
        return HashMap::new();
    }
    let mut by_holder: HashMap<u32, Vec<Edge>> = HashMap::new();
    for edge in graph.edges.iter().filter(|edge| trust.has(edge.by)) {
        by_holder.entry(edge.holder).or_default().push(*edge);
    }
    // Where each was reached from: a root, or another.
    let mut reached: HashMap<u32, Result<Root, Edge>> = HashMap::new();
    let mut due = VecDeque::new();
    let mut roots: Vec<&(Root, u32)> =
        graph.roots.iter().filter(|(root, _)| trust.has_root(root)).collect();
    roots.sort_by_key(|(root, node)| (rank(root), graph.addr(*node)));
    for (root, node) in roots {
        if let Entry::Vacant(new) = reached.entry(*node) {
            new.insert(Ok(*root));
            due.push_back(*node);
        }
    }
    while let Some(node) = due.pop_front() {
        for edge in by_holder.get(&node).into_iter().flatten() {
            if let Entry::Vacant(new) = reached.entry(edge.held) {
                new.insert(Err(*edge));
                due.push_back(edge.held);
            }
        }
    }
    let chain = |end: u32| {
        let (mut node, mut links) = (end, Vec::new());
        loop {
            match reached.get(&node)? {
                Ok(root) => {
                    links.reverse();
                    return Some((end, Chain { root: Some(*root), links, end }));
                }
                Err(edge) => {
                    links.push(*edge);
                    node = edge.holder;
                }
            }
        }
    };
    objects.iter().filter_map(|node| chain(*node)).collect()
}

/// Which roots go before which.
fn rank(root: &Root) -> u8 {
    match root {
        Root::Itself => 0,
        Root::Function { .. } => 1,
        Root::Region { .. } => 2,
    }
}

/// Searches for cycles.
pub(super) struct Cycles<'g> {
    graph: &'g Graph,
    by_held: HashMap<u32, Vec<Edge>>,
    /// Steps that may still be taken.
    left: usize,
}

impl<'g> Cycles<'g> {
    pub(super) fn new(graph: &'g Graph) -> Self {
        let mut by_held: HashMap<u32, Vec<Edge>> = HashMap::new();
        for edge in &graph.edges {
            by_held.entry(edge.held).or_default().push(*edge);
        }
        Self { graph, by_held, left: MAX_STEPS }
    }

    /// A cycle that an object is part of, or that leads to it: of those the shortest.
    pub(super) fn of(&mut self, sample: Addr) -> Option<Chain> {
        // From the object backwards, until one is found that it leads to itself.
        let mut due = VecDeque::from([self.graph.node(sample)?]);
        let mut seen: HashSet<u32> = HashSet::default();
        while let Some(node) = due.pop_front() {
            if !seen.insert(node) {
                continue;
            }
            if let Some(links) = self.around(node)? {
                return Some(Chain { root: None, links, end: node });
            }
            due.extend(self.by_held.get(&node).into_iter().flatten().map(|edge| edge.holder));
        }
        None
    }

    /// The shortest way from an object back to itself, if there is one; None where there are no steps left.
    fn around(&mut self, node: u32) -> Option<Option<Vec<Edge>>> {
        let mut reached: HashMap<u32, Edge> = HashMap::new();
        let mut due = VecDeque::from([node]);
        while let Some(at) = due.pop_front() {
            for edge in self.by_held.get(&at).into_iter().flatten() {
                self.left = self.left.checked_sub(1)?;
                if edge.holder == node {
                    let mut links = vec![*edge];
                    let mut next = edge.held;
                    while next != node {
                        let edge = reached.get(&next)?;
                        links.push(*edge);
                        next = edge.held;
                    }
                    return Some(Some(links));
                }
                if let Entry::Vacant(new) = reached.entry(edge.holder) {
                    new.insert(*edge);
                    due.push_back(edge.holder);
                }
            }
        }
        Some(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heap::references::By;

    /// Objects 0.. at addresses of their own, which refer to each other.
    fn graph(edges: &[(u32, u32, By)], roots: &[(Root, u32)]) -> Graph {
        let mut graph = Graph::default();
        for n in 0..10 {
            graph.note(Addr(0x1000 + n)).unwrap();
        }
        for (holder, held, by) in edges {
            graph.refer(Edge { holder: *holder, by: *by, held: *held });
        }
        graph.roots = roots.to_vec();
        graph
    }

    const ITEM: By = By::Index(0);
    const MAYBE: By = By::Word(16);
    const REGION: Root = Root::Region { region: 0, at: 0 };

    fn nodes(chain: &Chain) -> Vec<u32> {
        chain.links.iter().map(|link| link.holder).chain([chain.end]).collect()
    }

    #[test]
    fn the_shortest_certain_chain_is_taken() {
        let edges = [(1, 2, ITEM), (2, 3, ITEM), (3, 0, ITEM), (4, 0, MAYBE), (5, 3, ITEM)];
        let roots = [(Root::Itself, 1), (Root::Itself, 4), (REGION, 0), (Root::Itself, 5)];
        let graph = graph(&edges, &roots);
        let chains = chains(&graph, &[Addr(0x1000), Addr(0x1009)]);
        assert_eq!(nodes(&chains[&0]), [5, 3, 0]);
        assert!(!chains[&0].is_maybe());
        assert!(!chains.contains_key(&9));
    }

    #[test]
    fn words_go_before_compiled_code_and_both_are_maybes() {
        let graph = graph(&[(1, 0, MAYBE)], &[(Root::Itself, 1), (REGION, 0), (REGION, 7)]);
        let chains = chains(&graph, &[Addr(0x1000), Addr(0x1007)]);
        assert_eq!((nodes(&chains[&0]), chains[&0].is_maybe()), (vec![1, 0], true));
        assert_eq!((chains[&7].root, chains[&7].is_maybe()), (Some(REGION), true));
        let held = |trust| graph.held(trust).iter().filter(|held| **held).count();
        assert_eq!([Trust::Certain, Trust::Words, Trust::All].map(held), [1, 2, 3]);
    }

    #[test]
    fn cycles_are_found_from_what_hangs_from_them() {
        let graph =
            graph(&[(1, 0, ITEM), (2, 1, ITEM), (3, 2, ITEM), (1, 3, ITEM), (5, 5, ITEM)], &[]);
        let mut cycles = Cycles::new(&graph);
        let mut of = |n: u64| cycles.of(Addr(0x1000 + n)).map(|chain| nodes(&chain));
        assert_eq!(of(0), Some(vec![1, 3, 2, 1]));
        assert_eq!(of(2), Some(vec![2, 1, 3, 2]));
        assert_eq!(of(5), Some(vec![5, 5]));
        assert_eq!((of(7), of(100)), (None, None));
        let leads = graph.leading_to([0].into_iter());
        assert_eq!(leads[..6], [true, true, true, true, false, false]);
    }
}
