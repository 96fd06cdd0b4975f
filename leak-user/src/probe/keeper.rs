//! Probes are made and let go by processes that nobody kills, and let go by their end, never by a call.
//!
//! Removing a breakpoint from the target's code fails in a thread that has a SIGKILL pending: the
//! kernel gives up half way, and the breakpoint stays for ever. A process killed while it closes a
//! link would leave it behind, and so would one killed while it makes a link, since the kernel then takes
//! back what it has placed so far. A process that is ending has no signal pending any more. So each link
//! of a burst is made and held by a small process of its own, all of which end at once when they are told to,
//! or when leaktrace, or the keeper that started them, is gone.
//!
//! The keeper is leaktrace itself, started again with [`ARGUMENT`]: one thread, in a session of its
//! own. It is told over a socket what to attach, and says when it is, and when the kernel has let go of it.

use std::{
    cell::Cell,
    ffi::OsStr,
    io,
    io::{IoSlice, IoSliceMut},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        socket::{
            AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recv,
            recvmsg, send, sendmsg, socketpair,
        },
        wait::wait,
    },
    unistd::{ForkResult, fork, pipe2, read, setsid},
};

use super::{bpf, priority::Ahead};
use crate::units::Pid;

/// The hidden argument that makes leaktrace the keeper.
pub const ARGUMENT: &str = "--keep-probes";

/// Attach a program by a link; the message goes on as [`Link::encode`] writes it.
const ATTACH: u8 = b'a';
/// It is attached, or not: followed by the link's number and the error's, 0 for none.
const ATTACHED: u8 = b'A';
/// Let them go.
const RELEASE: u8 = b'r';
/// The kernel has let go of them.
const RELEASED: u8 = b'R';

/// Points of one link; more than any plan has.
const MOST: usize = 512;

/// Bytes of the longest message: a path and the offsets of as many points.
const LONGEST: usize = 4096 + 8 * MOST + 64;

/// How a program is linked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// To many points by one link. Linux 6.6.
    AtOnce,
    /// To one point, through a perf event. Linux 5.15.
    OneByOne,
}

/// A program to be linked to points of a file.
#[derive(Debug, Clone, Copy)]
pub struct Link<'a> {
    /// How.
    pub way: Way,
    /// The loaded program.
    pub program: BorrowedFd<'a>,
    /// It runs where the function returns.
    pub at_return: bool,
    /// The process.
    pub pid: Pid,
    /// The file.
    pub path: &'a Path,
    /// The points in it.
    pub offsets: &'a [u64],
}

/// Why not all probes are attached.
#[derive(Debug)]
pub enum AttachError {
    /// The keeper is gone.
    Keeper(io::Error),
    /// The kernel refused one link.
    Refused {
        /// Which, of those asked for.
        link: usize,
        /// Its reason.
        source: io::Error,
    },
}

impl Link<'_> {
    /// kind, way, number, at_return, pid, count, offsets, path.
    fn encode(&self, number: u16) -> Vec<u8> {
        let mut message = vec![ATTACH, self.way as u8];
        message.extend(number.to_le_bytes());
        message.push(u8::from(self.at_return));
        message.extend(self.pid.0.to_le_bytes());
        message.extend((self.offsets.len() as u32).to_le_bytes());
        message.extend(self.offsets.iter().flat_map(|offset| offset.to_le_bytes()));
        message.extend(self.path.as_os_str().as_bytes());
        message
    }
}

/// Makes the link of an encoded message.
fn link(message: &[u8], program: BorrowedFd<'_>) -> Option<io::Result<OwnedFd>> {
    let word = |at: usize| Some(u32::from_le_bytes(*message.get(at..)?.first_chunk()?));
    let (pid, count) = (word(5)?, word(9)? as usize);
    let (offsets, path) = message.get(13..)?.split_at_checked(8 * count)?;
    let offsets: Vec<u64> =
        offsets.as_chunks::<8>().0.iter().map(|offset| u64::from_le_bytes(*offset)).collect();
    let path = Path::new(OsStr::from_bytes(path));
    let at_return = message[4] != 0;
    if message[1] == Way::AtOnce as u8 {
        return Some(bpf::link_uprobes(program, path, &offsets, at_return, pid));
    }
    let [offset] = *offsets else { return None };
    Some(bpf::link_uprobe(program, path, offset, at_return, pid))
}

