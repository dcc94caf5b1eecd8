//! `secateur completions` and `secateur man`.

use std::process::{Command, Output};

use secateur::config::settings;

fn secateur(line: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
    // What stands in variables is nobody's business.
    command.args(line).env("SECATEUR_MODEL", "/secret/model").output().unwrap()
}

fn text(line: &[&str]) -> String {
    let output = secateur(line);
    assert_eq!(output.status.code(), Some(0), "{line:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("secret"), "{line:?} prints the value of a variable");
    text
}

#[test]
fn every_shell_gets_a_script_with_every_command_and_setting() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&["completions", shell]);
        for command in ["run", "find", "doctor", "export", "list", "show", "snapshot", "completions", "man"] {
            assert!(script.contains(command), "{shell}: {command}");
        }
        for setting in settings() {
            assert!(script.contains(setting.flag()), "{shell}: --{}", setting.flag());
        }
    }
    let refused = secateur(&["completions", "csh"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("zsh"));
}

/// What bash offers for a line whose last word is being typed.
#[cfg(unix)]
fn bash_offers(line: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("secateur.bash");
    std::fs::write(&script, text(&["completions", "bash"])).unwrap();
    let last = line.len() - 1;
    let (word, before) = (line[last], line[last - 1]);
    let ask = format!(
        "source '{}'; COMP_WORDS=({}); COMP_CWORD={last}; _secateur secateur '{word}' '{before}'; \
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        script.display(),
        line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
    );
    let output = Command::new("bash").args(["--norc", "-c", &ask]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[cfg(unix)]
#[test]
fn bash_completes_commands_flags_and_values() {
    assert_eq!(bash_offers(&["secateur", "snap"]), ["snapshot"]);
    assert_eq!(bash_offers(&["secateur", "run", "--batch-"]), ["--batch-tokens", "--batch-prompts"]);
    assert_eq!(bash_offers(&["secateur", "run", "--dtype", "b"]), ["bf16"]);
    assert_eq!(bash_offers(&["secateur", "doctor", "--device", ""]), ["auto", "cpu", "cuda"]);
}

#[test]
fn manual_pages_have_every_command_and_setting() {
    let page = text(&["man"]);
    assert!(page.contains(".TH secateur 1"), "{page}");
    for command in ["run", "doctor", "export"] {
        assert!(page.contains(&format!("secateur\\-{command}(1)")), "{command}:\n{page}");
    }
    let run = text(&["man", "run"]);
    assert!(
        run.contains(".TH secateur-run 1") && run.contains(".SH EXAMPLE") || run.contains("Example"),
        "{run}"
    );
    for setting in settings() {
        let flag = format!("\\-\\-{}", setting.flag().replace('-', "\\-"));
        assert!(run.contains(&flag), "no {flag} in\n{run}");
        let start = &setting.about()[..setting.about().len().min(20)];
        assert!(run.contains(&start.replace('-', "\\-")), "{start}");
    }
    assert!(run.contains("[default: 2048]"), "{run}");
    let refused = secateur(&["man", "prune"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("accepted are tui, run, "));
}
