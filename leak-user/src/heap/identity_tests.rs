use proptest::prelude::*;

use super::*;
use crate::heap::testing::{FakeMemory, Python, interpreters};
use crate::target::layout::{free_threaded, layout};

/// For each object: id, type, and where its block starts before it, as the type's flags and the GC
/// say. Then what is no object: the bodies of a list of types and of one of small numbers, a small dict's table.
const PROGRAM: &str = "
import sys, gc, ctypes
class Plain: pass
class Slots: __slots__ = ('a',)
class Both(dict): pass
class Num(int): pass
class Float(float): __slots__ = ()
def f(): pass
keep = [Plain(), Slots(), Both(), Num(7), Float(1.5), 10**6, float('2.5'), 'some text', b'bytes', (1, [2]), [3],
        {'a': 1}, {1}, f, Plain, object(), ValueError('x'), range(9), Plain().__init__, slice(1, 2, 3)]
for o in keep:
    flags = type(o).__flags__
    managed = 1 << 4 | (1 << 3 if sys.version_info >= (3, 12) else 0)
    gc_head = bool(flags & 1 << 14)
    print(id(o), id(type(o)), 16 * gc_head + 16 * bool(flags & managed), type(o).__sizeof__(o))
print('end')
print(id(type))
body = lambda l: ctypes.c_uint64.from_address(id(l) + 24).value
types = [type(o) for o in keep]
numbers = list(range(20))
table = {'key': 1, 'other': [2]}
print(body(types), body(numbers), ctypes.c_uint64.from_address(id(table) + 32).value)
sys.stdin.readline()
keep[0].x = 5
keep[10].append(4)
kept = keep[11:]
where = id(keep[6])
keep[8] = None
keep[6] = None
other = [Slots() for _ in range(100)]
print('done')
sys.stdin.readline()
";

#[test]
fn agrees_with_live_interpreters() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, PROGRAM);
        let mut said = Vec::new();
        loop {
            let line = python.line();
            if line == "end" {
                break;
            }
            let words: Vec<u64> = line.split(' ').map(|word| word.parse().unwrap()).collect();
            said.push((words[0], words[1], words[2], words[3]));
        }
        let mut identifier = Identifier::new(layout, Addr(python.numbers()[0]));
        let bodies = python.numbers();
        let mut blocks: Vec<(Addr, Bytes)> = said
            .iter()
            .map(|(id, _, header, size)| (Addr(id - header), Bytes(header + size)))
            .collect();
        blocks.extend(bodies.iter().map(|addr| (Addr(*addr), Bytes(160))));
        let memory = python.memory();
        let seen = identifier.look(&memory, &blocks);
        let again = identifier.look(&memory, &blocks);
        for (i, (_, type_addr, header, _)) in said.iter().enumerate() {
            let seen = seen[i].unwrap();
            let expected = Kind::Object { type_addr: Addr(*type_addr), header: *header };
            assert_eq!(seen.kind, expected, "{}: object {i}", exe.display());
            assert!(!seen.parked);
            assert_eq!(seen.compare(&again[i].unwrap()), Likeness::Same, "object {i}");
        }
        for (body, kind) in seen[said.len()..].iter().zip([Kind::Raw, Kind::Raw, Kind::Table]) {
            assert_eq!(body.unwrap().kind, kind, "{}: {bodies:x?}", exe.display());
        }
        python.send("");
        python.line();
        let later = identifier.look(&memory, &blocks);
        let likeness = |i: usize| seen[i].unwrap().compare(&later[i].unwrap());
        assert_eq!(likeness(10), Likeness::Changed, "{}: the list has grown", exe.display());
        assert_eq!(likeness(6), Likeness::Other, "{}: the float is dead", exe.display());
        for untouched in [1, 7, 9, 12] {
            assert_eq!(likeness(untouched), Likeness::Same, "{}: {untouched}", exe.display());
        }
    }
}