/// The keeper, seen from leaktrace.
#[derive(Debug)]
pub struct Keeper {
    socket: OwnedFd,
    process: Child,
    waiting: Cell<bool>,
}

impl Keeper {
    /// Starts it.
    ///
    /// # Errors
    /// An I/O error where no process or socket can be made.
    pub fn start() -> io::Result<Self> {
        let (socket, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        let process = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { socket, process, waiting: Cell::new(false) })
    }

    /// Its process; what it starts to hold links is where that is.
    #[must_use]
    pub fn pid(&self) -> Pid {
        Pid(self.process.id())
    }

    /// Has it link programs to a process, side by side: all or none. The probes go when it is told to let go. Waits
    /// until what it was told to let go of before is gone.
    ///
    /// # Errors
    /// [`AttachError`]: nothing is attached then.
    pub fn attach(&self, links: &[Link<'_>]) -> Result<(), AttachError> {
        while !self.is_released(Duration::from_secs(1)) {}
        for (number, link) in (0..).zip(links) {
            let message = link.encode(number);
            let message = [IoSlice::new(&message)];
            let program = [link.program.as_raw_fd()];
            let rights = [ControlMessage::ScmRights(&program)];
            let socket = self.socket.as_raw_fd();
            sendmsg::<()>(socket, &message, &rights, MsgFlags::MSG_NOSIGNAL, None)
                .map_err(|errno| AttachError::Keeper(errno.into()))?;
        }
        let mut failure = None;
        for _ in links {
            let (number, errno) = self.answer().map_err(AttachError::Keeper)?;
            if errno != 0 {
                let source = io::Error::from_raw_os_error(errno);
                failure = Some(AttachError::Refused { link: number.into(), source });
            }
        }
        let Some(failure) = failure else { return Ok(()) };
        self.release();
        while !self.is_released(Duration::from_secs(1)) {}
        Err(failure)
    }

    /// How one attach went: its number, and the error's.
    fn answer(&self) -> io::Result<(u16, i32)> {
        let mut answer = [0; 7];
        loop {
            match recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                received => {
                    let [kind, low, high, errno @ ..] = answer;
                    let number = u16::from_le_bytes([low, high]);
                    return match received? {
                        7 if kind == ATTACHED => Ok((number, i32::from_le_bytes(errno))),
                        _ => Err(io::ErrorKind::UnexpectedEof.into()),
                    };
                }
            }
        }
    }

    /// Has it let go of all probes at once.
    pub fn release(&self) {
        // A keeper that is gone has let go of them already.
        let sent = send(self.socket.as_raw_fd(), &[RELEASE], MsgFlags::MSG_NOSIGNAL);
        self.waiting.set(sent.is_ok());
    }

    /// Has the kernel let go of them? Waits for it at most so long.
    #[must_use]
    pub fn is_released(&self, at_most: Duration) -> bool {
        if self.waiting.get() {
            let millis = u16::try_from(at_most.as_millis()).unwrap_or(u16::MAX);
            let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&self.socket), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::from(millis)).is_ok_and(|ready| ready > 0) {
                // The one message there is, or the end of a keeper that is gone.
                let _ = recv(self.socket.as_raw_fd(), &mut [0], MsgFlags::empty());
                self.waiting.set(false);
            }
        }
        !self.waiting.get()
    }
}

