//! Whether a block is still allocated and still the same: by the allocator's own structures, where they can be
//! read, and by its content.

use leak_common::keys::LiveBlock;

use crate::{
    heap::{
        glibc::{ChunkSeen, ChunkState, Chunks},
        identity::{Identifier, Identity, Kind, Likeness},
        pymalloc::{BlockState, Blocks},
    },
    ledger::block_bytes,
    target::memory::Memory,
    units::{Addr, Bytes},
    verdict::evidence::{Domain, End},
};

/// glibc marks a chunk that has a mapping of its own; those are followed as mappings.
const IS_MMAPPED: u64 = 2;

/// What is known of a block when it is first looked at.
#[derive(Debug)]
pub(super) enum Look {
    /// Pymalloc's.
    Small(Identity),
    /// glibc's.
    Chunk(ChunkSeen),
    /// Of a heap whose own records can't be read.
    Content(Box<Content>),
    /// Told by probes; when it was allocated.
    Probes(u64),
}

/// What a block was, and how it began.
#[derive(Debug)]
pub(super) struct Content {
    identity: Identity,
    start: Start,
    /// As asked for.
    size: Bytes,
}

/// A block's first words, zeros after its end.
type Start = [u64; 4];

impl Look {
    /// What it holds, where that is known.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Small(identity) => Some(identity.kind),
            Self::Content(content) => Some(content.identity.kind),
            Self::Chunk(_) | Self::Probes(_) => None,
        }
    }

    /// Its type's address, where it is a Python object.
    pub fn type_addr(&self) -> Option<Addr> {
        match self.kind()? {
            Kind::Object { type_addr, .. } => Some(type_addr),
            Kind::Table | Kind::Raw => None,
        }
    }

    /// Is it pymalloc's?
    pub fn is_small(&self) -> bool {
        matches!(self, Self::Small(_))
    }

    /// Is all that tells it from another block of its kind in the same place what it holds? Pymalloc's are told by
    /// their pools as well, and while everything is traced by their birth.
    pub fn may_be_another(&self) -> bool {
        matches!(self, Self::Content(_) | Self::Chunk(_))
    }
}

/// A block that was looked at before.
pub(super) struct Seen<'a> {
    pub addr: Addr,
    /// What it takes.
    pub size: Bytes,
    pub look: &'a Look,
}

/// What became of a block; None where that can't be told at this moment.
type Outcome = Option<End>;

/// Reads what the allocators and the blocks themselves say.
pub(super) struct Looker {
    blocks: Option<Blocks>,
    identifier: Identifier,
    chunks: Chunks,
    glibc: bool,
}

impl Looker {
    /// `blocks`: pymalloc's, where it is in use; `glibc`: the blocks of malloc are glibc's chunks.
    pub fn new(blocks: Option<Blocks>, identifier: Identifier, glibc: bool) -> Self {
        Self { blocks, identifier, chunks: Chunks::new(), glibc }
    }

    /// Is the address in one of pymalloc's arenas, as they were read last?
    pub fn in_arena(&self, addr: Addr) -> bool {
        self.blocks.as_ref().is_some_and(|blocks| blocks.contains(addr))
    }

    /// Reads pymalloc's arenas anew.
    pub fn refresh_arenas(&mut self, memory: &impl Memory) {
        if let Some(blocks) = &mut self.blocks {
            // Unreadable: the arenas known before are kept.
            let _ = blocks.refresh(memory);
        }
    }

    /// Learns from blocks that were just seen freed how the C library marks free chunks.
    pub fn learn_freed(&mut self, memory: &impl Memory, freed: &[Addr]) {
        if !self.chunks.has_key() {
            self.chunks.learn(memory, freed);
        }
    }

    /// What a block held when the gate closed: noted by the kernel, or read now where the kernel did not close
    /// it (nothing was allocating then).
    pub fn first(
        &mut self,
        memory: &impl Memory,
        domain: Domain,
        addr: Addr,
        block: &LiveBlock,
    ) -> Option<Look> {
        let mut content: Vec<u8> = block.content.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut header = block.header;
        if block.noted_ns == 0 {
            memory.read(addr, &mut content).ok()?;
            header = memory.word(Addr(addr.0.wrapping_sub(8))).ok()?;
        }
        match domain {
            Domain::Pymalloc => {
                let size = block_bytes(block.size, block.site.size_class);
                content.truncate(usize::try_from(size.0).unwrap_or(usize::MAX));
                Some(Look::Small(self.identifier.identify(memory, &content)))
            }
            Domain::Malloc if !self.glibc => {
                content.truncate(usize::try_from(block.size).unwrap_or(usize::MAX));
                let identity = self.identifier.identify(memory, &content);
                let (start, size) = (words(&content), Bytes(block.size));
                Some(Look::Content(Content { identity, start, size }.into()))
            }
            Domain::Malloc if header & IS_MMAPPED == 0 => {
                let mut first = [0; 32];
                first.copy_from_slice(content.get(..32)?);
                Some(Look::Chunk(ChunkSeen { size_word: header, content: first }))
            }
            Domain::Malloc | Domain::Mmap | Domain::Cuda | Domain::Torch => None,
        }
    }

