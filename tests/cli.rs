//! The program as a person at a shell sees it: exit codes, messages, precedence of settings.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// The program in an empty working folder, with a home of its own and no variables of the machine's.
struct Shell {
    folder: TempDir,
}

struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Shell {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn command(&self, line: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_secateur"));
        command.args(line).current_dir(self.path()).env_clear().stdin(Stdio::null());
        command.env("HOME", self.path().join("home"));
        command
    }

    fn run(&self, line: &[&str]) -> Said {
        said(&self.command(line).output().unwrap())
    }
}

fn said(output: &Output) -> Said {
    Said {
        code: output.status.code(),
        out: String::from_utf8(output.stdout.clone()).unwrap(),
        err: String::from_utf8(output.stderr.clone()).unwrap(),
    }
}

/// What a command that succeeds prints as JSON.
fn json(command: &mut Command) -> serde_json::Value {
    let said = said(&command.output().unwrap());
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).unwrap()
}

/// A mistake: exit code 2, nothing on stdout, one line on stderr that has all of `parts` in it.
fn assert_mistake(said: &Said, parts: &[&str]) {
    assert_eq!(said.code, Some(2), "{}", said.err);
    assert!(said.out.is_empty(), "{}", said.out);
    assert!(said.err.starts_with("error: ") && said.err.lines().count() == 1, "{}", said.err);
    for part in parts {
        assert!(said.err.contains(part), "no `{part}` in: {}", said.err);
    }
}

#[test]
fn options_without_a_command_are_the_dashboards() {
    let said = Shell::new().run(&["--config", "c.toml"]);
    assert_mistake(&said, &["c.toml"]);
    let help = Shell::new().run(&["--help"]);
    for command in ["tui", "run", "find", "doctor", "export", "list", "show", "snapshot", "Usage"] {
        assert!(help.out.contains(command), "{}", help.out);
    }
}

#[test]
fn who_only_looks_runs_nothing() {
    let shell = Shell::new();
    let said = shell.run(&["--no-tui", "--readonly", "--store", "s.db"]);
    assert_mistake(&said, &["--no-tui", "--readonly", "secateur show"]);
    assert!(!shell.path().join("s.db").exists());
}

#[test]
fn help_names_every_setting_with_its_variable_and_default() {
    let said = Shell::new().run(&["run", "--help"]);
    assert_eq!(said.code, Some(0));
    let flags = "model methods sparsity seq-len seed calibration calibration-samples sampling corpus max-windows \
                 tasks task-limit shots shots-from max-new-tokens prompt modules blocks damping block-size profile device dtype \
                 threads batch-tokens batch-prompts offline store save-models format";
    for flag in flags.split_whitespace() {
        assert!(said.out.contains(&format!("--{flag}")), "--{flag}");
        let variable = format!("SECATEUR_{}", flag.to_uppercase().replace('-', "_"));
        assert!(said.out.contains(&variable), "{variable}");
    }
    for text in ["--resume", "--dry-run", "--force", "[default: 2048]", "[default: 128]", "[default: auto]"] {
        assert!(said.out.contains(text), "{text}");
    }
    assert!(said.err.is_empty());
}