impl Drop for Keeper {
    /// Its end is the end of the socket: it is awaited, so that no probe outlives leaktrace's report.
    fn drop(&mut self) {
        let _ =
            nix::sys::socket::shutdown(self.socket.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = self.process.wait();
    }
}

/// The keeper itself: holds what it is sent until it is told otherwise, or its input ends.
///
/// # Errors
/// An I/O error on its socket; all probes go all the same.
pub fn keep() -> io::Result<()> {
    // Already a session's leader: what matters is that the terminal's signals do not come here.
    let _ = setsid();
    // For good: it waits, and so do those it forks. Without the right to it they take their turn, and the burst's
    // own thread says so.
    let _ahead = Ahead::of_the_others();
    let socket = io::stdin().as_raw_fd();
    // The processes that hold a probe each wait on this pipe: its end is the sign to end.
    let mut pipe: Option<Pipe> = None;
    let mut message = vec![0; LONGEST];
    loop {
        let (length, mut fds) = receive(socket, &mut message)?;
        let message = &message[..length];
        match message.first() {
            Some(&ATTACH) => {
                let pipe = opened(&mut pipe)?;
                if let (Some(program), Some([low, high])) = (fds.pop(), message.get(2..4)) {
                    let number = [*low, *high];
                    let make = || answered(socket, number, link(message, program.as_fd()));
                    pipe.held_by_a_process(make)?;
                }
            }
            Some(&RELEASE) => {
                drop(pipe.take());
                reap();
                send(socket, &[RELEASED], MsgFlags::MSG_NOSIGNAL)?;
            }
            _ => {
                drop(pipe.take());
                reap();
                return Ok(());
            }
        }
    }
}

/// One message: its length, 0 at the end, and the descriptors that came with it.
fn receive(socket: RawFd, message: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!(RawFd);
    let mut parts = [IoSliceMut::new(message)];
    let received = loop {
        match recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => {}
            received => break received?,
        }
    };
    let mut fds = Vec::new();
    for control in received.cmsgs()? {
        if let ControlMessageOwned::ScmRights(sent) = control {
            // SAFETY: the kernel has just made these descriptors for this process.
            fds.extend(sent.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok((received.bytes, fds))
}

/// Says how an attach went; gives the link, if there is one.
fn answered(
    socket: RawFd,
    [low, high]: [u8; 2],
    made: Option<io::Result<OwnedFd>>,
) -> Option<OwnedFd> {
    let made = made.unwrap_or_else(|| Err(Errno::EINVAL.into()));
    let errno = made.as_ref().err().map_or(0, |error| error.raw_os_error().unwrap_or(libc::EIO));
    let [a, b, c, d] = errno.to_le_bytes();
    // Where leaktrace is gone, the end of the pipe tells so.
    let _ = send(socket, &[ATTACHED, low, high, a, b, c, d], MsgFlags::MSG_NOSIGNAL);
    made.ok()
}

/// The pipe whose end lets all probes go.
struct Pipe {
    end: OwnedFd,
    sign: OwnedFd,
}

fn opened(pipe: &mut Option<Pipe>) -> io::Result<&Pipe> {
    if pipe.is_none() {
        let (end, sign) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        *pipe = Some(Pipe { end, sign });
    }
    pipe.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
}

impl Pipe {
    /// Starts a process that makes a probe, holds it, and ends when the pipe does.
    fn held_by_a_process(&self, make: impl FnOnce() -> Option<OwnedFd>) -> io::Result<()> {
        // SAFETY: the keeper has one thread, so the child may do what any process may.
        if let ForkResult::Child = unsafe { fork() }? {
            // SAFETY: the child's own copy, which nothing in it uses.
            unsafe { libc::close(self.sign.as_raw_fd()) };
            let probe = make();
            while read(&self.end, &mut [0]) == Err(Errno::EINTR) {}
            // Not closed: it goes with the process.
            std::mem::forget(probe);
            // SAFETY: ends the process without running anything else of it.
            unsafe { libc::_exit(0) };
        }
        Ok(())
    }
}

/// Waits until all of them have ended, and with them their probes.
fn reap() {
    while matches!(wait(), Ok(_) | Err(Errno::EINTR)) {}
}
