//! Reading the kernel's own structures, whose offsets the user side knows from BTF.

use aya_ebpf::helpers::bpf_probe_read_kernel;

/// Reads a field of a structure; all zeros where it can't be read.
#[inline(always)]
pub fn field<T: Default>(structure: u64, offset: u64) -> T {
    // SAFETY: the helper checks the address; T is plain integers at every use.
    unsafe { bpf_probe_read_kernel((structure + offset) as *const T) }.unwrap_or_default()
}
