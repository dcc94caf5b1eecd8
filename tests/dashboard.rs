//! The dashboard as its user sees it: the real program in a real pseudo-terminal.

#![cfg(unix)]

mod pty;

use portable_pty::CommandBuilder;
use pty::{Terminal, small};
use rustix::process::Signal;
use secateur::results::CellState;
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY};
use secateur::store::Store;

/// Leaves only the cell under the cursor: the first of the grid. Once takes in what is left out, once more leaves out all.
const ONLY_THE_FIRST: &str = "AA ";

#[test]
fn a_study_is_chosen_run_steered_compared_saved_and_left() {
    let mut terminal = Terminal::start(&small(&["--sparsity", "0.3,0.6"]), 120, 40);
    terminal.wait_for(&["1 Study", "Grid: 10 cells", "can run"]);
    // Everything on, everything off, then magnitude at both sparsities.
    terminal.press("AA x");
    terminal.wait_for(&["Grid: 2 cells"]);
    terminal.press("r");
    terminal.wait_for(&["2 Run", "of 2 done", "base"]);
    terminal.press("a");
    terminal.wait_for(&["Add a cell", "removes"]);
    terminal.press("45\r");
    terminal.wait_for(&["of 3 done"]);
    terminal.wait_for(&["Cells: 3 of 3 done", "complete"]);

    // The numbers on the screen are those in the store.
    terminal.press("3");
    let screen = terminal.wait_for(&["[3 Compare]", "Cells: 3 of 3 done"]);
    let store = Store::open_read_only(&terminal.store()).unwrap();
    let record = store.study(1).unwrap();
    assert_eq!(record.cells.iter().filter(|cell| cell.state == CellState::Done).count(), 3);
    for cell in &record.cells {
        let bits = format!("{:.3}", cell.metrics.first(&JS_DIVERGENCE).unwrap().value);
        assert!(screen.contains(&bits), "JS {bits} of {} is not on:\n{screen}", cell.id);
    }
    let base = record.base.metrics.first(&PERPLEXITY).unwrap().value;
    assert!(screen.contains(&format!("{base:.2}")), "{base} is not on:\n{screen}");

    terminal.press("4");
    terminal.wait_for(&["[4 Inspect]", "acc norm"]);
    terminal.press("s");
    terminal.wait_for(&["saved"]);
    for ending in [".svg", ".png", ".txt"] {
        assert_eq!(terminal.files(ending).len(), 1, "{ending}");
    }
    terminal.press("e");
    terminal.wait("the export", |screen| screen.contains("secateur-study-1.csv"));
    assert_eq!(terminal.files(".md").len(), 1);

    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    assert_eq!(terminal.taken(), (false, false), "the terminal is as it was");
    terminal.wait_for(&["perplexity", "is saved in"]);
}

#[test]
fn how_comparisons_are_shown_is_kept_from_one_start_to_the_next() {
    let mut terminal = Terminal::start(&small(&[]), 120, 40);
    terminal.wait_for(&["can run"]);
    terminal.press(&format!("{ONLY_THE_FIRST}r"));
    terminal.wait_for(&["1 of 1 done", "complete"]);
    terminal.press("3xb");
    terminal.wait_for(&["[3 Compare]", "bits per weight", "relative to the base"]);
    // Another screen and back.
    terminal.press("53");
    terminal.wait_for(&["[3 Compare]", "bits per weight"]);
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
    let file = terminal.store().with_extension("view.toml");
    let kept = std::fs::read_to_string(&file).unwrap();

    let store = terminal.store().display().to_string();
    for more in [&["--store", &store][..], &["--store", &store, "--readonly"]] {
        let mut again = Terminal::start(more, 120, 40);
        again.wait_for(&["[3 Compare]", "bits per weight", "relative to the base"]);
        // Whoever only looks keeps nothing; whoever comes back to the same has nothing to keep.
        again.press(if more.len() > 2 { "x" } else { "xxx" });
        again.settle();
        again.press("q");
        assert_eq!(again.end(), 0);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), kept);
    }
    // A file that somebody broke is named; the rest of it holds.
    std::fs::write(&file, kept.replace("bits_per_weight", "depth")).unwrap();
    let mut again = Terminal::start(&["--store", &store, "--readonly"], 160, 40);
    again.wait_for(&["Some choices were not kept", "studies.view.toml", "accepted are sparsity"]);
    again.press("\r");
    again.wait_for(&["[3 Compare]", "relative to the base"]);
    again.press("q");
    again.end();
}

