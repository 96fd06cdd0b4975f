//! Every event that is not recorded is counted, by cause, in a per-CPU array indexed by [`Counter`].

/// What is counted. Losses first; the rest tells what was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Counter {
    /// The ring buffer had no room for a record.
    RingFull,
    /// A map of live blocks or sites had no room.
    MapFull,
    /// A Python stack had more than `MAX_FRAMES` frames: its outer end is missing.
    StackTruncated,
    /// A frame, thread state or allocator header was not readable (not resident).
    ReadFault,
    /// A pymalloc block's address could not be predicted (a new arena was about to be made).
    Unpredicted,
    /// A return probe fired without its entry (attached in between, or lost).
    UnmatchedReturn,
    /// A native thread or a thread outside Python allocated: it has no Python stack.
    NoPythonStack,
    /// Probe hits, gate open or not: each costs the target the trap.
    Hits,
    /// Hits while the gate was closed (attaching, detaching).
    ClosedHits,
    /// Stacks walked.
    Walks,
    /// Native stacks copied.
    NativeCopies,
    /// Pymalloc events whose pool count agreed with what was seen before.
    PoolEventsSeen,
    /// Pymalloc events that must have happened unseen, by the pools' own counts.
    PoolEventsMissed,
    /// Writes to the head of a watched size class's list of pools, which are no allocations.
    HeadWrites,
    /// Successful calls of mmap, and growths of the break.
    Mappings,
    /// Bytes that they mapped.
    MappedBytes,
}

/// How many counters there are.
pub const COUNTERS: usize = Counter::MappedBytes as usize + 1;
