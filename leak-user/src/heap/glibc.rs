//! Is a block of glibc's malloc still allocated? Told by the chunk headers around it.
//!
//! Source: glibc's `malloc/malloc.c`. A block at `p` is a chunk that starts at `p - 16`: the size of
//! the chunk before it if that one is free, then its own size with three flags, then the block. A
//! chunk is free if the chunk after it says so (its `PREV_INUSE` is 0), except where small chunks wait
//! in the per-thread cache or a fast bin: those are told by what is written into them.

use std::collections::HashMap;

use crate::target::memory::Memory;
use crate::units::{Addr, Bytes};

/// Flags in the size word.
const PREV_INUSE: u64 = 1;
/// See [`PREV_INUSE`].
const IS_MMAPPED: u64 = 2;
/// All of them, with `NON_MAIN_ARENA`, 4.
const FLAGS: u64 = 7;

/// Before a block: the previous chunk's size and its own.
const HEADER: u64 = 16;

/// Smallest chunk, in bytes.
const MIN_CHUNK: u64 = 32;

/// More than a process can have: such a size is none.
const MAX_CHUNK: u64 = 1 << 46;

/// Largest chunk that the per-thread cache takes (`tcache_max_bytes`, 1032 usable).
const MAX_CACHED_CHUNK: u64 = 1040;

/// Largest chunk that a fast bin takes (`global_max_fast`).
const MAX_FAST_CHUNK: u64 = 128;

/// A sentinel at the end of a heap looks like a chunk of so many bytes or fewer.
const SENTINEL: u64 = 16;

/// Freed blocks that must agree on the cache's key.
const AGREEING: usize = 3;

/// Bytes at a block's start that are compared.
const CONTENT: usize = 32;

/// A chunk as it was when its block was known to be allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSeen {
    /// Its size word.
    pub size_word: u64,
    /// The block's first bytes; zeros after its end.
    pub content: [u8; CONTENT],
}

impl ChunkSeen {
    /// Bytes that the block can hold.
    #[must_use]
    pub fn usable(&self) -> Bytes {
        let header = if self.size_word & IS_MMAPPED == 0 { 8 } else { HEADER };
        Bytes((self.size_word & !FLAGS).saturating_sub(header))
    }
}

/// What became of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkState {
    /// Allocated. (Freed and allocated again with the same size and content cannot be told.)
    Live,
    /// Freed.
    Free,
    /// The memory is cut differently now: freed, and in use for something else or part of free space.
    Reused,
    /// Not known.
    Unknown,
}

/// Answers, for many blocks at once, which are still allocated.
#[derive(Debug, Default)]
pub struct Chunks {
    key: Option<u64>,
}

