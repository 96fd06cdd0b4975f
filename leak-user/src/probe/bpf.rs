//! The system calls `bpf` and `perf_event_open`, where aya has no way to say what is meant: programs that
//! attach to many points by one link ([`super::multi`]), links made by another process than the one that
//! loaded the program ([`super::keeper`]), maps read many entries at a time ([`super::batch`]), and what the verifier
//! says ([`super::verifier`]).

use std::{
    ffi::CStr,
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
    path::Path,
};

use aya::Pod;
use aya_obj::{
    Function, Program,
    generated::{
        BPF_F_UPROBE_MULTI_RETURN,
        bpf_attach_type::{
            BPF_PERF_EVENT, BPF_TRACE_FEXIT, BPF_TRACE_ITER, BPF_TRACE_RAW_TP,
            BPF_TRACE_UPROBE_MULTI,
        },
        bpf_attr, bpf_cmd, bpf_prog_info,
        bpf_prog_type::{
            BPF_PROG_TYPE_KPROBE, BPF_PROG_TYPE_PERF_EVENT, BPF_PROG_TYPE_TRACEPOINT,
            BPF_PROG_TYPE_TRACING,
        },
        perf_event_attr,
    },
};
use nix::NixPath as _;

/// `perf_event_open`'s flag: the descriptor goes with an exec.
const PERF_FLAG_FD_CLOEXEC: u64 = 8;

/// Any other process id is one of a process that may exist.
pub const NO_PID: u32 = u32::MAX;

/// Runs a command.
fn run(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    let size = std::mem::size_of_val(attr);
    // SAFETY: the kernel reads as much of the attributes as it is told, and may write what it says into them;
    // every pointer in them lives until the call returns, as the callers below see to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as u32, &raw mut *attr, size) };
    match i32::try_from(result) {
        Ok(result) if result >= 0 => Ok(result),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Runs a command that returns a descriptor.
fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the kernel has just made it for this process.
    run(command, attr).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn blank() -> bpf_attr {
    // SAFETY: integers only; the kernel asks for zeros in what isn't used.
    unsafe { std::mem::zeroed() }
}

/// Loads type information. Linux 4.18.
///
/// # Errors
/// The kernel's.
pub fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = blank();
    attr.__bindgen_anon_7.btf = btf.as_ptr().addr() as u64;
    attr.__bindgen_anon_7.btf_size = btf.len() as u32;
    call(bpf_cmd::BPF_BTF_LOAD, &mut attr)
}

/// What a program will be attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An instruction, or a return.
    Uprobe,
    /// Many of them by one link ([`link_uprobes`]). Linux 6.6.
    Uprobes,
    /// A tracepoint with the arguments that perf would write.
    Tracepoint,
    /// A tracepoint with its own arguments, by the id of its type.
    TypedTracepoint(u32),
    /// The end of one of the kernel's functions, by the function's id. Linux 5.5.
    FunctionExit(u32),
    /// An event that perf counts.
    PerfEvent,
    /// An iterator, by the id of its function. Linux 5.8.
    Iterator(u32),
}

/// The level of the verifier's log that has its figures alone (`BPF_LOG_STATS`).
const LOG_STATS: u32 = 4;

/// Has the kernel verify and load a relocated program. The verifier's figures go to `log`, ended by a zero, where one
/// is given. `CAP_BPF` and `CAP_PERFMON`.
///
/// # Errors
/// The kernel's.
pub fn load(
    program: &Program,
    function: &Function,
    btf: BorrowedFd<'_>,
    kind: Kind,
    log: Option<&mut [u8]>,
) -> io::Result<OwnedFd> {
    let (functions, lines) =
        (function.func_info.func_info_bytes(), function.line_info.line_info_bytes());
    let mut attr = blank();
    // SAFETY: of the union's members, this is the command's; all are integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    let (program_type, attach_type, type_id) = match kind {
        Kind::Uprobe => (BPF_PROG_TYPE_KPROBE, None, 0),
        Kind::Uprobes => (BPF_PROG_TYPE_KPROBE, Some(BPF_TRACE_UPROBE_MULTI), 0),
        Kind::Tracepoint => (BPF_PROG_TYPE_TRACEPOINT, None, 0),
        Kind::TypedTracepoint(id) => (BPF_PROG_TYPE_TRACING, Some(BPF_TRACE_RAW_TP), id),
        Kind::FunctionExit(id) => (BPF_PROG_TYPE_TRACING, Some(BPF_TRACE_FEXIT), id),
        Kind::PerfEvent => (BPF_PROG_TYPE_PERF_EVENT, None, 0),
        Kind::Iterator(id) => (BPF_PROG_TYPE_TRACING, Some(BPF_TRACE_ITER), id),
    };
    load.prog_type = program_type as u32;
    load.expected_attach_type = attach_type.map_or(0, |attach_type| attach_type as u32);
    load.attach_btf_id = type_id;
    load.insns = function.instructions.as_ptr().addr() as u64;
    load.insn_cnt = function.instructions.len() as u32;
    load.license = program.license.as_ptr().addr() as u64;
    load.prog_btf_fd = btf.as_raw_fd() as u32;
    load.func_info = functions.as_ptr().addr() as u64;
    load.func_info_cnt = function.func_info.len() as u32;
    load.func_info_rec_size = function.func_info_rec_size as u32;
    load.line_info = lines.as_ptr().addr() as u64;
    load.line_info_cnt = function.line_info.len() as u32;
    load.line_info_rec_size = function.line_info_rec_size as u32;
    for (to, from) in load.prog_name.iter_mut().take(15).zip(function.name.bytes()) {
        *to = from as libc::c_char;
    }
    if let Some(log) = log {
        load.log_level = LOG_STATS;
        load.log_buf = log.as_mut_ptr().addr() as u64;
        load.log_size = log.len() as u32;
    }
    call(bpf_cmd::BPF_PROG_LOAD, &mut attr)
}

