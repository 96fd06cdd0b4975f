//! How a command that goes on is ended by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

/// Set by the first SIGINT, SIGTERM or SIGHUP; the second one ends leaktrace at once.
#[must_use]
pub fn on_signal() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&stop);
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let listen = async {
            let mut interrupt = signal(SignalKind::interrupt())?;
            let mut terminate = signal(SignalKind::terminate())?;
            let mut hang_up = signal(SignalKind::hangup())?;
            for earlier in [false, true] {
                let number = tokio::select! {
                    _ = interrupt.recv() => 2,
                    _ = terminate.recv() => 15,
                    _ = hang_up.recv() => 1,
                };
                set.store(true, Ordering::Relaxed);
                if earlier {
                    // The kernel removes the probes of a process that ends.
                    std::process::exit(128 + number);
                }
            }
            Ok::<(), std::io::Error>(())
        };
        if let Err(error) = runtime.and_then(|runtime| runtime.block_on(listen)) {
            tracing::warn!("signals end leaktrace without a report: {error}");
        }
    });
    stop
}
