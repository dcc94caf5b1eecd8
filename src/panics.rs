//! Panics of libraries that are expected where files are damaged.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::interrupt::panic_message;

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread, if one comes now, is caught and told as a mistake in a file: no report of it is
/// wanted.
pub fn expected() -> bool {
    EXPECTED.get()
}

/// Runs code of a library that asserts what only whole files have; a panic is an error like its others.
///
/// # Errors
/// What the code says, or what the panic says.
pub(crate) fn catch<T, E: ToString>(work: impl FnOnce() -> Result<T, E>) -> Result<T, String> {
    EXPECTED.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(false);
    match result {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(panic) => {
            Err(format!("it is damaged, or of a kind that is not known ({})", panic_message(&*panic)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_others_stay_what_they_are() {
        assert_eq!(catch(|| Ok::<_, String>(expected())), Ok(true));
        assert_eq!(catch(|| Err::<(), _>("cut off")), Err("cut off".into()));
        let why = catch(|| if expected() { panic!("level {}", 3) } else { Ok::<(), String>(()) });
        assert_eq!(why, Err("it is damaged, or of a kind that is not known (level 3)".into()));
        assert!(!expected());
    }
}
