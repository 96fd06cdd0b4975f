use proptest::prelude::*;

use super::*;
use crate::heap::testing::{FakeMemory, Python, interpreters};
use crate::target::layout::layout;

const PROGRAM: &str = "
import sys, abc
class Meta(type): pass
class MetaMeta(type): pass
class Deep(type, metaclass=MetaMeta): pass
class A: pass
class B(metaclass=Meta): pass
class C(metaclass=Deep): pass
class S: __slots__ = ('x',)
class I(int): pass
types = [type, object, int, A, B, C, S, I, Meta, Deep, abc.ABCMeta, abc.ABC, list]
other = [A(), B(), 5, 'text', [], {}, sys, len, A.__dict__, None]
print(*map(id, types))
print(*map(id, other))
print(id(type))
sys.stdin.readline()
";

#[test]
fn tells_types_from_other_objects() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, PROGRAM);
        let (yes, no) = (python.numbers(), python.numbers());
        let mut types = Types::new(layout, Addr(python.numbers()[0]));
        let memory = python.memory();
        for addr in yes {
            assert!(types.get(&memory, Addr(addr)).is_some(), "{}: {addr:#x}", exe.display());
        }
        for addr in no.into_iter().chain([0, 8, u64::MAX - 7]) {
            assert!(types.get(&memory, Addr(addr)).is_none(), "{}: {addr:#x}", exe.display());
        }
    }
}

#[test]
fn a_circle_of_metatypes_is_none() {
    let mut memory = FakeMemory::default();
    memory.map(0x10000, 4096);
    for (at, metatype) in [(0x10000, 0x10400), (0x10400, 0x10800), (0x10800, 0x10400)] {
        memory.put(at + 8, metatype);
        memory.put(at + 24, 0x10000);
        memory.put(at + 32, 64);
        memory.put(at + 168, flag::TYPE_SUBCLASS);
    }
    let mut types = Types::new(layout((3, 12)).unwrap(), Addr(0x20000));
    assert_eq!(types.get(&memory, Addr(0x10000)), None);
    memory.put(0x10800 + 8, 0x20000);
    types.begin_look();
    assert!(types.get(&memory, Addr(0x10000)).is_some());
}

proptest! {
    #[test]
    fn garbage_does_not_hurt(junk in prop::collection::vec(any::<u8>(), 512), at in 0_u64..512) {
        let mut memory = FakeMemory::default();
        memory.map(0x10000, 512);
        memory.write(0x10000, &junk);
        let mut types = Types::new(layout((3, 11)).unwrap(), Addr(0x10000));
        types.get(&memory, Addr(0x10000 + at));
    }
}