    /// Looks at blocks again.
    pub fn again(&mut self, memory: &impl Memory, blocks: &[Seen<'_>]) -> Vec<Outcome> {
        let (mut small, mut chunks, mut others) = (Vec::new(), Vec::new(), Vec::new());
        for (at, Seen { addr, size, look }) in blocks.iter().enumerate() {
            match look {
                Look::Small(identity) => small.push((at, (*addr, *size), identity)),
                Look::Chunk(seen) => chunks.push((at, (*addr, *seen))),
                Look::Content(first) => others.push((at, (*addr, first.size), &**first)),
                Look::Probes(_) => {}
            }
        }
        let mut outcomes = vec![None; blocks.len()];
        let mut put = |at: usize, outcome| outcomes[at] = outcome;
        self.small(memory, &small).into_iter().for_each(|(at, outcome)| put(at, outcome));
        self.chunks(memory, &chunks).into_iter().for_each(|(at, outcome)| put(at, outcome));
        self.others(memory, &others).into_iter().for_each(|(at, outcome)| put(at, outcome));
        outcomes
    }

    fn small(
        &mut self,
        memory: &impl Memory,
        due: &[(usize, (Addr, Bytes), &Identity)],
    ) -> Vec<(usize, Outcome)> {
        let Some(blocks) = &mut self.blocks else { return Vec::new() };
        let places: Vec<(Addr, Bytes)> = due.iter().map(|(_, place, _)| *place).collect();
        let addrs: Vec<Addr> = places.iter().map(|(addr, _)| *addr).collect();
        // First whether it is allocated, then what it is: a block that is freed in between and looks the same
        // would have to be handed out again as the same.
        let Ok(states) = blocks.live(memory, &addrs) else { return Vec::new() };
        let identities = self.identifier.look(memory, &places);
        let now = states.into_iter().zip(identities);
        let outcome = |first: &Identity, (state, identity)| match (state, identity) {
            (BlockState::Free | BlockState::NotPymalloc, _) => Some(End::Died),
            (BlockState::Torn, _) | (_, None) => None,
            (BlockState::Live, Some(identity)) => Some(match first.compare(&identity) {
                Likeness::Same => End::Alive,
                Likeness::Changed => End::Unknown,
                Likeness::Other => End::Died,
            }),
        };
        due.iter().zip(now).map(|((at, _, first), now)| (*at, outcome(first, now))).collect()
    }

    fn chunks(
        &mut self,
        memory: &impl Memory,
        due: &[(usize, (Addr, ChunkSeen))],
    ) -> Vec<(usize, Outcome)> {
        let chunks: Vec<(Addr, ChunkSeen)> = due.iter().map(|(_, chunk)| *chunk).collect();
        let states = self.chunks.states(memory, &chunks);
        let outcome = |addr: Addr, seen: &ChunkSeen, state| match state {
            ChunkState::Free | ChunkState::Reused => End::Died,
            ChunkState::Unknown => End::Unknown,
            ChunkState::Live => {
                let mut content = [0; 32];
                match memory.read(addr, &mut content) {
                    Ok(()) if content == seen.content => End::Alive,
                    Ok(()) => End::Unknown,
                    Err(_) => End::Died,
                }
            }
        };
        let due = due.iter().zip(states);
        due.map(|((at, (addr, seen)), state)| (*at, Some(outcome(*addr, seen, state)))).collect()
    }

    /// Of a heap whose own records can't be read: what is there is what was there, or not.
    fn others(
        &mut self,
        memory: &impl Memory,
        due: &[(usize, (Addr, Bytes), &Content)],
    ) -> Vec<(usize, Outcome)> {
        let places: Vec<(Addr, Bytes)> = due.iter().map(|(_, place, _)| *place).collect();
        let identities = self.identifier.look(memory, &places);
        let outcome = |(addr, size): (Addr, Bytes), first: &Content, now: Option<Identity>| {
            let likeness = now.map(|now| first.identity.compare(&now));
            match likeness {
                None | Some(Likeness::Other) => End::Died,
                Some(Likeness::Same) => End::Alive,
                Some(Likeness::Changed) => {
                    let mut now = [0; size_of::<Start>()];
                    let length = usize::try_from(size.0).map_or(now.len(), |n| n.min(now.len()));
                    let read = memory.read(addr, &mut now[..length]);
                    let freed = read.is_err() || is_link(&first.start, &words(&now));
                    if freed { End::Died } else { End::Unknown }
                }
            }
        };
        let due = due.iter().zip(identities);
        due.map(|((at, place, first), now)| (*at, Some(outcome(*place, first, now)))).collect()
    }
}

fn words(content: &[u8]) -> Start {
    let mut words = Start::default();
    for (word, bytes) in words.iter_mut().zip(content.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Does a block look as tcmalloc and mimalloc leave it when it is freed: the link of a list, or the end of it,
/// in its first word, and the rest untouched?
fn is_link(before: &Start, now: &Start) -> bool {
    let is_address = now[0].is_multiple_of(8) && now[0] >> 47 == 0;
    before[0] != now[0] && is_address && before[1..] == now[1..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_of_a_free_list_is_told_from_other_changes() {
        let before = [7, 1, 2, 3];
        assert!(is_link(&before, &[0x7f00_1234_5678, 1, 2, 3]));
        assert!(is_link(&before, &[0, 1, 2, 3]), "the end of a list");
        assert!(!is_link(&before, &before), "unchanged");
        assert!(!is_link(&before, &[5, 1, 2, 3]), "no address");
        assert!(!is_link(&before, &[0, 1, 2, 4]), "more has changed");
    }
}
