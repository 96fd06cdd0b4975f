use std::collections::HashMap as StdMap;

use super::*;
use crate::heap::collector::Collector;
use crate::heap::names::TypeNames;
use crate::heap::testing::{PRINT_RUNTIME, Python, interpreters, pymalloc};

/// Makes objects of many kinds, small and large, and says what the collector tracks, type by type, and how many there
/// are of types that it doesn't.
const PROGRAM: &str = "
import gc, sys, collections, threading
class Plain: pass
class Slots: __slots__ = ('a', 'b')
class Meta(type): pass
class Large: __slots__ = ['s%d' % n for n in range(100)]
class Text(str): pass
class Table(dict): pass
keep = [[Plain() for _ in range(5000)], [Slots() for _ in range(3000)], [Large() for _ in range(700)],
        [Meta('M%d' % n, (), {}) for n in range(40)], [Text('t%d' % n) for n in range(2000)],
        [tuple([n, []] * 100) for n in range(300)], [{n: []} for n in range(1000)], [{n, n + 1} for n in range(500)],
        [n / 7 for n in range(4000)], [collections.deque([n]) for n in range(100)], [lambda: 0 for n in range(200)],
        [Table({k: [] for k in range(n)}) for n in range(300)], [Table({'k%d' % k: [] for k in range(n)}) for n in range(70)],
        [set(range(n)) for n in range(90)], [collections.deque(range(n)) for n in range(300)],
        [bytearray(n) for n in range(5000)],
        {n: b'd' * (2000 + n) for n in range(500)}, collections.deque(b'q' * (1000 + n) for n in range(600)),
        [b'l' * (3000 + n) for n in range(300)], tuple(b't' * (4000 + n) for n in range(200))]
for one in keep[0]: one.other = keep[1]
gc.collect()
# 3.12 freezes the immortal objects that a collection meets, and doesn't show them.
gc.unfreeze()
gc.disable()
found = gc.get_objects()
counts = {}
for one in found:
    kind = type(one)
    counts[id(kind)] = counts.get(id(kind), 0) + 1
owners = (list, set, collections.deque, Table)
owned = [sum(one.__sizeof__() - kind.__basicsize__ for one in found if type(one) is kind) for kind in owners]
del found, one, kind
print(id(type), len(counts))
for kind in list(counts): print(kind, counts[kind])
print(id(Text), id(float))
print(*map(id, owners), id(bytearray))
print(*owned, sum(one.__sizeof__() - bytearray.__basicsize__ for one in keep[-5]))
print(id(bytes))
sys.stdin.readline()
";

#[test]
fn what_the_collector_tracks_is_what_it_says_itself() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{PRINT_RUNTIME}{PROGRAM}"));
        let runtime = Addr(python.numbers()[0]);
        let [type_type, kinds] = python.numbers()[..] else { panic!("two numbers") };
        let said: StdMap<Addr, u64> = (0..kinds)
            .map(|_| {
                let line = python.numbers();
                (Addr(line[0]), line[1])
            })
            .collect();
        let [text, float] = python.numbers()[..] else { panic!("two numbers") };
        let (owners, owned) = (python.numbers(), python.numbers());
        let bytes = python.numbers()[0];
        let Some(state) = pymalloc(&python, layout, runtime.0) else { continue };
        let memory = python.memory();
        let main = memory.pointer(runtime.offset(layout.runtime.interpreters_head)).unwrap();
        let lists = Collector::read(&memory, layout, runtime, main).unwrap().lists;
        let mapped = Mapped::of(vec![(0, 1 << 47)]);
        let objects = count(
            &memory,
            Heap {
                layout,
                type_type: Addr(type_type),
                pools: &[state],
                lists: &lists,
                mapped: &mapped,
            },
        )
        .unwrap();
        let mut names = TypeNames::new(layout, Addr(type_type));
        let case = exe.display();
        for (kind, said) in &said {
            let found = objects.types.get(kind).copied().unwrap_or_default();
            let name = names.name(&memory, *kind).unwrap_or_default();
            // The program's own table, its lists and its frame come and go while it counts.
            let own = ["builtins.dict", "builtins.list", "builtins.frame", "builtins.tuple"];
            let slack = if own.contains(&&*name) { 3 } else { 0 };
            assert!(
                found.tracked.abs_diff(*said) <= slack,
                "{case}: {name}: {} of {said}",
                found.tracked
            );
            assert!(found.count >= found.tracked);
        }
        let is_untold =
            |(kind, tally): &(&Addr, &Tally)| tally.tracked > 0 && !said.contains_key(kind);
        let untold: Vec<_> = objects.types.iter().filter(is_untold).collect();
        let more: u64 = untold.iter().map(|(_, tally)| tally.tracked).sum();
        assert!(more <= 3, "{case}: {untold:?}");
        assert_eq!(objects.types[&Addr(text)].count, 2000, "{case}");
        let floats = objects.types[&Addr(float)].count;
        assert!((4000..4300).contains(&floats), "{case}: {floats} floats");
        // 500, 600, 300 and 200 of more than 1,000 bytes, which nothing tracks.
        let large = 500 * 2250 + 600 * 1300 + 300 * 3150 + 200 * 4100;
        let found = objects.types[&Addr(bytes)];
        assert!(found.count >= 1600 && found.bytes.0 >= large, "{case}: {found:?}");
        for (kind, said) in owners.into_iter().zip(owned) {
            let found = objects.types[&Addr(kind)].owned.0;
            // Its own lists, and the interpreter's few bytearrays.
            assert!(found.abs_diff(said) <= 4096, "{case}: {kind:x} own {found}, not {said}");
        }
        assert_eq!((objects.walked, objects.lost_links), (Walked::default(), 0), "{case}");
        // Nothing is counted twice, or not at all.
        let census = crate::heap::pymalloc::census(&memory, &state).unwrap();
        let all: u64 = objects.types.values().map(|tally| tally.count).sum();
        let all = all + objects.recycled.count + objects.raw.count + objects.owned.count;
        assert!(all >= census.live_blocks(), "{case}: {all} of {}", census.live_blocks());
    }
}

/// A link that leads to itself, one to nowhere, one to something that is no object: all end.
#[test]
fn links_of_a_liar_end() {
    use crate::heap::pymalloc::tests::fake;
    use crate::target::layout::layout;
    let (mut memory, state) = fake();
    let (list, first) = (0x7f20_0000_0000_u64, 0x7f21_0000_0000_u64);
    memory.map(list, 64);
    memory.map(first, 4096);
    memory.put(list, first);
    memory.put(list + 8, 0x7f22_0000_0000);
    memory.put(first, first + 48);
    memory.put(first + 8, first);
    memory.put(first + 48, first);
    let layout = layout((3, 11)).unwrap();
    let mapped = Mapped::of(vec![(0, 1 << 47)]);
    let objects = count(
        &memory,
        Heap {
            layout,
            type_type: Addr(0x7f23_0000_0000),
            pools: &[state],
            lists: &[Addr(list)],
            mapped: &mapped,
        },
    )
    .unwrap();
    assert_eq!(objects.types.len(), 0);
    assert_eq!(objects.lost_links, 2);
    assert_eq!(objects.raw.count, 1023);
}
