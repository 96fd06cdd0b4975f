//! Real programs under real probes, with the truth beside them.
