use leak_common::frame::pack;

use super::super::code::tests::{PROGRAM, read_said};
use super::*;
use crate::heap::testing::{FakeMemory, LINES_OF, Python, interpreters};
use crate::target::layout::layout;

fn file(frames: &[Frame]) -> Option<Arc<str>> {
    line_of(frames).map(|frame| Arc::clone(&frame.file))
}

#[test]
fn frames_outlive_their_code_objects() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{LINES_OF}{PROGRAM}"));
        let (said, code_type) = read_said(&mut python);
        let memory = python.memory();
        let (mut codes, mut stacks) = (CodeCache::new(layout, code_type), Stacks::default());
        let frames: Vec<u64> = said
            .iter()
            .flat_map(|(addr, _, _, lines)| {
                (0..lines.len()).map(|i| pack(*addr, 2 * i as u64)).collect::<Vec<_>>()
            })
            .take(MAX_FRAMES)
            .collect();
        let expected: Vec<(String, u32)> = said
            .iter()
            .flat_map(|(_, name, _, lines)| lines.iter().map(|line| (name.clone(), *line)))
            .take(MAX_FRAMES)
            .collect();
        stacks.insert(7, &frames, &mut codes, &memory);
        let found: Vec<(String, u32)> = stacks
            .get(7)
            .unwrap()
            .site
            .iter()
            .filter_map(Frame::python)
            .map(|frame| (frame.function.to_string(), frame.line))
            .collect();
        assert_eq!(found, expected, "{}", exe.display());
        let before = Arc::clone(&stacks.get(7).unwrap().site);
        python.send("");
        python.line();
        codes.refer(stacks.codes(7));
        stacks.new_generation(&codes.revalidate(&memory));
        stacks.insert(7, &[], &mut codes, &memory);
        assert_eq!(stacks.get(7).unwrap().site, before);
        // The same frame, arriving now, is of another function or of none.
        stacks.insert(8, &frames[..1], &mut codes, &memory);
        assert_ne!(file(&stacks.get(8).unwrap().site), file(&before), "{}", exe.display());
    }
}

/// Whether its frames were the code object's or its successor's can't be told.
#[test]
fn stacks_of_code_that_was_replaced_since_the_look_before_are_forgotten() {
    for (exe, layout) in interpreters() {
        let mut python = Python::run(&exe, &format!("{LINES_OF}{PROGRAM}"));
        let (said, code_type) = read_said(&mut python);
        let memory = python.memory();
        let (mut codes, mut stacks) = (CodeCache::new(layout, code_type), Stacks::default());
        let native = NativeStack { calls: vec![Addr(1)], whole: true };
        stacks.insert(6, &[pack(0x5000, 2)], &mut codes, &memory);
        stacks.insert(7, &[pack(said[0].0, 0)], &mut codes, &memory);
        stacks.insert_native(8, 7, &native, &Owners::default(), false, "worker");
        stacks.insert_native(9, 6, &native, &Owners::default(), false, "worker");
        codes.refer(stacks.codes(7));
        assert!(codes.revalidate(&memory).all.is_empty());
        python.send("");
        python.line();
        codes.refer(stacks.codes(8));
        stacks.new_generation(&codes.revalidate(&memory));
        let known: Vec<u64> = (6..=9).filter(|id| stacks.get(*id).is_some()).collect();
        assert_eq!(known, [6, 9], "{}", exe.display());
    }
}

#[test]
fn what_cannot_be_resolved_or_held_is_counted() {
    let memory = FakeMemory::default();
    let mut codes = CodeCache::new(layout((3, 12)).unwrap(), Addr(0x1000));
    let room = STACK_BYTES + 8 * MAX_FRAMES;
    let mut stacks = Stacks::with_room(room + STACK_BYTES);
    stacks.insert(1, &[pack(0x5000, 2); 500], &mut codes, &memory);
    let long = stacks.get(1).unwrap();
    assert_eq!(long.site.len(), MAX_FRAMES);
    assert_eq!(file(&long.site), Some("?".into()));
    assert_eq!(stacks.unresolved(), MAX_FRAMES as u64);
    stacks.insert(2, &[pack(0x5000, 2)], &mut codes, &memory);
    assert!(stacks.get(2).is_none());
    assert_eq!((stacks.refused(), stacks.len()), (1, 1));
}

/// Room for five stacks of this many frames.
const FRAMES: usize = 60;
const ROOM: usize = 5 * (STACK_BYTES + 8 * FRAMES);

#[test]
fn generations_without_end_do_not_fill_the_room() {
    let memory = FakeMemory::default();
    let mut codes = CodeCache::new(layout((3, 12)).unwrap(), Addr(0x1000));
    let mut stacks = Stacks::with_room(ROOM);
    for generation in 0..100 {
        for stack in 0..2 {
            stacks.insert(2 * generation + stack, &[pack(0x5000, 2); FRAMES], &mut codes, &memory);
        }
        stacks.new_generation(&Replaced::default());
        assert!(stacks.get(2 * generation).is_some(), "still referred to until the next burst");
        if generation % 2 == 0 {
            stacks.forget_earlier();
            assert!(stacks.get(2 * generation).is_none());
        }
    }
    assert_eq!(stacks.refused(), 0);
    assert!(stacks.get(196).is_none());
}

#[test]
fn a_crowd_is_noticed_while_there_is_room() {
    let memory = FakeMemory::default();
    let mut codes = CodeCache::new(layout((3, 12)).unwrap(), Addr(0x1000));
    let mut stacks = Stacks::with_room(ROOM);
    for (id, crowded) in [(1, false), (2, false), (3, true)] {
        stacks.insert(id, &[pack(0x5000, 2); FRAMES], &mut codes, &memory);
        assert_eq!(stacks.is_crowded(), crowded);
    }
    stacks.new_generation(&Replaced::default());
    stacks.insert(4, &[pack(0x5000, 2); FRAMES], &mut codes, &memory);
    assert_eq!(stacks.refused(), 0);
    stacks.forget_earlier();
    assert!(!stacks.is_crowded());
}

fn on(files: &[&str]) -> Vec<Frame> {
    let frame = |file: &&str| {
        let (function, file) = (Arc::from("f"), Arc::from(*file));
        Frame::Python(Arc::new(PyFrame { function, file, line: 1 }))
    };
    files.iter().map(frame).collect()
}

fn own(frames: &[Frame]) -> Option<&str> {
    own_line(frames).map(|frame| &*frame.file)
}

#[test]
fn the_users_own_line_is_outside_of_libraries() {
    let (json, package) =
        ("/usr/lib/python3.11/json/decoder.py", "/srv/lib/python3.11/site-packages/shop/cart.py");
    assert_eq!(own(&on(&[json, package, "/srv/app.py", "/srv/main.py"])), Some("/srv/app.py"));
    assert_eq!(own(&on(&[json, package, json])), Some(package), "an installed application");
    assert_eq!(own(&on(&[json, "<frozen runpy>"])), None);
}
