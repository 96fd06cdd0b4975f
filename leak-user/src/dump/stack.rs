//! One thread's chain of frames, read while the thread may be running.
//!
//! The chain is first followed link by link to learn where its frames are, then all of them are read by a
//! single system call, three times. What is the same each time, and hangs together, was there at that moment.

use std::time::Duration;

use crate::target::frames::{self, Frame, Link, Place};
use crate::target::layout::{Entry, Layout};
use crate::target::memory::{Memory, ReadError};
use crate::units::Addr;

/// Links of one chain followed: frames and boundaries between C and Python.
pub(super) const MAX_LINKS: usize = 1 << 15;

/// A chain that changes is read anew so often, after the first few times with a pause, in which a thread that
/// was suspended in the midst of a call may go on …
const TRIES: usize = 150;
/// See [`TRIES`].
const WITHOUT_PAUSE: usize = 75;
/// See [`TRIES`].
const PAUSE: Duration = Duration::from_micros(500);
/// … unless so many links were read by then.
const MAX_EFFORT: usize = 1 << 18;

/// What was read of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// For each: C code lies between it and the frame that it called.
    pub calls_c: Vec<bool>,
    /// Why they aren't all of them.
    pub flaw: Option<Flaw>,
}

/// Why frames are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flaw {
    /// The innermost: the thread ran on, time and again. What is there stayed.
    Changed,
    /// The outermost: there are more than [`MAX_LINKS`].
    Deep,
    /// All: the chain leads to where there is no memory.
    Unreadable,
    /// The outermost: there is no room to hold them.
    NoRoom,
}

impl Stack {
    fn of(layout: &Layout, links: &[(Addr, Link)], flaw: Option<Flaw>) -> Self {
        let every = matches!(layout.frame.entry, Entry::Every { .. });
        let (mut frames, mut calls_c) = (Vec::new(), Vec::new());
        let mut called_by_c = false;
        for (_, link) in links {
            if let Some(frame) = link.frame {
                frames.push(frame);
                calls_c.push(called_by_c);
            }
            // Whoever may be the outermost, C code has called; before 3.11 all.
            called_by_c = link.outermost || every;
        }
        Self { frames, calls_c, flaw }
    }
}

/// Reads the chain that begins in a thread state.
///
/// # Errors
/// [`ReadError::Gone`], [`ReadError::Forbidden`].
pub(super) fn read(memory: &impl Memory, layout: &Layout, state: Addr) -> Result<Stack, ReadError> {
    let mut stayed: Option<Vec<(Addr, Link)>> = None;
    let mut effort = 0;
    for number in 0..TRIES {
        if effort > MAX_EFFORT {
            break;
        }
        if number >= WITHOUT_PAUSE {
            std::thread::sleep(PAUSE);
        }
        effort += 1;
        let (head, walked) = match walk(memory, layout, state) {
            Err(error @ (ReadError::Gone | ReadError::Forbidden)) => return Err(error),
            Err(ReadError::Unmapped(_)) => continue,
            Ok(walk) => walk,
        };
        effort += walked.len();
        if let Some(whole) = still(memory, layout, state, head, &walked) {
            let flaw = (walked.len() == MAX_LINKS).then_some(Flaw::Deep);
            return Ok(Stack::of(layout, &whole, flaw));
        }
        stayed = Some(match stayed {
            Some(stayed) => common_end(layout, &stayed, &walked).to_vec(),
            None => common_end(layout, &walked, &walked).to_vec(),
        });
    }
    Ok(match stayed {
        Some(links) => Stack::of(layout, &links, Some(Flaw::Changed)),
        None => Stack::of(layout, &[], Some(Flaw::Unreadable)),
    })
}

/// Follows the chain link by link. Gives where the pointer to its innermost link is, too.
fn walk(
    memory: &impl Memory,
    layout: &Layout,
    state: Addr,
) -> Result<(Addr, Vec<(Addr, Link)>), ReadError> {
    let head = frames::current(memory, layout, state)?;
    let links = frames::links(memory, layout, memory.pointer(head)?, MAX_LINKS);
    Ok((head, links.collect::<Result<_, _>>()?))
}