#[test]
fn the_version_is_the_packages() {
    let said = Shell::new().run(&["--version"]);
    assert_eq!((said.code, said.out.trim()), (Some(0), concat!("secateur ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn what_the_command_line_does_not_know_is_a_mistake() {
    for line in [["run", "--modle"], ["prune", "x"], ["run", "--seq-len=long"], ["doctor", "--format=xml"]] {
        let said = Shell::new().run(&line);
        assert_eq!(said.code, Some(2), "{line:?}: {}", said.err);
        assert!(said.err.starts_with("error: ") && said.out.is_empty(), "{}", said.err);
    }
    let said = Shell::new().run(&["run", "--seq-len", "-3"]);
    assert!(
        said.err.contains("`-3`") && said.err.contains("a whole number, 2 or more, up to 1000000000"),
        "{}",
        said.err
    );
}

#[test]
fn mistakes_in_flags_are_one_line_each() {
    let shell = Shell::new();
    for (flag, value, parts) in [
        ("--sparsity", "1.0", ["--sparsity", "`1.0`", "2:4"]),
        ("--sparsity", "-0.1", ["--sparsity", "`-0.1`", "2:4"]),
        ("--sparsity", "4:2", ["--sparsity", "`4:2`", "2:4"]),
        ("--methods", "wonda", ["--methods", "`wonda`", "wanda"]),
        ("--dtype", "f64", ["--dtype", "`f64`", "bf16"]),
        ("--device", "gpu", ["--device", "`gpu`", "cuda:N"]),
        ("--format", "csv", ["--format", "`csv`", "jsonl"]),
        ("--calibration-samples", "0", ["--calibration-samples", "`0`", "1 or more"]),
    ] {
        assert_mistake(&shell.run(&["run", "--model", "m", flag, value]), &parts);
    }
    assert_mistake(&shell.run(&["run"]), &["--model", "SECATEUR_MODEL", "config.toml"]);
}

#[cfg(not(feature = "cuda"))]
#[test]
fn cuda_in_a_build_without_it_says_how_to_build_it() {
    let shell = Shell::new();
    assert_mistake(&shell.run(&["run", "--model", "m", "--device", "cuda"]), &["`cuda`", "--features cuda"]);
    assert_mistake(&shell.run(&["doctor", "--device", "cuda:1"]), &["`cuda:1`", "--features cuda"]);
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_the_accepted_keys() {
    let shell = Shell::new();
    shell.write("config.toml", "[study]\nmodel = \"m\"\nsparsities = [0.5]\n");
    let said = shell.run(&["run"]);
    assert_mistake(&said, &["config.toml:3", "`sparsities`", "`sparsity`", "--config"]);

    shell.write("mine.toml", "[study]\nmodel = 3\n");
    let said = shell.run(&["--config", "mine.toml", "run"]);
    assert_mistake(&said, &["mine.toml:2", "`model`", "integer `3`", "string"]);

    let said = shell.run(&["run", "--config", "none.toml"]);
    assert_mistake(&said, &["cannot read the config file none.toml"]);
}

#[test]
fn flags_win_over_variables_which_win_over_the_file_which_wins_over_the_defaults() {
    let shell = Shell::new();
    let doctor = ["doctor", "--format", "json"];
    let cores = json(&mut shell.command(&doctor))["processor"]["cores"].clone();
    let threads = |command: &mut Command| json(command)["processor"]["threads"].clone();
    assert_eq!(threads(&mut shell.command(&doctor)), cores);

    shell.write("config.toml", "[compute]\nthreads = 3\n");
    assert_eq!(threads(&mut shell.command(&doctor)), 3);
    assert_eq!(threads(shell.command(&doctor).env("SECATEUR_THREADS", "4")), 4);
    let with_flag = ["doctor", "--format", "json", "--threads", "5"];
    assert_eq!(threads(shell.command(&with_flag).env("SECATEUR_THREADS", "4")), 5);
}

#[test]
fn a_mistake_in_a_variable_or_file_names_it() {
    let shell = Shell::new();
    let mut run = shell.command(&["run", "--model", "m"]);
    assert_mistake(
        &said(&run.env("SECATEUR_SAMPLING", "tail").output().unwrap()),
        &["SECATEUR_SAMPLING", "`tail`", "head"],
    );
    shell.write("config.toml", "[study]\nmodel = \"m\"\n\n[prune]\nblocks = \"8..2\"\n");
    assert_mistake(&shell.run(&["run"]), &["config.toml:5", "`blocks`", "`8..2`", "a..b"]);
}

#[test]
fn the_config_file_is_looked_for_in_the_working_folder_then_in_the_config_folder() {
    let shell = Shell::new();
    let doctor = ["doctor", "--format", "json"];
    let file = |command: &mut Command| json(command)["config_file"].clone();
    assert!(file(&mut shell.command(&doctor)).is_null());

    shell.write("home/.config/secateur/config.toml", "");
    let found = file(&mut shell.command(&doctor));
    assert!(found.as_str().unwrap().ends_with("home/.config/secateur/config.toml"));

    shell.write("xdg/secateur/config.toml", "");
    let found = file(shell.command(&doctor).env("XDG_CONFIG_HOME", shell.path().join("xdg")));
    assert!(found.as_str().unwrap().ends_with("xdg/secateur/config.toml"));

    shell.write("config.toml", "");
    assert_eq!(file(&mut shell.command(&doctor)), "config.toml");
    shell.write("other.toml", "");
    assert_eq!(file(shell.command(&doctor).env("SECATEUR_CONFIG", "other.toml")), "other.toml");
}

#[test]
fn doctor_says_what_would_be_used_and_never_the_token() {
    let shell = Shell::new();
    let mut command = shell.command(&["doctor"]);
    command.env("HF_TOKEN", "hf_secret").env("HF_HOME", shell.path().join("hub"));
    let report = said(&command.output().unwrap());
    assert_eq!(report.code, Some(0), "{}", report.err);
    for part in ["memory", "processor", "cuda", "device", "dtype", "store", "hub cache", "set by HF_TOKEN"] {
        assert!(report.out.contains(part), "no `{part}` in:\n{}", report.out);
    }
    assert!(report.out.contains("home/.local/share/secateur/studies.db (none yet"), "{}", report.out);
    assert!(!report.out.contains("hf_secret"));

    let report = json(command.args(["--format", "json"]));
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(report["compute"]["asked_device"], "auto");
    assert_eq!(report["hub"]["cache"]["path"], shell.path().join("hub/hub").to_str().unwrap());
    assert!(report["memory"]["total_bytes"].as_u64().unwrap() > 0 && report["store"]["writable"] == true);
    assert!(!report.to_string().contains("hf_secret"));
    assert!(!shell.path().join("home").exists(), "doctor made folders");
}

#[test]
fn doctor_tells_a_file_that_is_no_store() {
    let shell = Shell::new();
    shell.write("notes.db", "no database at all, only some text");
    let said = shell.run(&["doctor", "--store", "notes.db"]);
    assert!(said.out.contains("notes.db (not a results database"), "{}", said.out);
}
