//! One stack of two: the native frames and the Python frames of the same moment.
//!
//! A call of the interpreter's loop runs one Python frame (3.10 and before) or several. So the loop's native
//! frames are where the Python frames belong.

use std::ops::Range;

use super::stacks::Frame;
use super::unwind::NativeStack;
use crate::target::{Module, Target, python::Interpreter};
use crate::units::Addr;

/// Whose code an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The C library, or what serves `malloc` in its place.
    Allocator,
    /// The interpreter's loop.
    Loop,
    /// The rest of the interpreter.
    Interpreter,
    /// Extensions and libraries.
    Other,
}

/// Where the code of the allocator, of the interpreter, and of its loop lies.
#[derive(Debug, Clone, Default)]
pub struct Owners {
    allocator: Vec<Range<u64>>,
    interpreter: Vec<Range<u64>>,
    interpreter_loop: Vec<Range<u64>>,
}

/// The Python frames of a stack, innermost first.
#[derive(Debug, Clone, Copy, Default)]
pub struct PyStack<'a> {
    /// They.
    pub frames: &'a [Frame],
    /// For each: C code lies between it and the frame that it called.
    pub calls_c: &'a [bool],
}

impl Owners {
    /// Those of a target.
    #[must_use]
    pub fn of(target: &Target) -> Self {
        let python = target.python.as_ref().ok();
        let interpreter_loop = python.map_or(&[][..], |python| &python.interpreter_loop);
        Self {
            allocator: target.heap.as_ref().map_or_else(Vec::new, |heap| code_of(&heap.module)),
            interpreter: python.map_or_else(Vec::new, |python| code_of(&python.module)),
            interpreter_loop: plain(interpreter_loop),
        }
    }

    /// Those of an interpreter, whatever the allocator.
    #[must_use]
    pub fn of_interpreter(python: &Interpreter) -> Self {
        Self {
            allocator: Vec::new(),
            interpreter: code_of(&python.file.module),
            interpreter_loop: plain(&python.interpreter_loop()),
        }
    }

    fn of_address(&self, addr: Addr) -> Owner {
        let within = |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&addr.0));
        // A return address points behind its call, which may be a function's last instruction.
        let before = Addr(addr.0.saturating_sub(1));
        let within_call =
            |ranges: &[Range<u64>]| ranges.iter().any(|range| range.contains(&before.0));
        if within_call(&self.interpreter_loop) {
            Owner::Loop
        } else if within(&self.interpreter) {
            Owner::Interpreter
        } else if within(&self.allocator) {
            Owner::Allocator
        } else {
            Owner::Other
        }
    }

    /// The calls on the way to the allocator: without the function that was seen called, and without those
    /// of the same library that led to it.
    fn outside<'a>(&self, native: &'a NativeStack) -> &'a [Addr] {
        let calls = native.calls.get(1..).unwrap_or_default();
        let inner = calls.iter().take_while(|call| self.of_address(**call) == Owner::Allocator);
        &calls[inner.count()..]
    }

    /// What a line's allocations are told apart by: the extensions' and libraries' code on the way from the
    /// interpreter to the allocator, then the Python frames.
    #[must_use]
    pub fn site(&self, native: &NativeStack, python: PyStack<'_>) -> Vec<Frame> {
        let outside = self.outside(native);
        let is = |owner: Owner| move |call: &Addr| self.of_address(*call) == owner;
        let until = if python.frames.is_empty() {
            outside.len()
        } else {
            // Where the loop was not recognized, what lies beyond the interpreter's code isn't the line's.
            let the_loop = outside.iter().position(is(Owner::Loop));
            let entered = || outside.iter().position(is(Owner::Interpreter));
            the_loop.or_else(entered).unwrap_or(outside.len())
        };
        let alone = python.frames.is_empty();
        let own =
            outside[..until].iter().filter(|call| alone || self.of_address(**call) == Owner::Other);
        let own = own.map(|call| Frame::Native(*call));
        own.chain(python.frames.iter().cloned()).collect()
    }

    /// All frames from the allocator on, each Python frame in the place of the call of the loop that ran it.
    #[must_use]
    pub fn whole(&self, native: &NativeStack, python: PyStack<'_>) -> Vec<Frame> {
        let mut left = python;
        let mut merged = Vec::with_capacity(native.calls.len() + python.frames.len());
        // The first is where the thread was, all others are where it will go on: as if this were one, too.
        let at = native.calls.first().map(|at| at.offset(1));
        for call in at.iter().chain(native.calls.iter().skip(1)) {
            if self.of_address(*call) == Owner::Loop {
                merged.extend(left.next_run().iter().cloned());
            } else {
                merged.push(Frame::Native(*call));
            }
        }
        // The copy of the stack may end before the Python frames do.
        merged.extend(left.frames.iter().cloned());
        merged
    }
}

