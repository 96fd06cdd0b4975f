use std::cell::Cell;

use super::*;
use crate::heap::testing::FakeMemory;
use crate::target::layout::{self, Entry, Instr, OWNER_BOUNDARY};

const STATE: u64 = 0x10_0000;
const CFRAME: u64 = 0x20_0000;
const FRAMES: u64 = 0x100_0000;
const STEP: u64 = 256;

/// A thread whose frames, innermost first, are in these code objects at this byte offset.
fn thread(layout: &Layout, chain: &[(u64, u64)]) -> FakeMemory {
    let mut memory = FakeMemory::default();
    memory.map(STATE, 0x400);
    memory.map(CFRAME, 64);
    memory.map(FRAMES, (chain.len() + 1) * STEP as usize);
    let holder = match layout.thread.cframe {
        Some(cframe) => {
            memory.put(STATE + cframe, CFRAME);
            CFRAME
        }
        None => STATE,
    };
    let innermost = if chain.is_empty() { 0 } else { FRAMES };
    memory.put(holder + layout.thread.current_frame, innermost);
    for (at, (code, offset)) in chain.iter().enumerate() {
        let frame = FRAMES + at as u64 * STEP;
        let last = at + 1 == chain.len();
        let boundary = layout.frame.entry == Entry::Boundary;
        let previous = if last && !boundary { 0 } else { frame + STEP };
        match layout.frame.entry {
            Entry::Flag(at) if last => memory.write(frame + at, &[1]),
            Entry::Every { state, executing } => memory.write(frame + state, &[executing]),
            _ => {}
        }
        memory.put(frame + layout.frame.code, *code);
        memory.put(frame + layout.frame.previous, previous);
        match layout.frame.instr {
            Instr::Pointer { at, code_start } => memory.put(frame + at, code + code_start + offset),
            Instr::Index { at, bytes } => memory.put_half(frame + at, (offset / bytes) as u32),
        }
    }
    if let (Entry::Boundary, Some(at)) = (layout.frame.entry, layout.frame.owner) {
        memory.write(FRAMES + chain.len() as u64 * STEP + at, &[OWNER_BOUNDARY]);
    }
    memory
}

/// A thread that runs: memory that is another one after some reads. All pieces of one call are read at one
/// moment.
struct Running<'a> {
    moments: &'a [FakeMemory],
    reads: Cell<usize>,
    /// Reads between one moment and the next.
    pace: usize,
}

impl<'a> Running<'a> {
    fn new(moments: &'a [FakeMemory], pace: usize) -> Self {
        Self { moments, reads: Cell::new(0), pace }
    }

    fn now(&self) -> &FakeMemory {
        let reads = self.reads.replace(self.reads.get() + 1);
        &self.moments[reads / self.pace % self.moments.len()]
    }
}

impl Memory for Running<'_> {
    fn read(&self, addr: Addr, out: &mut [u8]) -> Result<(), ReadError> {
        self.now().read(addr, out)
    }

    fn read_scattered(&self, pieces: &mut [(Addr, &mut [u8])]) -> Vec<bool> {
        let now = self.now();
        pieces.iter_mut().map(|(addr, out)| now.read(*addr, out).is_ok()).collect()
    }
}

fn layouts() -> impl Iterator<Item = &'static Layout> {
    layout::all()
}

/// Has every frame a call of the interpreter's loop of its own?
fn calls_of_their_own(layout: &Layout) -> bool {
    matches!(layout.frame.entry, Entry::Every { .. })
}

fn codes(stack: &Stack) -> Vec<u64> {
    stack.frames.iter().map(|frame| frame.code.0).collect()
}

#[test]
fn a_thread_that_waits_is_read_whole() {
    for layout in layouts() {
        for length in [0, 1, 3, 2000] {
            let chain: Vec<_> = (0..length).map(|n| (0x7000_0000 + n * 64, 2 * n)).collect();
            let stack = read(&thread(layout, &chain), layout, Addr(STATE)).unwrap();
            assert_eq!(stack.flaw, None, "{:?}", layout.version);
            let expected =
                chain.iter().map(|(code, at)| Frame { code: Addr(*code), place: Place::At(*at) });
            assert!(stack.frames.iter().copied().eq(expected), "{stack:?}");
        }
    }
}

/// Two stacks between which the thread goes to and fro: whatever is said to be whole is one of them.
#[test]
fn a_thread_that_runs_is_never_read_as_a_mixture() {
    let one: Vec<_> = (0..6).map(|n| (0x7100_0000 + n * 64, 10)).collect();
    let mut other = one.clone();
    for frame in &mut other[..4] {
        *frame = (frame.0 + 0x10_0000, 20);
    }
    for layout in layouts() {
        // To and fro without a beat that readings could fall into.
        let moments = (0..61_u32).map(|n| if n * n % 61 % 2 == 0 { &one } else { &other });
        let moments: Vec<_> = moments.map(|chain| thread(layout, chain)).collect();
        let possible = [&one, &other].map(|chain| chain.iter().map(|f| f.0).collect::<Vec<_>>());
        for pace in 1..60 {
            let running = Running::new(&moments, pace);
            let stack = read(&running, layout, Addr(STATE)).unwrap();
            let found = codes(&stack);
            match stack.flaw {
                None => assert!(possible.contains(&found), "pace {pace}: {found:x?}"),
                // The outer frames are the same in both.
                Some(Flaw::Changed) => assert!(
                    possible.iter().any(|chain| chain.ends_with(&found)),
                    "pace {pace}: {found:x?}"
                ),
                flaw => panic!("{flaw:?}"),
            }
        }
    }
}

