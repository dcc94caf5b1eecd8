//! Paths as people write them, with `~` and variables in them.

use std::env;
use std::path::PathBuf;

/// The home folder, where there is one.
pub(crate) fn home() -> Option<PathBuf> {
    env::home_dir().filter(|home| !home.as_os_str().is_empty())
}

/// A path in which `~` at the start is the home folder, and `$NAME` and `${NAME}` are variables. What is not known stays
/// as it is written: most shells do the same, and where none did, a message shows what was meant.
pub(crate) fn expand(path: &str) -> String {
    expand_with(path, home(), |name| env::var(name).ok())
}

fn expand_with(path: &str, home: Option<PathBuf>, variable: impl Fn(&str) -> Option<String>) -> String {
    let home = home.and_then(|home| home.to_str().map(str::to_owned));
    shellexpand::full_with_context_no_errors(path, || home, variable).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_and_variables_are_filled_in() {
        let variable = |name: &str| (name == "DATA").then(|| "/mnt/data".to_owned());
        for (path, expanded) in [
            ("~/models", "/home/ada/models"),
            ("~", "/home/ada"),
            ("$DATA/c4.jsonl", "/mnt/data/c4.jsonl"),
            ("${DATA}2/~", "/mnt/data2/~"),
            ("a/~/b", "a/~/b"),
            ("$NOWHERE/x", "$NOWHERE/x"),
            ("~bob/x", "~bob/x"),
            ("5$.txt", "5$.txt"),
            ("", ""),
        ] {
            assert_eq!(expand_with(path, Some("/home/ada".into()), variable), expanded, "{path}");
        }
        assert_eq!(expand_with("~/models", None, variable), "~/models");
    }
}
