//! Builds the eBPF programs from source into `$OUT_DIR/leak-ebpf`.

#[expect(dead_code, reason = "set-up uses the rest")]
#[path = "../xtask/src/setup/toolchain.rs"]
mod toolchain;

use anyhow::{Context as _, Result, anyhow, bail};
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

fn main() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the crate has no parent")?;
    for watched in ["leak-common", "Cargo.toml", "xtask/src/setup/toolchain.rs"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed={}", toolchain::OVERRIDE);

    let compiler = toolchain::find().map_err(|lacking| {
        anyhow!("no compiler for the eBPF programs; run `cargo xtask setup`\n{lacking}")
    })?;
    if toolchain::bpf_linker_version().is_none() {
        bail!("bpf-linker isn't on the path; run `cargo xtask setup`");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR isn't set")?);
    prepare_environment(&compiler, &out)?;
    share_between_profiles(&out)?;

    let ebpf = root.join("leak-ebpf");
    let root_dir = ebpf.to_str().context("the path of the workspace isn't UTF-8")?;
    let package = aya_build::Package { name: "leak-ebpf", root_dir, ..Default::default() };
    aya_build::build_ebpf([package], aya_build::Toolchain::Custom(&compiler.name))
        .context("the eBPF programs don't build; `cargo xtask setup` checks their toolchain")
}

/// The compiler and linker that aya-build starts inherit this process's environment.
fn prepare_environment(compiler: &toolchain::Toolchain, out: &Path) -> Result<()> {
    // bpf-linker takes the first libLLVM on the library path, of whatever version: offer it a
    // directory that holds only the right one.
    let llvm = out.join("llvm");
    fs::create_dir_all(&llvm)?;
    link_to(&compiler.llvm, &llvm.join(format!("libLLVM-{}.so", toolchain::LLVM_MAJOR)))?;
    let inherited = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let libraries = env::join_paths(
        [llvm]
            .into_iter()
            .chain(env::split_paths(&inherited).filter(|p| !p.as_os_str().is_empty())),
    )?;

    // SAFETY: no other thread runs yet.
    unsafe {
        env::set_var("LD_LIBRARY_PATH", libraries);
        if compiler.bootstrap {
            env::set_var("RUSTC_BOOTSTRAP", "1");
        }
    }
    Ok(())
}

/// The eBPF programs are the same for each profile and for clippy and rustdoc, each of which has a directory of its own
/// (`TARGET/PROFILE/build/PACKAGE-HASH/out`): what aya-build keeps in it is kept in `TARGET/aya-build`, once.
fn share_between_profiles(out: &Path) -> Result<()> {
    let target = out.ancestors().nth(4).context("OUT_DIR is nowhere below a target directory")?;
    let shared = target.join("aya-build");
    fs::create_dir_all(&shared)?;
    link_to(&shared, &out.join("aya-build"))
}

/// Makes `link` a link to `to`, whatever it was before.
fn link_to(to: &Path, link: &Path) -> Result<()> {
    match fs::symlink_metadata(link) {
        Ok(old) if old.is_dir() => fs::remove_dir_all(link)?,
        Ok(_) => fs::remove_file(link)?,
        Err(_) => {}
    }
    Ok(symlink(to, link)?)
}
