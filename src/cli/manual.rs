//! What the command line says about itself to shells and `man`: completion scripts and manual pages.

use clap_complete::{Shell, generate};
use clap_mangen::Man;

use super::Cli;
use crate::error::{Error, Result};

/// The script that a shell completes command lines with.
pub fn completions(shell: Shell) -> String {
    let mut script = Vec::new();
    generate(shell, &mut Cli::parser(), "secateur", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// The manual page of the program, or of one of its commands, in troff.
///
/// # Errors
/// [`Error::Mistake`] for a command that is none.
pub fn manual_page(command: Option<&str>) -> Result<String> {
    let mut parser = Cli::parser();
    // Gives commands their whole name and the flags that all of them take.
    parser.build();
    let page = match command {
        None => parser,
        Some(name) => parser.find_subcommand(name).cloned().ok_or_else(|| {
            let known: Vec<&str> = parser.get_subcommands().map(clap::Command::get_name).collect();
            Error::mistake(format!("unknown command `{name}`: accepted are {}", known.join(", ")))
        })?,
    };
    let mut troff = Vec::new();
    Man::new(page)
        .render(&mut troff)
        .map_err(|e| Error::failure(format!("cannot write the manual page: {e}")))?;
    Ok(String::from_utf8_lossy(&troff).into_owned())
}
