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
        stacks.new_generation(&codes.revalidate(&memory));
        stacks.insert(7, &[], &mut codes, &memory);
        assert_eq!(stacks.get(7).unwrap().site, before);
        // The same frame, arriving now, is of another function or of none.
        stacks.insert(8, &frames[..1], &mut codes, &memory);
        assert_ne!(file(&stacks.get(8).unwrap().site), file(&before), "{}", exe.display());
    }
}

#[test]
fn what_cannot_be_resolved_or_held_is_counted() {
    let memory = FakeMemory::default();
    let mut codes = CodeCache::new(layout((3, 12)).unwrap(), Addr(0x1000));
    let mut stacks = Stacks::with_room(200);
    stacks.insert(1, &[pack(0x5000, 2); 500], &mut codes, &memory);
    let long = stacks.get(1).unwrap();
    assert_eq!(long.site.len(), MAX_FRAMES);
    assert_eq!(file(&long.site), Some("?".into()));
    assert_eq!(stacks.unresolved(), MAX_FRAMES as u64);
    stacks.insert(2, &[pack(0x5000, 2); 100], &mut codes, &memory);
    assert!(stacks.get(2).is_none());
    assert_eq!((stacks.refused(), stacks.len()), (1, 1));
}

#[test]
fn generations_without_end_do_not_fill_the_room() {
    let memory = FakeMemory::default();
    let mut codes = CodeCache::new(layout((3, 12)).unwrap(), Addr(0x1000));
    let mut stacks = Stacks::with_room(200);
    for generation in 0..100 {
        stacks.insert(generation, &[pack(0x5000, 2); 60], &mut codes, &memory);
        stacks.new_generation(&[]);
        assert!(stacks.get(generation).is_some(), "still referred to until the next burst");
    }
    assert_eq!(stacks.refused(), 0);
    assert!(stacks.get(98).is_none());
}