impl Chunks {
    /// The cache's key is not known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Is the cache's key known?
    #[must_use]
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Learns the key that glibc writes into blocks in its per-thread caches (2.34 and later: one
    /// random number for the process), from blocks just freed: the word at offset 8 of those whose
    /// link shows that they are in such a cache, if most of them agree. Tells whether it is known now.
    pub fn learn<M: Memory>(&mut self, memory: &M, freed: &[Addr]) -> bool {
        let mut votes: HashMap<u64, usize> = HashMap::new();
        for (p, chunk) in freed.iter().zip(read_chunks(memory, freed)) {
            let Some(chunk) = chunk.filter(|chunk| plausible(chunk.size_word)) else { continue };
            let [link, key, ..] = chunk.words();
            let cached = match link_of(memory, *p, link, chunk.size()) {
                Link::Masked(List::Cache) | Link::Plain(List::Cache) => true,
                // The first block of a list; only the cache has lists of such sizes.
                Link::Masked(List::End) | Link::Plain(List::End) => chunk.size() > MAX_FAST_CHUNK,
                _ => false,
            };
            if cached && key != 0 {
                *votes.entry(key).or_default() += 1;
            }
        }
        let all: usize = votes.values().sum();
        let first = votes.into_iter().max_by_key(|(_, votes)| *votes);
        if let Some((key, votes)) = first
            && votes >= AGREEING
            && 2 * votes > all
        {
            self.key = Some(key);
        }
        self.has_key()
    }

    /// Looks at blocks that are known to be allocated; None where there is no chunk of glibc's.
    pub fn see<M: Memory>(&self, memory: &M, blocks: &[Addr]) -> Vec<Option<ChunkSeen>> {
        let seen = |chunk: Option<Chunk>| {
            let Chunk { size_word, content, .. } = chunk?;
            plausible(size_word).then_some(ChunkSeen { size_word, content })
        };
        let read = read_chunks(memory, blocks).into_iter();
        read.zip(blocks).map(|(chunk, p)| seen(chunk).filter(|_| p.0.is_multiple_of(16))).collect()
    }

    /// What became of blocks since they were seen.
    pub fn states<M: Memory>(&self, memory: &M, blocks: &[(Addr, ChunkSeen)]) -> Vec<ChunkState> {
        let addrs: Vec<Addr> = blocks.iter().map(|(p, _)| *p).collect();
        let chunks = read_chunks(memory, &addrs);
        let around = Around::read(memory, &addrs, &chunks);
        let parts = blocks.iter().zip(&chunks).zip(&around);
        parts
            .map(|(((p, seen), chunk), around)| match chunk {
                Some(chunk) => self.state(memory, *p, seen, chunk, around),
                None => ChunkState::Free,
            })
            .collect()
    }

    fn state<M: Memory>(
        &self,
        memory: &M,
        p: Addr,
        seen: &ChunkSeen,
        chunk: &Chunk,
        around: &Around,
    ) -> ChunkState {
        let size = chunk.size();
        // PREV_INUSE is the neighbour's business: it may change.
        if (chunk.size_word ^ seen.size_word) & !PREV_INUSE != 0 {
            return ChunkState::Reused;
        }
        if chunk.size_word & IS_MMAPPED != 0 {
            return ChunkState::Live;
        }
        let Some(next) = around.next else { return ChunkState::Unknown };
        if next & !FLAGS > SENTINEL && !plausible(next) {
            return ChunkState::Unknown;
        }
        if next & PREV_INUSE == 0 {
            return ChunkState::Free;
        }
        // Freed together with a free chunk before it, the header stays as it was, but the chunk
        // before it has grown over it.
        if chunk.size_word & PREV_INUSE == 0 && around.previous.is_none_or(|s| s != chunk.previous)
        {
            return ChunkState::Free;
        }
        if size > MAX_CACHED_CHUNK {
            return ChunkState::Live;
        }
        self.small_state(memory, p, seen, chunk)
    }

    /// A small chunk that its neighbours take for allocated: it may wait in the per-thread cache
    /// (which writes a link and the key into it) or in a fast bin (which writes a link).
    fn small_state<M: Memory>(
        &self,
        memory: &M,
        p: Addr,
        seen: &ChunkSeen,
        chunk: &Chunk,
    ) -> ChunkState {
        let [link, key, ..] = chunk.words();
        if self.key == Some(key) {
            return ChunkState::Free;
        }
        if seen.content[..16] == chunk.content[..16] {
            return ChunkState::Live;
        }
        match link_of(memory, p, link, chunk.size()) {
            // No word of a live block is by chance mixed with the block's address like that.
            Link::Masked(_) => ChunkState::Free,
            Link::None => ChunkState::Live,
            Link::Plain(_) if self.has_key() && chunk.size() > MAX_FAST_CHUNK => ChunkState::Live,
            Link::Plain(_) => ChunkState::Unknown,
        }
    }
}

/// What the first word of a block looks like.
enum Link {
    /// A free list's link, mixed with its own address («safe linking», glibc 2.32 and later).
    Masked(List),
    /// What could be a link of an older glibc, or an ordinary pointer.
    Plain(List),
    /// No link.
    None,
}

/// Where a link leads.
enum List {
    /// To a block of the same size: the per-thread cache's way.
    Cache,
    /// To a chunk of the same size: a fast bin's way.
    Fast,
    /// Nowhere: the list ends.
    End,
}

fn link_of<M: Memory>(memory: &M, p: Addr, word: u64, size: u64) -> Link {
    let list = |to: u64| {
        let has_size = |at: Addr| memory.word(at).is_ok_and(|word| word & !FLAGS == size);
        if to == 0 {
            Some(List::End)
        } else if !to.is_multiple_of(16) || to >= 1 << 47 {
            None
        } else if has_size(Addr(to - 8)) {
            Some(List::Cache)
        } else {
            has_size(Addr(to + 8)).then_some(List::Fast)
        }
    };
    match list(word ^ (p.0 >> 12)) {
        Some(to) => Link::Masked(to),
        None => list(word).map_or(Link::None, Link::Plain),
    }
}

fn plausible(size_word: u64) -> bool {
    let size = size_word & !FLAGS;
    (MIN_CHUNK..MAX_CHUNK).contains(&size) && size.is_multiple_of(16)
}

/// A chunk's header and its block's start.
struct Chunk {
    previous: u64,
    size_word: u64,
    content: [u8; CONTENT],
}

impl Chunk {
    fn size(&self) -> u64 {
        self.size_word & !FLAGS
    }