#[test]
fn storms_of_keys_and_sizes_leave_a_dashboard_that_works() {
    let mut terminal = Terminal::start(&small(&[]), 80, 24);
    terminal.wait_for(&["1 Study"]);
    for round in 0u16..60 {
        terminal.resize(1 + round * 37 % 200, 1 + round * 13 % 60);
        terminal.press(
            ["jjkl", "\t", "3tbz", "?", "\x1b", ":his\r", "1+\x1b", "5jk", "\x1b[A\x1b[B"]
                [usize::from(round) % 9],
        );
    }
    terminal.press("\x1b");
    terminal.resize(100, 30);
    terminal.press("\x1b1");
    terminal.wait_for(&["1 Study", "Settings"]);
    terminal.resize(40, 12);
    terminal.wait_for(&["needs 60x15"]);
    terminal.resize(80, 24);
    terminal.wait_for(&["Settings"]);
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn leaving_while_it_runs_keeps_what_is_whole_and_history_goes_on_with_it() {
    let mut terminal = Terminal::start(&small(&[]), 100, 30);
    terminal.wait_for(&["can run"]);
    terminal.press("r");
    terminal.wait_for_cells(1);
    terminal.press("q");
    terminal.wait_for(&["stop after this block"]);
    terminal.press("s");
    assert_eq!(terminal.end(), 130);
    assert_eq!(terminal.taken(), (false, false));
    let done = |path: &std::path::Path| {
        let record = Store::open_read_only(path).unwrap().study(1).unwrap();
        record.cells.iter().filter(|cell| cell.state == CellState::Done).count()
    };
    let before = done(&terminal.store());
    assert!(before >= 1);

    let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_secateur"));
    command.args(small(&[]));
    command.arg("--store");
    command.arg(terminal.store());
    let mut again = Terminal::with(tempfile::tempdir().unwrap(), command, 100, 30);
    again.press("5");
    again.wait_for(&["5 History", "unfinished"]);
    again.press("R");
    again.wait_for_cells(before + 1);
    again.press("\x03\x03");
    assert_eq!(again.end(), 130);
}

#[test]
fn a_request_to_end_and_a_lost_connection_stop_after_the_block() {
    for hangup in [false, true] {
        let mut terminal = Terminal::start(&small(&[]), 80, 24);
        terminal.wait_for(&["Settings"]);
        terminal.press("r");
        terminal.wait_for_cells(1);
        if hangup {
            terminal.hang_up();
        } else {
            terminal.signal(Signal::TERM);
        }
        terminal.end();
        let store = Store::open(&terminal.store()).unwrap();
        let record = store.study(1).unwrap();
        assert!(record.cells.iter().any(|cell| cell.state == CellState::Done));
        assert!(record.cells.iter().all(|cell| cell.state != CellState::Running), "nothing claims to run");
    }
}

#[test]
fn a_study_that_is_to_keep_running_is_finished_without_its_terminal() {
    let mut terminal = Terminal::start(&small(&["--keep-running"]), 80, 24);
    terminal.wait_for(&["Settings", "can run"]);
    terminal.press("r");
    terminal.wait_for_cells(1);
    terminal.hang_up();
    assert_eq!(terminal.end(), 0, "that nobody can read the summary is no failure");
    let record = Store::open(&terminal.store()).unwrap().study(1).unwrap();
    assert_eq!(record.cells.len(), 68);
    assert!(record.cells.iter().all(|cell| cell.state == CellState::Done));
}

#[test]
fn it_can_be_suspended_from_a_shell_and_comes_back() {
    let home = tempfile::tempdir().unwrap();
    let mut shell = CommandBuilder::new("bash");
    shell.args(["--norc", "--noprofile", "-i"]);
    shell.env("PS1", "shell> ");
    let mut terminal = Terminal::with(home, shell, 80, 24);
    terminal.wait_for(&["shell>"]);
    terminal.press(&format!("{}\r", env!("CARGO_BIN_EXE_secateur")));
    terminal.wait_for(&["Settings"]);
    terminal.press("\x1a");
    terminal.wait_for(&["Stopped"]);
    assert_eq!(terminal.taken(), (false, false));
    terminal.press("fg\r");
    terminal.wait_for(&["Settings"]);
    assert_eq!(terminal.taken(), (true, true));
    terminal.press("q");
    terminal.wait_for(&["shell>"]);
    terminal.press("exit\r");
    terminal.end();
}

#[test]
fn what_cannot_run_says_why_where_it_can_be_put_right() {
    let mut terminal = Terminal::start(&["--model", "./no-such-folder"], 100, 30);
    terminal.wait_for(&["Settings", "no-such-folder", "see model on the left"]);
    terminal.press("r");
    terminal.wait_for(&["cannot start: model:"]);
    terminal.press("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn an_engine_that_fails_is_told_with_what_to_do_and_the_terminal_comes_back() {
    let mut terminal = Terminal::start(&small(&[]), 100, 30);
    terminal.wait_for(&["can run"]);
    terminal.press("r");
    terminal.wait_for_cells(1);
    // A file where checkpoints are to go: as good as a full disk. The engine may make the folder anew in between.
    let checkpoints = terminal.store().with_extension("d");
    let blocked = (0..100).any(|attempt| {
        let aside = terminal.home.path().join(format!("aside-{attempt}"));
        std::fs::rename(&checkpoints, aside).is_ok() && std::fs::write(&checkpoints, "in the way").is_ok()
    });
    assert!(blocked);
    let screen = terminal.wait_for(&["The study has failed", "Fix the cause", "resume the study with R"]);
    assert!(screen.contains("studies.d"), "the place is named on:\n{screen}");
    assert!(!screen.contains("RUST_BACKTRACE"), "{screen}");
    terminal.press("\rq");
    terminal.end();
    assert_eq!(terminal.taken(), (false, false), "the terminal is as it was");
    let logs: Vec<_> = std::fs::read_dir(terminal.store().parent().unwrap()).unwrap().flatten().collect();
    let log = logs.iter().find(|entry| entry.file_name().to_string_lossy().ends_with(".log")).unwrap();
    assert!(std::fs::read_to_string(log.path()).unwrap().contains("studies.d"));
    // What was done is kept.
    let record = Store::open_read_only(&terminal.store()).unwrap().study(1).unwrap();
    assert!(record.cells.iter().any(|cell| cell.state == CellState::Done));
}

#[test]
fn a_store_that_another_process_holds_is_told_and_can_be_followed() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("s.db");
    let held = Store::open(&path).unwrap();
    let store = path.display().to_string();
    let mut terminal = Terminal::start(&small(&["--store", &store]), 100, 30);
    terminal.wait_for(&["can run"]);
    terminal.press(&format!("{ONLY_THE_FIRST}r"));
    terminal.wait_for(&["in use by"]);
    terminal.press("\rq");
    terminal.end();
    drop(held);

    let mut runs = Terminal::start(&small(&["--store", &store]), 100, 30);
    runs.wait_for(&["can run"]);
    runs.press(&format!("{ONLY_THE_FIRST}r"));
    let mut looks = Terminal::start(&small(&["--store", &store, "--readonly"]), 100, 30);
    looks.wait_for(&["read-only"]);
    runs.wait_for(&["1 of 1 done"]);
    looks.press("2");
    looks.wait_for(&["1 of 1 done"]);
    looks.press("q");
    looks.end();
    runs.press("q");
    assert_eq!(runs.end(), 0);
}

/// Prompts with signs that terminals take for narrower or wider than they are: this one takes a skin tone and joined people
/// for characters of their own.
const PROMPTS: [&str; 3] = ["कौन सी चीज़ बगीचे में है? 👍🏽", "น้ำอยู่ที่ไหน 👩🏾‍🔬👨‍👩‍👧‍👦", "Who waves 👋🏿 back?"];

#[test]
fn signs_whose_width_is_not_agreed_on_break_no_frame() {
    for (columns, rows) in [(80, 24), (160, 48)] {
        let home = tempfile::tempdir().unwrap();
        let records = PROMPTS.map(|prompt| {
            serde_json::json!({ "instruction": prompt, "input": prompt.repeat(20), "output": prompt })
                .to_string()
        });
        let tasks = home.path().join("signs.jsonl");
        std::fs::write(&tasks, records.join("\n")).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_secateur"));
        command.args(small(&["--tasks", tasks.to_str().unwrap()]));
        let mut terminal = Terminal::with(home, command, columns, rows);
        terminal.wait_for(&["can run"]);
        terminal.press(&format!("{ONLY_THE_FIRST}r"));
        terminal.wait_for(&["1 of 1 done", "complete"]);
        terminal.press("4");
        terminal.wait_for(&["[4 Inspect]", "है", "EM "]);
        // Through all prompts, to the end of one and back; then to screens that have none of these signs.
        for keys in ["j", "j", "w", "jjj", "\x1b[6~", "w", "w", "gG", "3", "4", "5", "2", "4"] {
            terminal.press(keys);
            terminal.settle();
            let edges = terminal.edges();
            // Where a panel ends, a line without a frame may stand beside it.
            let framed = |edge: &str| ["│", "╭", "├"].contains(&edge);
            let rows: Vec<_> = edges.iter().filter(|(left, _)| framed(left)).collect();
            assert!(rows.len() > 9, "after {keys:?}: {}", terminal.screen());
            // Panels beside each other end in different rows.
            for (_, right) in rows {
                let is_edge = ["│", "╮", "╯", "┤"].contains(&right.as_str());
                assert!(is_edge, "{right:?} after {keys:?}: {}", terminal.screen());
            }
        }
        terminal.press("q");
        assert_eq!(terminal.end(), 0);
    }
}

/// The program with variables that its terminal would not have.
fn with_variables(variables: &[&str], args: &[&str]) -> Terminal {
    let mut command = CommandBuilder::new("env");
    command.args(variables);
    command.arg(env!("CARGO_BIN_EXE_secateur"));
    command.args(args);
    Terminal::with(tempfile::tempdir().unwrap(), command, 80, 24)
}

#[test]
fn a_locale_without_unicode_draws_with_ascii_alone_unless_told_otherwise() {
    for (variables, args, ascii) in [
        (&["LANG=C"][..], &[][..], true),
        (&["LANG=en_US.UTF-8", "LC_ALL=POSIX"], &[], true),
        (&["LANG=C"], &["--ascii=false"], false),
        (&["LANG=C", "SECATEUR_ASCII=0"], &[], false),
        (&["LANG=C", "LC_CTYPE=en_US.UTF-8"], &[], false),
    ] {
        let mut terminal = with_variables(variables, args);
        let screen = terminal.wait_for(&["Settings", "can run"]);
        assert_eq!(screen.is_ascii(), ascii, "{variables:?} {args:?}: {screen}");
        terminal.press("q");
        terminal.end();
    }
}

#[test]
fn a_terminal_that_cannot_place_text_gets_lines_and_is_told_why() {
    let few = ["--methods", "magnitude", "--sparsity", "0.5"];
    let mut terminal = with_variables(&["TERM=dumb"], &small(&few));
    let why = "no dashboard (TERM is dumb: this terminal cannot place text)";
    terminal.wait("the reason", |screen| screen.replace('\n', "").contains(why));
    assert_eq!(terminal.end(), 0);
    assert!(terminal.screen().contains("Which metric ranks the cells"), "{}", terminal.screen());

    let mut terminal = with_variables(&["TERM=dumb"], &["--readonly"]);
    terminal.wait_for(&["error: no dashboard", "secateur show"]);
    assert_eq!(terminal.end(), 2);
}

#[test]
fn a_study_that_is_not_there_is_told_before_the_screen_is_taken() {
    let mut terminal = Terminal::start(&["--store", "none.db", "--study", "7"], 80, 24);
    terminal.wait_for(&["error: ", "none.db"]);
    assert_eq!(terminal.end(), 2);
}

#[test]
fn an_option_draws_with_ascii_alone() {
    let mut terminal = Terminal::start(&["--ascii"], 80, 24);
    let screen = terminal.wait_for(&["Settings", "can run"]);
    assert!(screen.is_ascii(), "{screen}");
    terminal.press("q");
    terminal.end();
}
