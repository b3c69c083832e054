//! A second process that says so if this one ends in the driver of a device.
//!
//! A driver that crashes takes its process along, without a message. Before a device is used this program starts itself once more;
//! that process waits until the pipe between the two closes, and speaks if nothing was written to it before.

use std::io::{Read, Write};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, PoisonError};

/// The variable that makes a process the second one; it holds the device.
const DEVICE: &str = "EQUIPOISE_LIFELINE";

static LINE: Mutex<Option<ChildStdin>> = Mutex::new(None);

/// Starts the second process. Without it all goes on as it would, and a crash has no message.
pub fn hold(device: &str) {
    let started = std::env::current_exe().and_then(|program| {
        let mut command = Command::new(program);
        command.env(DEVICE, device).stdin(Stdio::piped()).stdout(Stdio::null());
        // Of its own group, so that Ctrl-C does not reach it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.spawn()
    });
    match started {
        Ok(mut child) => *LINE.lock().unwrap_or_else(PoisonError::into_inner) = child.stdin.take(),
        Err(error) => tracing::debug!("a crash of the device's driver will have no message: {error}"),
    }
}

/// This process ends by its own will.
pub fn release() {
    if let Some(mut line) = LINE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = line.write_all(b".");
    }
}

/// What the second process does, if this is it. Whether it was.
pub fn watched() -> bool {
    let Ok(device) = std::env::var(DEVICE) else { return false };
    let mut said = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut said);
    if said.is_empty() {
        eprintln!(
            "error: the process ended by a signal while it used the device {device}: its driver crashed, as a rule; update the \
             driver, use another device, or --device cpu. What was kept before can be resumed"
        );
    }
    true
}
