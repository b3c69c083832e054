//! Ctrl-C: the first asks the work to stop where it can be resumed, the second ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Whether somebody asked to stop.
pub fn asked() -> bool {
    ASKED.load(Ordering::Relaxed)
}

/// From now on, Ctrl-C (and SIGTERM) asks instead of killing.
pub fn listen() {
    let handler = || {
        if ASKED.swap(true, Ordering::Relaxed) {
            crate::lifeline::release();
            std::process::exit(1);
        }
        tracing::warn!("stopping at the next safe point; once more to stop at once");
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        // Without a handler Ctrl-C still ends the process; checkpoints are written all the same.
        tracing::debug!("no Ctrl-C handler: {error}");
    }
}