/// Two texts and two byte strings, of one length each; then their hashes are computed.
const TEXTS: &str = "
import sys
keep = ['text %d' % 1, 'text %d' % 2, b'data %d' % 1, b'data %d' % 2]
print(*[id(one) for one in keep])
print(id(type))
sys.stdin.readline()
for one in keep: hash(one)
print('done')
sys.stdin.readline()
";

#[test]
fn texts_of_one_length_are_told_apart() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, TEXTS);
        let blocks: Vec<(Addr, Bytes)> =
            python.numbers().into_iter().map(|id| (Addr(id), Bytes(64))).collect();
        let mut identifier = Identifier::new(layout, Addr(python.numbers()[0]));
        let memory = python.memory();
        let first = identifier.look(&memory, &blocks);
        python.send("");
        python.line();
        let later = identifier.look(&memory, &blocks);
        let compare = |a: usize, b: usize| first[a].unwrap().compare(&later[b].unwrap());
        for (one, other) in [(0, 1), (1, 0), (2, 3), (3, 2)] {
            assert_eq!(compare(one, one), Likeness::Same, "{}: {one}", exe.display());
            assert_eq!(compare(one, other), Likeness::Changed, "{}: {one}", exe.display());
        }
    }
}

#[test]
fn what_is_dead_but_kept_is_parked() {
    let mut memory = FakeMemory::default();
    let (type_type, list) = (0x10000, 0x11000);
    for at in [type_type, list] {
        memory.map(at, 512);
        memory.put(at + 8, type_type);
        memory.put(at + 24, 0x10000);
        memory.put(at + 32, 40);
    }
    let mut identifier = Identifier::new(layout((3, 11)).unwrap(), Addr(type_type));
    let mut bytes = [0; 40];
    bytes[0] = 1;
    bytes[8..16].copy_from_slice(&list.to_le_bytes());
    let alive = identifier.identify(&memory, &bytes);
    assert_eq!(alive.kind, Kind::Object { type_addr: Addr(list), header: 0 });
    bytes[0] = 9;
    let shared = identifier.identify(&memory, &bytes);
    assert_eq!(alive.compare(&shared), Likeness::Same, "the reference count is no content");
    bytes[0] = 0;
    let dead = identifier.identify(&memory, &bytes);
    assert!(dead.parked);
    assert_eq!(alive.compare(&dead), Likeness::Other);
    assert_eq!(dead.compare(&alive), Likeness::Changed);
}

proptest! {
    #[test]
    fn garbage_is_raw(bytes in prop::collection::vec(any::<u8>(), 0..LOOK)) {
        let memory = FakeMemory::default();
        let mut identifier = Identifier::new(layout((3, 13)).unwrap(), Addr(0x10000));
        prop_assert_eq!(identifier.identify(&memory, &bytes).kind, Kind::Raw);
    }
}

/// The counts of an object's owner and of other threads are one count, which says whether anything refers to it.
#[test]
fn without_a_gil_references_are_counted_twice() {
    let object = &free_threaded((3, 13)).unwrap().object;
    let References::Split { local, shared } = object.references else { panic!("{object:?}") };
    let count = |own: u32, others: i64| {
        let mut bytes = [0; 48];
        bytes[local as usize..local as usize + 4].copy_from_slice(&own.to_le_bytes());
        let others = others << 2 | 3;
        bytes[shared as usize..shared as usize + 8].copy_from_slice(&others.to_le_bytes());
        bytes[object.class as usize..object.class as usize + 8]
            .copy_from_slice(&0x7000_u64.to_le_bytes());
        candidate(object, &bytes, 0).map(|(class, count)| (class.0, count))
    };
    assert_eq!(count(3, 2), Some((0x7000, 5)));
    assert_eq!(count(3, -2), Some((0x7000, 1)));
    assert_eq!(count(1, -1), Some((0x7000, 0)));
    assert_eq!(count(0, -1), None, "fewer than none");
    // Immortal.
    assert_eq!(count(u32::MAX, 0), Some((0x7000, u64::from(u32::MAX))));
    assert_eq!(count(0, 1 << 40), None, "more than fit into memory");
}
