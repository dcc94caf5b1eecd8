//! The command line that resumes an interrupted run.

use crate::cli::screen_flags;

/// The same command line with `--resume`, quoted for a shell.
pub(crate) fn resume_command(args: &[String]) -> String {
    let command = args.iter().position(|arg| ["run", "find"].contains(&arg.as_str()));
    let Some(command) = command else { return resumed_without_screen(args) };
    let mut words: Vec<String> = args.iter().map(|arg| quote(arg)).collect();
    if !args.iter().any(|arg| arg == "--resume") {
        words.insert(command + 1, "--resume".into());
    }
    words.join(" ")
}

/// The same of the dashboard's command line, which ran the study without a screen.
fn resumed_without_screen(args: &[String]) -> String {
    let screen_flags = screen_flags();
    let mut words = Vec::new();
    let mut rest = args.iter().enumerate();
    while let Some((at, arg)) = rest.next() {
        let flag = arg.split_once('=').map_or(arg.as_str(), |(flag, _)| flag);
        match screen_flags.iter().find(|(known, _)| known == flag) {
            Some((_, has_value)) if *has_value && flag == arg => drop(rest.next()),
            Some(_) => {}
            None if at > 0 && arg == "tui" => {}
            None => words.push(quote(arg)),
        }
    }
    let after_program = words.len().min(1);
    words.splice(after_program..after_program, ["run".into(), "--resume".into()]);
    words.join(" ")
}

/// One word of a POSIX shell; control characters in the `$'…'` form, so that the line is safe to show.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "@%+=:,./-_".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    if !word.chars().any(char::is_control) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut quoted = String::from("$'");
    for c in word.chars() {
        match c {
            '\\' | '\'' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&control(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('\'');
    quoted
}

fn control(c: char) -> String {
    format!("\\u{:04x}", u32::from(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resumed(args: &[&str]) -> String {
        resume_command(&args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_same_line_with_resume_can_be_pasted_into_a_shell() {
        assert_eq!(
            resumed(&[
                "./secateur",
                "run",
                "--model",
                "my model",
                "--sparsity",
                "0.5,2:4",
                "--prompt",
                "it's"
            ]),
            r"./secateur run --resume --model 'my model' --sparsity 0.5,2:4 --prompt 'it'\''s'"
        );
        assert_eq!(
            resumed(&["secateur", "run", "--resume", "--tasks", ""]),
            "secateur run --resume --tasks ''"
        );
        assert_eq!(
            resumed(&["secateur", "find", "--recipe", "wanda", "--until", "js<=0.05"]),
            "secateur find --resume --recipe wanda --until 'js<=0.05'"
        );
        assert_eq!(
            resumed(&["secateur", "--store", "s.db", "--no-tui", "--colors", "none", "--ascii=false"]),
            "secateur run --resume --store s.db"
        );
        assert_eq!(resumed(&["secateur", "tui", "--demo", "--colors=256"]), "secateur run --resume --demo");
        assert_eq!(
            resumed(&["secateur", "--config", "c.toml", "run", "--prompt", "a\n\u{1b}'"]),
            r"secateur --config c.toml run --resume --prompt $'a\n\u001b\''"
        );
    }

    #[test]
    fn a_shell_reads_the_words_back() {
        let words = ["$HOME", "a b", "'", "\"", "`x`", "\\", "~", "*", "", "!", "#", "é"];
        let line = words.map(quote).join(" ");
        let shell = std::process::Command::new("sh").arg("-c").arg(format!("printf '%s\\n' {line}")).output();
        let said = String::from_utf8(shell.unwrap().stdout).unwrap();
        assert_eq!(said.lines().collect::<Vec<_>>(), words);
    }
}
