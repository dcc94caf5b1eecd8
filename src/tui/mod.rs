//! The dashboard: a client of the engine in a terminal.
//!
//! Messages change the [`state`] in [`update`], and in no other way; [`view`] draws it, at any size, and does nothing
//! else. What is to be done outside, [`update`] returns as effects, which [`runtime`] and [`effects`] do. The table of
//! keys is data ([`keymap`]). Nothing in here knows of tensors.

mod choices;
pub mod effects;
mod input;
pub mod keymap;
mod logfile;
mod message;
mod palette;
pub mod picture;
mod runtime;
mod screens;
mod snapshot;
mod state;
mod tabs;
mod terminal;
#[cfg(test)]
mod testing;
pub mod theme;
mod update;
mod view;
mod widgets;

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use crate::error::{Error, Result};
use crate::headless::{self, quote};
use crate::results::StudyResult;
use crate::text;
pub use runtime::{Setup, StartsWith};
use state::Leave;

/// Why there is nothing to draw on or to read keys from; `None` where there is a terminal that can.
pub fn why_impossible(env: &dyn Fn(&str) -> Option<String>) -> Option<&'static str> {
    if !io::stdout().is_terminal() {
        Some("standard output is not a terminal")
    } else if !io::stdin().is_terminal() {
        Some("standard input is not a terminal")
    } else if env("TERM").is_some_and(|term| term == "dumb") {
        Some("TERM is dumb: this terminal cannot place text")
    } else {
        None
    }
}

/// Runs the dashboard in this process's terminal; `render` makes the table that is left behind.
///
/// Returns the exit code: 0, or 130 where work was left unfinished.
///
/// # Errors
/// What the terminal refuses; after leaving, what the engine says.
pub fn run(setup: Setup, render: impl Fn(&StudyResult) -> String) -> Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::failure(format!("cannot start the event loop: {e}")))?;
    let code = runtime.block_on(async {
        let left = runtime::run(setup).await?;
        let state = left.state;
        if let Some(why) = left.not_kept {
            say(&format!("the choices on the Compare screen are not kept: {why}"));
        }
        match left.leave {
            Leave::Headless => {
                say("continuing without the screen; Ctrl-C stops after the current block");
                let shown = state.study_view.as_ref().filter(|_| state.shows_engine_study());
                let cells = shown.iter().flat_map(|shown| &shown.cells).map(|cell| (&cell.spec, cell.state));
                let resume = format!("R on History, in {}", reopening(&state.options.store));
                let outcome =
                    headless::attach(left.engine, state.options.keep_running, cells, resume, render).await?;
                return Ok(outcome.exit_code());
            }
            Leave::Abandon => {}
            Leave::Now => left.engine.join(),
        }
        let worked = state.engine.study.is_some();
        if let (true, Some(study_view)) = (worked && state.shows_engine_study(), &state.study_view) {
            let (done, all) = study_view.progress();
            if done > 0 || !study_view.base.metrics.values.is_empty() {
                println(&render(&study_view.result()));
            }
            let store = state.options.store.display().to_string();
            say(&format!("study {} is saved in {}", study_view.study, text::escape(&store)));
            if done < all {
                let again = reopening(&state.options.store);
                say(&format!("{done} of {all} cells are done; R on History resumes, in {again}"));
                return Ok(130);
            }
        }
        Ok(if left.leave == Leave::Abandon { 130 } else { 0 })
    });
    runtime.shutdown_background();
    code
}

/// The command that opens the dashboard on a store.
fn reopening(store: &Path) -> String {
    text::escape(&format!("secateur --store {}", quote(&store.display().to_string()))).into_owned()
}

/// Prints the result; a reader that has gone is no reason to fail.
fn println(text: &str) {
    let _ = writeln!(io::stdout(), "{text}");
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}
