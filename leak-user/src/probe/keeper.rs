//! Probes are let go by a process's end, never by a call.
//!
//! Removing a breakpoint from the target's code fails in a thread that has a SIGKILL pending: the
//! kernel gives up half way, and the breakpoint stays for ever. A process killed while it closes a
//! link would leave it behind. A process that is ending has no signal pending any more. So each link
//! of a burst is held by a small process of its own, all of which end at once when they are told to,
//! or when leaktrace, or the keeper that made them, is gone.
//!
//! The keeper is leaktrace itself, started again with [`ARGUMENT`]: one thread, in a session of its
//! own. It takes probes over a socket, and says when the kernel has let go of them.

use std::{
    cell::Cell,
    fs, io,
    io::{IoSlice, IoSliceMut},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
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

/// The hidden argument that makes leaktrace the keeper.
pub const ARGUMENT: &str = "--keep-probes";

/// Take the attached probes.
const HOLD: u8 = b'h';
/// Let them go.
const RELEASE: u8 = b'r';
/// The kernel has let go of them.
const RELEASED: u8 = b'R';

/// Probes in one message; more than any plan has.
const MOST: usize = 128;

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

    /// Gives it the probes; from here on they stay when this process closes its own descriptors.
    ///
    /// # Errors
    /// An I/O error where the keeper is gone.
    pub fn hold(&self, probes: &[RawFd]) -> io::Result<()> {
        let message = [IoSlice::new(&[HOLD])];
        let rights = [ControlMessage::ScmRights(probes)];
        sendmsg::<()>(self.socket.as_raw_fd(), &message, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
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

/// The BPF links that this process has open.
///
/// # Errors
/// An I/O error where `/proc` can't be read.
pub fn open_links() -> io::Result<Vec<RawFd>> {
    let mut links = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let is_link = fs::read_link(entry.path())
            .is_ok_and(|to| to.to_str().is_some_and(|to| to.starts_with("anon_inode:bpf_link")));
        if is_link {
            links.push(fd);
        }
    }
    Ok(links)
}

/// The keeper itself: holds what it is sent until it is told otherwise, or its input ends.
///
/// # Errors
/// An I/O error on its socket; all probes go all the same.
pub fn keep() -> io::Result<()> {
    // Already a session's leader: what matters is that the terminal's signals do not come here.
    let _ = setsid();
    let socket = io::stdin().as_raw_fd();
    // The processes that hold a probe each wait on this pipe: its end is the sign to end.
    let mut sign: Option<OwnedFd> = None;
    loop {
        let mut byte = [0];
        let probes = receive(socket, &mut byte)?;
        match byte[0] {
            HOLD => sign = Some(hand_out(probes)?),
            RELEASE => {
                drop(sign.take());
                reap();
                send(socket, &[RELEASED], MsgFlags::MSG_NOSIGNAL)?;
            }
            _ => {
                drop(sign.take());
                reap();
                return Ok(());
            }
        }
    }
}

/// One message; the byte stays 0 at the end.
fn receive(socket: RawFd, byte: &mut [u8; 1]) -> io::Result<Vec<OwnedFd>> {
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(byte)];
    let message =
        match recvmsg::<()>(socket, &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC) {
            Err(Errno::EINTR) => return receive(socket, byte),
            received => received?,
        };
    let mut probes = Vec::new();
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // SAFETY: the kernel has just made these descriptors for this process.
            probes.extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(probes)
}

/// Starts a process for each probe; returns the writing end of their pipe.
fn hand_out(mut probes: Vec<OwnedFd>) -> io::Result<OwnedFd> {
    let (end, sign) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    while let Some(probe) = probes.pop() {
        // SAFETY: the keeper has one thread, so the child may do what any process may.
        match unsafe { fork() }? {
            ForkResult::Child => {
                // Not the last references: closing these does nothing to the probes.
                drop(probes);
                drop(sign);
                while read(&end, &mut [0]) == Err(Errno::EINTR) {}
                // Not closed: it goes with the process.
                std::mem::forget(probe);
                // SAFETY: ends the process without running anything else of it.
                unsafe { libc::_exit(0) };
            }
            ForkResult::Parent { .. } => drop(probe),
        }
    }
    Ok(sign)
}

/// Waits until all of them have ended, and with them their probes.
fn reap() {
    while matches!(wait(), Ok(_) | Err(Errno::EINTR)) {}
}
