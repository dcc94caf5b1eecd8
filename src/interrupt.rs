//! Work that cannot be asked to stop, ended all the same.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::Builder;
use std::time::Duration;

use crate::error::{Error, Result};

/// Asked again and again during long work: `Ok` is to go on, an error ends the work.
pub(crate) type GoOn<'a> = dyn FnMut() -> Result<()> + 'a;

/// How often work on another thread is interrupted for the question whether to go on.
const INTERVAL: Duration = Duration::from_millis(20);

/// Set when nobody waits for the work any more.
#[derive(Debug, Clone, Default)]
pub(crate) struct Abandoned(Arc<AtomicBool>);

impl Abandoned {
    /// Ends work that asks between its steps.
    ///
    /// # Errors
    /// [`Error::Cancelled`].
    pub fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }
}

/// Runs work on a thread of its own while this one asks `go_on`. Where that says no, the work is left alone: it ends at
/// its next look at [`Abandoned`], or with the process.
///
/// # Errors
/// What `go_on` or the work says; [`Error::Failure`] when the work panics.
pub(crate) fn interruptible<T: Send + 'static>(
    go_on: &mut GoOn<'_>,
    work: impl FnOnce(&Abandoned) -> Result<T> + Send + 'static,
) -> Result<T> {
    go_on()?;
    let abandoned = Abandoned::default();
    let (sender, result) = mpsc::sync_channel(1);
    let job = {
        let abandoned = abandoned.clone();
        move || {
            // Nobody listens to work that was abandoned.
            let _ = sender.send(work(&abandoned));
        }
    };
    let thread = Builder::new()
        .name("interruptible".into())
        .spawn(job)
        .map_err(|e| Error::failure(format!("cannot start a thread: {e}")))?;
    loop {
        match result.recv_timeout(INTERVAL) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {
                go_on().inspect_err(|_| abandoned.0.store(true, Ordering::Relaxed))?;
            }
            // The thread has ended without a result.
            Err(RecvTimeoutError::Disconnected) => {
                let panic = thread.join().err();
                let message = panic.as_deref().map_or("without a message", panic_message);
                return Err(Error::failure(format!("a defect in secateur: {message}")));
            }
        }
    }
}

/// What a panic says.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

/// Waits, and goes on asking meanwhile.
///
/// # Errors
/// What `go_on` says.
pub(crate) fn sleep(time: Duration, go_on: &mut GoOn<'_>) -> Result<()> {
    let mut left = time;
    loop {
        go_on()?;
        if left.is_zero() {
            return Ok(());
        }
        let step = left.min(INTERVAL);
        std::thread::sleep(step);
        left -= step;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// Says no when asked for the `n`th time.
    fn no_at(n: usize) -> impl FnMut() -> Result<()> {
        let mut asked = 0;
        move || {
            asked += 1;
            assert!(asked <= n, "asked again after a no");
            if asked == n { Err(Error::Cancelled) } else { Ok(()) }
        }
    }

    #[test]
    fn work_that_is_not_interrupted_gives_its_result() {
        assert_eq!(interruptible(&mut || Ok(()), |_| Ok(7)).unwrap(), 7);
        let failed = interruptible::<()>(&mut || Ok(()), |_| Err(Error::mistake("no")));
        assert!(matches!(failed, Err(Error::Mistake(_))));
        let paniced = interruptible::<()>(&mut || Ok(()), |_| panic!("oh"));
        assert_eq!(paniced.unwrap_err().to_string(), "a defect in secateur: oh");
    }

    #[test]
    fn work_that_never_ends_is_left_alone_and_told() {
        let (told, heard) = mpsc::channel();
        let result = interruptible::<()>(&mut no_at(3), move |abandoned| {
            loop {
                if let Err(error) = abandoned.check() {
                    let _ = told.send(());
                    return Err(error);
                }
            }
        });
        assert!(matches!(result, Err(Error::Cancelled)));
        heard.recv_timeout(Duration::from_mins(1)).expect("the work was told");
    }

    #[test]
    fn a_no_before_the_work_begins_keeps_it_from_beginning() {
        let result = interruptible::<()>(&mut no_at(1), |_| panic!("begun"));
        assert!(matches!(result, Err(Error::Cancelled)));
    }

    #[test]
    fn a_wait_ends_at_once_when_told_to() {
        let began = Instant::now();
        assert!(matches!(sleep(Duration::from_hours(1), &mut no_at(2)), Err(Error::Cancelled)));
        assert!(began.elapsed() < Duration::from_mins(1));
        sleep(Duration::from_millis(50), &mut || Ok(())).unwrap();
    }
}