/// Reads entries of a hash map, as many as both vectors have room for, in place of what they hold; with `take`,
/// takes them out. `place` is where the call before ended, None at the beginning. Is there more? Linux 5.6.
///
/// # Errors
/// The kernel's; `ENOSPC` where there is less room than one of the map's buckets needs.
///
/// # Safety
/// The map's keys are as large as `K`, its values as `V`.
pub unsafe fn read_entries<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    take: bool,
    place: &mut Option<u32>,
    keys: &mut Vec<K>,
    values: &mut Vec<V>,
) -> io::Result<bool> {
    keys.clear();
    values.clear();
    let mut next = 0_u32;
    let mut attr = blank();
    attr.batch.in_batch = place.as_ref().map_or(0, |place| (&raw const *place).addr() as u64);
    attr.batch.out_batch = (&raw mut next).addr() as u64;
    attr.batch.keys = keys.as_mut_ptr().addr() as u64;
    attr.batch.values = values.as_mut_ptr().addr() as u64;
    attr.batch.count = keys.capacity().min(values.capacity()) as u32;
    attr.batch.map_fd = map.as_raw_fd() as u32;
    let command =
        if take { bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH } else { bpf_cmd::BPF_MAP_LOOKUP_BATCH };
    let more = match run(command, &mut attr) {
        Ok(_) => true,
        // The end: what came before it is there all the same.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
        Err(error) => return Err(error),
    };
    // SAFETY: the kernel has written so many entries, of these sizes, and no more than there was room for.
    unsafe {
        let read = attr.batch.count as usize;
        keys.set_len(read);
        values.set_len(read);
    }
    *place = Some(next);
    Ok(more)
}

/// What the kernel says of a loaded program.
///
/// # Errors
/// The kernel's.
pub fn info(program: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    // SAFETY: integers only; the kernel asks for zeros in what isn't used.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = blank();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = (&raw mut info).addr() as u64;
    run(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Attaches a program to an instruction of a file, or to its function's return, for one process. It goes with
/// the link. Linux 5.15.
///
/// # Errors
/// The kernel's, or that the kernel has no uprobes.
pub fn link_uprobe(
    program: BorrowedFd<'_>,
    path: &Path,
    offset: u64,
    at_return: bool,
    pid: u32,
) -> io::Result<OwnedFd> {
    // SAFETY: integers only; the kernel asks for zeros in what isn't used.
    let mut event: perf_event_attr = unsafe { std::mem::zeroed() };
    event.size = size_of::<perf_event_attr>() as u32;
    event.type_ = described("type", "")?;
    event.config = if at_return { 1 << described("format/retprobe", "config:")? } else { 0 };
    event.__bindgen_anon_4.config2 = offset;
    let event = path.with_nix_path(|path: &CStr| {
        event.__bindgen_anon_3.config1 = path.as_ptr().addr() as u64;
        let (cpu, group, flags) = (-1, -1, PERF_FLAG_FD_CLOEXEC);
        let open = libc::SYS_perf_event_open;
        // SAFETY: the kernel reads the attributes and the path, which live until the call returns.
        let fd = unsafe { libc::syscall(open, &raw const event, pid, cpu, group, flags) };
        match i32::try_from(fd) {
            // SAFETY: the kernel has just made it for this process.
            Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
            _ => Err(io::Error::last_os_error()),
        }
    })??;
    let mut attr = blank();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_fd = event.as_raw_fd() as u32;
    attr.link_create.attach_type = BPF_PERF_EVENT as u32;
    // The link holds the event from here on.
    call(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// A number in the kernel's description of its uprobe events.
fn described(file: &str, before: &str) -> io::Result<u32> {
    let text = std::fs::read_to_string(format!("/sys/bus/event_source/devices/uprobe/{file}"))?;
    let number = text.trim().strip_prefix(before).and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Attaches a program to instructions of a file, at entry or at the function's return, for one process:
/// all at once, and gone at once with the link. Linux 6.6.
///
/// # Errors
/// The kernel's.
pub fn link_uprobes(
    program: BorrowedFd<'_>,
    path: &Path,
    offsets: &[u64],
    at_return: bool,
    pid: u32,
) -> io::Result<OwnedFd> {
    path.with_nix_path(|path: &CStr| {
        let mut attr = blank();
        attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
        attr.link_create.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
        // SAFETY: of the union's members, `attach_type` says which one is meant.
        let multi = unsafe { &mut attr.link_create.__bindgen_anon_3.uprobe_multi };
        multi.path = path.as_ptr().addr() as u64;
        multi.offsets = offsets.as_ptr().addr() as u64;
        multi.cnt = offsets.len() as u32;
        multi.flags = if at_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
        multi.pid = pid;
        call(bpf_cmd::BPF_LINK_CREATE, &mut attr)
    })?
}
