//! The signals that ask a process to stop, as messages.

use tokio::sync::mpsc;

use crate::error::{Error, Result};

/// Listens from now on to `SIGINT`, `SIGTERM` and `SIGHUP` (elsewhere: Ctrl-C); each that comes is one message. A
/// signal that the process was started to ignore (`nohup`, a background job) stays ignored, and so does `SIGHUP` where
/// the terminal may go.
///
/// # Errors
/// [`Error::Failure`] when the system refuses a handler.
#[cfg(unix)]
pub(super) fn listen(terminal_may_go: bool) -> Result<mpsc::Receiver<()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let ignored = ignored_mask();
    let (sender, receiver) = mpsc::channel(8);
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let expected = terminal_may_go && kind == SignalKind::hangup();
        if expected || ignored & (1 << (kind.as_raw_value() - 1)) != 0 {
            continue;
        }
        let mut signals =
            signal(kind).map_err(|e| Error::failure(format!("cannot listen to signals: {e}")))?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send(()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(receiver)
}

/// Bit `n - 1` is set where signal `n` is ignored; zero where that cannot be told.
#[cfg(unix)]
fn ignored_mask() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
}

#[cfg(not(unix))]
pub(super) fn listen(_: bool) -> Result<mpsc::Receiver<()>> {
    let (sender, receiver) = mpsc::channel(8);
    tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if sender.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}
