//! Lets the user side put these structs into maps and globals.

use crate::{config, gpu, keys, threads, tree};

// SAFETY (for all below): `repr(C)`, integers only, no padding (`size_of` asserted), any bytes valid.
macro_rules! pod {
    ($($t:ty = $size:expr),* $(,)?) => {$(
        const _: () = assert!(size_of::<$t>() == $size);
        // SAFETY: see above the macro.
        unsafe impl aya::Pod for $t {}
    )*};
}

pod! {
    config::Config = 8 * (5 + 2 + 2 + 15 + 7),
    config::Gate = 8 * 11,
    keys::SiteKey = 24,
    keys::SiteCounts = 16,
    keys::LiveBlock = 8 * 17,
    keys::Pending = 72,
    keys::PoolSeen = 16,
    config::Range = 16,
    gpu::Call = 16,
    gpu::Block = 48,
    gpu::Totals = 64,
    gpu::Pool = 24,
    tree::TaskConfig = 8 * 5,
    threads::ThreadsConfig = 8 * 3,
}