#[test]
fn what_stays_of_a_thread_that_never_rests_is_given() {
    let outer = [(0x7200_0000, 4), (0x7200_0040, 6)];
    for layout in layouts() {
        // A caller moves on at every read.
        let moments: Vec<_> = (0..31)
            .map(|n| {
                let chain = [&[(0x7100_0000, 2), (0x7100_0040, 2 * n)][..], &outer].concat();
                thread(layout, &chain)
            })
            .collect();
        let stack = read(&Running::new(&moments, 1), layout, Addr(STATE)).unwrap();
        assert_eq!(stack.flaw, Some(Flaw::Changed));
        assert_eq!(codes(&stack), outer.map(|frame| frame.0));
    }
}

/// As between the two stores by which a call makes its frame the innermost one.
#[test]
fn a_frame_that_is_not_linked_yet_is_not_taken_for_the_outermost() {
    let chain = [(0x7000_0000, 2), (0x7000_0040, 2)];
    for layout in layouts().filter(|layout| !calls_of_their_own(layout)) {
        let whole = thread(layout, &chain);
        let mut torn = whole.clone();
        torn.put(FRAMES + layout.frame.previous, 0);
        let moments = [torn.clone(), whole];
        let stack = read(&Running::new(&moments, 50), layout, Addr(STATE)).unwrap();
        assert_eq!((stack.flaw, stack.frames.len()), (None, 2), "{:?}", layout.version);
        assert!(read(&torn, layout, Addr(STATE)).unwrap().flaw.is_some());
    }
}

/// As between the two stores by which a generator that goes on makes its frame the innermost one, read in step
/// with its yields.
#[test]
fn a_generator_that_yields_is_not_taken_for_the_outermost() {
    let chain = [(0x7000_0000, 2), (0x7000_0040, 2)];
    for layout in layouts() {
        let Entry::Every { state, executing } = layout.frame.entry else { continue };
        let whole = thread(layout, &chain);
        let mut yielded = whole.clone();
        yielded.put(FRAMES + layout.frame.previous, 0);
        yielded.write(FRAMES + state, &[executing.wrapping_sub(1)]);
        let moments = [yielded.clone(), whole];
        let stack = read(&Running::new(&moments, 50), layout, Addr(STATE)).unwrap();
        assert_eq!((stack.flaw, stack.frames.len()), (None, 2), "{:?}", layout.version);
        assert!(read(&yielded, layout, Addr(STATE)).unwrap().flaw.is_some());
    }
}

/// The same with what an earlier frame left in its place, as in 3.11.
#[test]
fn a_frame_that_has_not_begun_is_not_believed_who_called_it() {
    let chain = [(0x7000_0000, 2), (0x7000_0040, 2), (0x7000_0080, 2)];
    for layout in layouts().filter(|layout| !calls_of_their_own(layout)) {
        let whole = thread(layout, &chain);
        let mut torn = whole.clone();
        torn.put(FRAMES + layout.frame.previous, FRAMES + 2 * STEP);
        if let Instr::Pointer { at, code_start } = layout.frame.instr {
            torn.put(FRAMES + at, 0x7000_0000 + code_start - 2);
        }
        let stack = read(&torn, layout, Addr(STATE)).unwrap();
        assert_eq!(stack, Stack::of(layout, &[], Some(Flaw::Changed)));
        let moments = [torn, whole];
        let stack = read(&Running::new(&moments, 50), layout, Addr(STATE)).unwrap();
        assert_eq!((stack.flaw, stack.frames.len()), (None, 3), "{:?}", layout.version);
    }
}

/// As in the first moment of a call from C, whose variable still holds an earlier call's frame.
#[test]
fn a_frame_of_an_earlier_call_is_not_taken_for_the_innermost() {
    for layout in layouts() {
        let Some(previous) = layout.thread.cframe_previous else { continue };
        let mut memory = thread(layout, &[(0x7000_0000, 2)]);
        memory.map(0x30_0000, 64);
        memory.put(CFRAME + previous, 0x30_0000);
        assert_eq!(read(&memory, layout, Addr(STATE)).unwrap().flaw, None);
        memory.put(0x30_0000 + layout.thread.current_frame, FRAMES + 7 * STEP);
        assert!(read(&memory, layout, Addr(STATE)).unwrap().flaw.is_some());
    }
}

#[test]
fn chains_that_lead_nowhere_or_run_in_a_circle_end() {
    for layout in layouts() {
        let mut memory = thread(layout, &[(0x7000_0000, 2), (0x7000_0040, 2)]);
        memory.put(FRAMES + STEP + layout.frame.previous, 0x6666_0000);
        let stack = read(&memory, layout, Addr(STATE)).unwrap();
        assert_eq!((stack.flaw, stack.frames.len()), (Some(Flaw::Unreadable), 0));
        memory.put(FRAMES + STEP + layout.frame.previous, FRAMES);
        let stack = read(&memory, layout, Addr(STATE)).unwrap();
        match layout.frame.entry {
            // The frame that C called is not the outermost.
            Entry::Flag(_) => assert_eq!(stack.flaw, Some(Flaw::Changed)),
            _ => assert_eq!((stack.flaw, stack.frames.len()), (Some(Flaw::Deep), MAX_LINKS)),
        }
    }
}
