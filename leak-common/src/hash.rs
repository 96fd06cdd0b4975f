//! The stack hash: 64 bits, fed a word at a time, cheap enough for the hot path.

/// Start value; the generation makes all stacks new after a code object's address was reused.
#[inline(always)]
pub const fn start(generation: u64) -> u64 {
    mix(0x9e37_79b9_7f4a_7c15 ^ generation)
}

/// Feeds one word.
#[inline(always)]
pub const fn feed(hash: u64, word: u64) -> u64 {
    (hash ^ word).wrapping_mul(0x2127_599b_f432_5c37).rotate_left(29)
}

/// Finishes a hash; never 0, so that 0 can mean «no stack».
#[inline(always)]
pub const fn finish(hash: u64) -> u64 {
    let hash = mix(hash);
    if hash == 0 { 1 } else { hash }
}

#[inline(always)]
const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_generation_matter() {
        let ab = finish(feed(feed(start(0), 1), 2));
        let ba = finish(feed(feed(start(0), 2), 1));
        let later = finish(feed(feed(start(1), 1), 2));
        assert_ne!(ab, ba);
        assert_ne!(ab, later);
    }
}