    fn words(&self) -> [u64; CONTENT / 8] {
        let mut words = [0; CONTENT / 8];
        for (word, bytes) in words.iter_mut().zip(self.content.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        words
    }
}

/// None for those that could not be read: no longer mapped.
fn read_chunks<M: Memory>(memory: &M, blocks: &[Addr]) -> Vec<Option<Chunk>> {
    const READ: usize = HEADER as usize + CONTENT;
    let mut bytes = vec![[0; READ]; blocks.len()];
    let start = |p: &Addr| Addr(p.0.wrapping_sub(HEADER));
    let mut pieces: Vec<(Addr, &mut [u8])> =
        blocks.iter().zip(&mut bytes).map(|(p, bytes)| (start(p), &mut bytes[..])).collect();
    let read = memory.read_scattered(&mut pieces);
    let word = |bytes: &[u8]| bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
    let chunk = |bytes: &[u8; READ]| {
        let size_word = word(&bytes[8..])?;
        let mut content = *bytes.last_chunk()?;
        // The smallest block has 24 bytes; what follows is the next chunk's.
        if size_word & !FLAGS == MIN_CHUNK {
            content[24..].fill(0);
        }
        Some(Chunk { previous: word(bytes)?, size_word, content })
    };
    bytes.iter().zip(read).map(|(bytes, read)| if read { chunk(bytes) } else { None }).collect()
}

/// What the neighbours say.
#[derive(Default, Clone)]
struct Around {
    /// The next chunk's size word.
    next: Option<u64>,
    /// The size of the chunk before, where that one is said to be free.
    previous: Option<u64>,
}

impl Around {
    fn read<M: Memory>(memory: &M, blocks: &[Addr], chunks: &[Option<Chunk>]) -> Vec<Self> {
        let mut at = Vec::new();
        for (i, (p, chunk)) in blocks.iter().zip(chunks).enumerate() {
            let Some(chunk) = chunk.as_ref().filter(|chunk| plausible(chunk.size_word)) else {
                continue;
            };
            at.push((i, true, p.offset(chunk.size()).0.wrapping_sub(8)));
            if chunk.size_word & PREV_INUSE == 0 {
                at.push((i, false, p.0.wrapping_sub(chunk.previous).wrapping_sub(8)));
            }
        }
        let mut words = vec![[0; 8]; at.len()];
        let mut pieces: Vec<(Addr, &mut [u8])> =
            at.iter().zip(&mut words).map(|((.., at), word)| (Addr(*at), &mut word[..])).collect();
        let read = memory.read_scattered(&mut pieces);
        let mut around = vec![Self::default(); blocks.len()];
        for (((i, is_next, _), word), read) in at.iter().zip(&words).zip(read) {
            let (Some(around), true) = (around.get_mut(*i), read) else { continue };
            let word = u64::from_le_bytes(*word);
            if *is_next {
                around.next = Some(word);
            } else {
                around.previous = Some(word & !FLAGS);
            }
        }
        around
    }
}

#[cfg(test)]
#[path = "glibc_tests.rs"]
mod tests;
