//! How the bursts are divided between pymalloc and the C library's heap.

/// Growth that tells, in bytes.
const LITTLE: f64 = 131_072.0;

/// Where little grows, pymalloc has twice as much, since it has many more sites to see.
const USUAL: f64 = 2.0 / 3.0;

/// Neither is left without: pymalloc has enough bursts to be cleared.
const PYMALLOC: (f64, f64) = (0.3, 0.85);

/// What has grown, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Growth {
    /// Live small blocks.
    pub small: f64,
    /// Resident anonymous memory.
    pub anonymous: f64,
    /// pymalloc's arenas, touched or not.
    pub arenas: f64,
    /// Mappings of neither heap, which are followed without bursts.
    pub mapped: f64,
}

/// The parts of pymalloc and of the C library's heap; together 1.
pub(super) fn of(growth: Growth) -> [f64; 2] {
    let small = growth.small.max(0.0);
    // Small blocks fill arenas that were there before, and new arenas are there before blocks fill them.
    let rest = (growth.anonymous - growth.mapped - growth.arenas.max(small)).max(0.0);
    let share = if small + rest < LITTLE { USUAL } else { small / (small + rest) };
    let share = share.clamp(PYMALLOC.0, PYMALLOC.1);
    [share, 1.0 - share]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1_048_576.0;

    fn pymalloc(small: f64, anonymous: f64, arenas: f64, mapped: f64) -> f64 {
        of(Growth { small, anonymous, arenas, mapped })[0]
    }

    #[test]
    fn what_grows_has_the_bursts() {
        assert_eq!(pymalloc(0.0, 5.0 * MIB, 0.0, 0.0), 0.3);
        assert_eq!(pymalloc(MIB, 2.0 * MIB, MIB, 0.0), 0.5);
        assert_eq!(pymalloc(0.0, 0.0, 0.0, 0.0), USUAL);
        assert_eq!(pymalloc(0.0, 5.0 * MIB, 0.0, 5.0 * MIB), USUAL);
    }

    #[test]
    fn small_blocks_that_fill_an_old_arena_are_not_the_c_heaps() {
        assert_eq!(pymalloc(MIB, MIB, 0.0, 0.0), 0.85);
        assert_eq!(pymalloc(0.2 * MIB, 0.2 * MIB, MIB, 0.0), 0.85);
    }
}
