use proptest::prelude::*;

use super::super::census::tests::{ARENA, ARRAY, POOL, fake};
use super::*;
use crate::heap::testing::{Changing, PRINT_RUNTIME, Python, interpreters, pymalloc};

fn states(memory: &impl Memory, state: Pymalloc, blocks: &[u64]) -> Vec<BlockState> {
    let blocks: Vec<Addr> = blocks.iter().copied().map(Addr).collect();
    Blocks::new(state).live(memory, &blocks).unwrap()
}

#[test]
fn tells_live_from_free() {
    use BlockState::{Free, Live, NotPymalloc};
    let (memory, state) = fake();
    let first = POOL + 48;
    let asked = [first, first + 64, first + 128, first + 192, first + 256, first + 8, POOL];
    assert_eq!(states(&memory, state, &asked), [Live, Free, Live, Free, Free, Free, Free]);
    let asked = [POOL + 16384 + 48, POOL + 3 * 16384 + 48, ARENA, ARENA - 1, 0, u64::MAX];
    assert_eq!(
        states(&memory, state, &asked),
        [Free, Free, Free, NotPymalloc, NotPymalloc, NotPymalloc]
    );
}

#[test]
fn arenas_are_found() {
    let (memory, state) = fake();
    let mut blocks = Blocks::new(state);
    assert!(!blocks.contains(Addr(ARENA)));
    blocks.refresh(&memory).unwrap();
    assert!(blocks.contains(Addr(ARENA)) && blocks.contains(Addr(ARENA + (1 << 20) - 1)));
    assert!(!blocks.contains(Addr(ARENA + (1 << 20))) && !blocks.contains(Addr(ARENA - 1)));
}

#[test]
fn a_list_in_a_circle_ends() {
    let (mut memory, state) = fake();
    memory.put(POOL + 48 + 3 * 64, POOL + 48 + 64);
    assert_eq!(states(&memory, state, &[POOL + 48]), [BlockState::Torn]);
    memory.put(POOL + 48 + 3 * 64, POOL + 48 + 65);
    assert_eq!(states(&memory, state, &[POOL + 48]), [BlockState::Torn]);
    memory.put(POOL + 48 + 3 * 64, u64::MAX);
    assert_eq!(states(&memory, state, &[POOL + 48]), [BlockState::Torn]);
}

#[test]
fn a_torn_pool_is_read_again() {
    let (steady, state) = fake();
    let mut torn = steady.clone();
    torn.put_half(POOL, 4);
    let memory = |left| Changing::new(&torn, &steady, POOL, left);
    let asked = [POOL + 48, POOL + 2 * 16384 + 48];
    assert_eq!(states(&memory(3), state, &asked), [BlockState::Live; 2]);
    assert_eq!(states(&memory(u32::MAX), state, &asked), [BlockState::Torn, BlockState::Live]);
}

/// The target was taken off its processor when it had counted a block that was still in the pool's list.
#[test]
fn a_pool_in_the_midst_of_a_change_is_read() {
    use BlockState::{Free, Live};
    let (mut memory, state) = fake();
    let asked = [POOL + 48, POOL + 48 + 64, POOL + 48 + 128];
    assert_eq!(states(&memory, state, &asked), [Live, Free, Live]);
    memory.put_half(POOL, 3);
    assert_eq!(states(&memory, state, &asked), [Live, Free, Live]);
    let mut blocks = Blocks::new(state);
    blocks.refresh(&memory).unwrap();
    let mut seen = Vec::new();
    let walked =
        blocks.each_arena(&memory, |live| seen.extend(live.iter().map(|(addr, _)| addr.0)));
    assert_eq!(walked, Walked::default());
    assert!(seen.contains(&asked[0]) && !seen.contains(&asked[1]), "{seen:x?}");
    memory.put_half(POOL, 4);
    assert_eq!(states(&memory, state, &asked), [BlockState::Torn; 3]);
}

proptest! {
    /// Whatever bytes an arena's array and pools hold, an answer comes.
    #[test]
    fn garbage_does_not_hurt(
        junk in proptest::collection::vec(any::<u8>(), 64),
        at in 0_u64..300,
        entry in proptest::collection::vec(any::<u8>(), 48),
    ) {
        let (mut memory, state) = fake();
        memory.write(POOL + at, &junk);
        memory.write(ARRAY + 96, &entry);
        let states = states(&memory, state, &[POOL + 48, POOL + 112, ARENA]);
        prop_assert_eq!(states.len(), 3);
    }
}

/// Makes blocks, drops every other one, and says which is which.
const PROGRAM: &str = "
import sys
class Slot:
    __slots__ = ('a',)
keep = [Slot() for _ in range(3000)]
where = [id(o) for o in keep]
for i in range(0, 3000, 2):
    keep[i] = None
print(*where[0::2])
print(*where[1::2])
sys.stdin.readline()
";

#[test]
fn agrees_with_live_interpreters() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{PRINT_RUNTIME}{PROGRAM}"));
        let runtime = python.numbers()[0];
        let dropped = python.numbers();
        let kept = python.numbers();
        let Some(state) = pymalloc(&python, layout, runtime) else { continue };
        let memory = python.memory();
        let block = |ids: &[u64]| ids.iter().map(|id| id - 16).collect::<Vec<_>>();
        let kept = states(&memory, state, &block(&kept));
        assert!(kept.iter().all(|state| *state == BlockState::Live), "{}", exe.display());
        // Printing made new objects, some of which took over freed blocks.
        let dropped = states(&memory, state, &block(&dropped));
        let free = dropped.iter().filter(|state| **state == BlockState::Free).count();
        assert!(free > 1300, "{}: {free}", exe.display());
        assert!(!dropped.contains(&BlockState::Torn), "{}", exe.display());
    }
}

/// Allocates and frees without end while it is looked at.
const BUSY: &str = "
import itertools
made = [object() for _ in range(40000)]
keep = made[::2]
del made
print(*map(id, keep))
for i in itertools.count():
    [object() for _ in range(1000)]
";

#[test]
fn a_busy_target_is_told_right() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{PRINT_RUNTIME}{BUSY}"));
        let runtime = python.numbers()[0];
        let kept: Vec<Addr> = python.numbers().into_iter().map(Addr).collect();
        let Some(state) = pymalloc(&python, layout, runtime) else { continue };
        let memory = python.memory();
        let mut blocks = Blocks::new(state);
        let mut torn = 0;
        for _ in 0..20 {
            let states = blocks.live(&memory, &kept).unwrap();
            torn += states.iter().filter(|state| **state == BlockState::Torn).count();
            let dead = states.iter().filter(|s| **s == BlockState::Free).count();
            assert_eq!(dead, 0, "{}: kept blocks are never said to be free", exe.display());
        }
        println!("{}: {torn} of {} torn", exe.display(), 20 * kept.len());
        assert!(torn * 20 < 20 * kept.len(), "{}: {torn} torn", exe.display());
    }
}
