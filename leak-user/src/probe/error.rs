//! What can go wrong between leaktrace and the kernel.

/// Loading, attaching or reading failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The object was refused as a whole (a map could not be made, BTF was refused).
    #[error("the kernel refused the eBPF object")]
    Load(#[source] Box<aya::EbpfError>),
    /// The verifier or the attach call refused one program.
    #[error("the kernel refused the eBPF program `{program}`")]
    Program {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: Box<aya::programs::ProgramError>,
    },
    /// The object is damaged.
    #[error("the eBPF object can't be understood; build leaktrace again")]
    Object(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel refused a program, or to attach it.
    #[error("the kernel refused the eBPF program `{program}`")]
    Refused {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A map could not be read or written.
    #[error("the eBPF map `{map}` can't be used")]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        #[source]
        source: aya::maps::MapError,
    },
    /// The object lacks something: it was built from other sources.
    #[error("the eBPF object has no `{0}`; build leaktrace again")]
    Missing(String),
    /// tracefs is neither mounted nor mountable.
    #[error("tracefs can't be mounted; run `mount -t tracefs tracefs /sys/kernel/tracing`")]
    NoTracefs(#[source] nix::Error),
    /// A tracepoint's format could not be understood.
    #[error("the kernel's tracepoint `{0}` can't be understood")]
    TracepointFormat(&'static str),
    /// The process that holds the probes can't be started, or is gone.
    #[error("the process that holds the probes failed")]
    Keeper(#[source] std::io::Error),
    /// There is no open burst to close.
    #[error("no burst is open")]
    NoBurst,
    /// The program's file could not be read.
    #[error("`{path}` can't be read")]
    File {
        /// Its path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Says which program it was that could not be loaded or attached.
pub(super) fn refused(program: &str) -> impl Fn(aya::programs::ProgramError) -> ProbeError {
    move |source| ProbeError::Program { program: program.to_owned(), source: Box::new(source) }
}