impl<'a> PyStack<'a> {
    /// Takes off the frames that one call of the loop ran.
    fn next_run(&mut self) -> &'a [Frame] {
        let further = self.calls_c.iter().skip(1).position(|calls_c| *calls_c);
        let length = further.map_or(self.frames.len(), |further| further + 1);
        let (run, rest) = self.frames.split_at(length.min(self.frames.len()));
        self.frames = rest;
        self.calls_c = self.calls_c.get(length..).unwrap_or_default();
        run
    }
}

fn plain(code: &[Range<Addr>]) -> Vec<Range<u64>> {
    code.iter().map(|code| code.start.0..code.end.0).collect()
}

/// The addresses of a module's code.
fn code_of(module: &Module) -> Vec<Range<u64>> {
    let code = module.segments.iter().filter(|segment| segment.executable);
    code.map(|segment| {
        let start = segment.address.wrapping_add(module.bias);
        start..start.saturating_add(segment.memory_size)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbolize::stacks::PyFrame;

    fn owners() -> Owners {
        Owners {
            allocator: vec![0x1000..0x1800, 0x1800..0x2000],
            interpreter: vec![0x4000..0x4800, 0x4800..0x5000],
            interpreter_loop: vec![0x4800..0x4880, 0x4880..0x4900],
        }
    }

    fn native(calls: &[u64]) -> NativeStack {
        NativeStack { calls: calls.iter().copied().map(Addr).collect(), whole: true }
    }

    fn frames(n: u32) -> Vec<Frame> {
        let frame = |line| PyFrame { function: "f".into(), file: "f.py".into(), line };
        (1..=n).map(|line| Frame::Python(frame(line).into())).collect()
    }

    /// Python frames by their lines, native ones by their addresses.
    fn shown(frames: &[Frame]) -> Vec<u64> {
        let number = |frame: &Frame| match frame {
            Frame::Python(frame) => frame.line.into(),
            Frame::Native(addr) => addr.0,
        };
        frames.iter().map(number).collect()
    }

    /// malloc, called by malloc's kin, by an extension through the interpreter's own helper, from the loop.
    const CALLS: [u64; 9] =
        [0x1010, 0x1020, 0x4010, 0x8000, 0x9000, 0x4020, 0x4810, 0x8100, 0x4820];

    #[test]
    fn a_site_has_the_extension_and_the_lines() {
        let python = frames(3);
        let stack = PyStack { frames: &python, calls_c: &[false, false, true] };
        assert_eq!(shown(&owners().site(&native(&CALLS), stack)), [0x8000, 0x9000, 1, 2, 3]);
    }

    #[test]
    fn the_whole_has_each_frame_in_its_place() {
        let python = frames(4);
        let stack = PyStack { frames: &python, calls_c: &[false, false, true, true] };
        let whole = owners().whole(&native(&CALLS), stack);
        // The last frame's loop is beyond what was copied.
        let expected = [0x1011, 0x1020, 0x4010, 0x8000, 0x9000, 0x4020, 1, 2, 0x8100, 3, 4];
        assert_eq!(shown(&whole), expected);
    }

    #[test]
    fn each_call_of_the_loop_runs_one_frame_in_old_versions() {
        let python = frames(2);
        let stack = PyStack { frames: &python, calls_c: &[true, true] };
        let whole = owners().whole(&native(&[0x1010, 0x4810, 0x4020, 0x4820, 0x8000]), stack);
        assert_eq!(shown(&whole), [0x1011, 1, 0x4020, 2, 0x8000]);
    }

    #[test]
    fn without_a_loop_the_interpreter_is_the_border() {
        let python = frames(1);
        let stack = PyStack { frames: &python, calls_c: &[false] };
        let site = owners().site(&native(&[0x1010, 0x8000, 0x4020, 0x9000]), stack);
        assert_eq!(shown(&site), [0x8000, 1]);
    }

    #[test]
    fn a_thread_without_python_has_native_frames_alone() {
        let site = owners().site(&native(&[0x1010, 0x1020, 0x8000, 0x4020]), PyStack::default());
        assert_eq!(shown(&site), [0x8000, 0x4020]);
        assert_eq!(shown(&owners().site(&native(&[0x1010]), PyStack::default())), [0_u64; 0]);
    }

    #[test]
    fn a_call_at_the_end_of_the_loop_is_the_loops() {
        let python = frames(1);
        let stack = PyStack { frames: &python, calls_c: &[false] };
        assert_eq!(shown(&owners().whole(&native(&[0x1010, 0x4900]), stack)), [0x1011, 1]);
    }
}