/// The links as they are now, if the chain is still the one that was walked, and stays it for a moment.
/// Only the innermost frame may move on in its bytecode.
fn still(
    memory: &impl Memory,
    layout: &Layout,
    state: Addr,
    head: Addr,
    walked: &[(Addr, Link)],
) -> Option<Vec<(Addr, Link)>> {
    // Inwards and outwards by turns: even one call takes its time, and a thread that returns and calls anew
    // meanwhile would have to do so in step with both ways to be read as a mixture each time.
    let first = moment(memory, layout, state, head, walked, Order::Inwards)?;
    let second = moment(memory, layout, state, head, walked, Order::Outwards)?;
    let third = moment(memory, layout, state, head, walked, Order::Inwards)?;
    // Beneath a boundary there is C code, which the innermost frame waits for: it may move on as well.
    let innermost = first.iter().position(|(_, link)| link.frame.is_some());
    let code = |link: &Link| link.frame.map(|frame| frame.code);
    let is_first = |later: &[(Addr, Link)]| {
        first.iter().zip(later).enumerate().all(|(at, ((_, one), (_, other)))| {
            if innermost.is_some_and(|innermost| at > innermost) {
                one == other
            } else {
                one.previous == other.previous && code(one) == code(other)
            }
        })
    };
    (is_first(&second) && is_first(&third)).then_some(third)
}

/// In which order a single system call reads the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    /// The outermost first, the variable that points to the innermost last.
    Inwards,
    /// The other way round.
    Outwards,
}

/// All links at one moment, or as near to it as a single system call comes; None where they don't hang
/// together as they did when they were walked.
fn moment(
    memory: &impl Memory,
    layout: &Layout,
    state: Addr,
    head: Addr,
    walked: &[(Addr, Link)],
    order: Order,
) -> Option<Vec<(Addr, Link)>> {
    let size = layout.frame.bytes();
    let mut innermost = [0; 8];
    let mut bytes = vec![0; walked.len() * size];
    let mut pieces: Vec<(Addr, &mut [u8])> = vec![(head, &mut innermost)];
    pieces.extend(walked.iter().map(|(at, _)| *at).zip(bytes.chunks_exact_mut(size)));
    if order == Order::Inwards {
        pieces.reverse();
    }
    if memory.read_scattered(&mut pieces).contains(&false) {
        return None;
    }
    // The variable itself may have moved (3.11, 3.12).
    if frames::current(memory, layout, state) != Ok(head) {
        return None;
    }
    let mut expected = Addr(u64::from_le_bytes(innermost));
    let mut links = Vec::with_capacity(walked.len());
    for ((at, _), bytes) in walked.iter().zip(bytes.chunks_exact(size)) {
        let link = Link::parse(&layout.frame, bytes)?;
        if *at != expected {
            return None;
        }
        expected = link.previous;
        links.push((*at, link));
    }
    let ends = expected.is_null() && links.last().is_none_or(|(_, link)| link.outermost);
    let sound = is_linked(layout, &links) && is_of_call(memory, layout, head, &links)?;
    (sound && (ends || links.len() == MAX_LINKS)).then_some(links)
}

/// In 3.11 and 3.12 a call from C has a variable of its own for its innermost frame, which for a moment holds
/// what lay on the C stack: often the frame of an earlier call. So what the call's first frame was called
/// from must be the innermost frame of the call before. `head` is where the variable is.
fn is_of_call(
    memory: &impl Memory,
    layout: &Layout,
    head: Addr,
    links: &[(Addr, Link)],
) -> Option<bool> {
    let Some(previous) = layout.thread.cframe_previous else { return Some(true) };
    let call = Addr(head.0.wrapping_sub(layout.thread.current_frame));
    let before = memory.pointer(call.offset(previous)).ok()?;
    let caller = match before.is_null() {
        true => before,
        false => memory.pointer(before.offset(layout.thread.current_frame)).ok()?,
    };
    let first = links.iter().find(|(_, link)| link.outermost);
    Some(first.is_none_or(|(_, link)| link.previous == caller))
}

/// Is it sure that the innermost frame's link to its caller is its own? From 3.11 on frames lie where others
/// lay before, and a call may make its frame the innermost one before it links it; but before its first
/// instruction.
fn is_linked(layout: &Layout, links: &[(Addr, Link)]) -> bool {
    let innermost = links.iter().find_map(|(_, link)| link.frame);
    matches!(layout.frame.entry, Entry::Every { .. })
        || innermost.is_none_or(|frame| frame.place != Place::NotBegun)
}

/// The outer links that all walks had in common, and this one has too.
fn common_end<'a>(
    layout: &Layout,
    stayed: &[(Addr, Link)],
    walked: &'a [(Addr, Link)],
) -> &'a [(Addr, Link)] {
    // The last links of a walk that was cut, or ran into a change, are not the chain's.
    let ends = |(_, link): &(Addr, Link)| link.previous.is_null() && link.outermost;
    if !walked.last().is_some_and(ends) || !is_linked(layout, walked) {
        return &[];
    }
    let both = stayed.iter().rev().zip(walked.iter().rev());
    let count = both.take_while(|(one, other)| one == other).count();
    walked.get(walked.len() - count..).unwrap_or(&[])
}

#[cfg(test)]
#[path = "stack_tests.rs"]
mod tests;
