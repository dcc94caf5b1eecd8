//! What the store keeps, for whom, and what it says when it cannot.

mod samples;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use proptest::prelude::*;
use rusqlite::Connection;
use secateur::Error;
use secateur::results::{Answer, BaseResult, CellResult, CellState, Metrics, RankCorrelations};
use secateur::store::Store;
use secateur::store::checkpoint::write_atomically;
use secateur::study::{CellSpec, Sampling, Sparsity, Step, StudySpec};

/// Puts the whole sample study into a store.
fn fill(store: &Store) -> i64 {
    let id = store.create_study(&samples::spec(), &samples::model(), &samples::environment()).unwrap();
    store.put_base(id, &samples::base(), CellState::Done).unwrap();
    for (position, cell) in samples::cells().iter().enumerate() {
        store.put_cell(id, position, cell).unwrap();
        for module in &cell.modules {
            store.put_module(id, &cell.id, module).unwrap();
        }
    }
    id
}

/// Everything of a cell as text that is equal for equal values, NaN included, to the last bit.
fn text(value: &impl std::fmt::Debug) -> String {
    format!("{value:?}")
}

/// Rows of a table that belong to a study.
fn rows(path: &Path, table: &str, study: i64) -> i64 {
    let key = if table == "studies" { "id" } else { "study" };
    let sql = format!("SELECT count(*) FROM {table} WHERE {key} = ?1");
    Connection::open(path).unwrap().query_row(&sql, [study], |row| row.get(0)).unwrap()
}

fn mistake(result: Result<Store, Error>) -> String {
    let error = result.map(|_| ()).unwrap_err();
    assert_eq!(error.exit_code(), 2, "{error}");
    let message = error.to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn a_study_comes_back_as_it_was_put_in() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/folders/studies.db");
    let store = Store::open(&path).unwrap();
    let id = fill(&store);
    let answers = [samples::answer("squad", 0, "Paris"), samples::answer("squad", 10, "\u{0}tab\t")];
    for cell in [None, Some("magnitude-2of4")] {
        // Put in any order, read by record; a second answer to a record replaces the first.
        store.put_answers(id, cell, &[answers[1].clone(), samples::answer("squad", 0, "London")]).unwrap();
        store.put_answers(id, cell, &answers[..1]).unwrap();
    }
    drop(store);

    for store in [Store::open_read_only(&path).unwrap(), Store::open(&path).unwrap()] {
        let record = store.study(id).unwrap();
        assert_eq!(record.spec, samples::spec());
        assert_eq!(record.base, samples::base());
        assert_eq!(record.base_state, CellState::Done);
        assert!(record.created_at > 1_700_000_000, "{}", record.created_at);
        assert_eq!(text(&record.cells), text(&samples::cells()));
        let rank_correlations = samples::result().rank_correlations;
        assert_eq!(text(&record.result(rank_correlations)), text(&samples::result()));
        for cell in [None, Some("magnitude-2of4")] {
            assert_eq!(store.answers(id, cell).unwrap(), answers);
        }
        assert!(store.answers(id, Some("sparsegpt-2of4")).unwrap().is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn every_float_survives(value in any::<f64>(), bits in any::<f64>(), ends in any::<[f64; 2]>()) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("s.db")).unwrap();
        let id = fill(&store);
        let mut cell = samples::cells().remove(0);
        cell.modules[0].details.put("number", 0.1 + 0.2);
        let measured = &mut cell.metrics.values;
        measured[0].value = value;
        measured[0].details.put("standard_error_nats", bits);
        measured[1].value = bits;
        measured[1].details.put("nats", value);
        measured[9].ci95 = ends;
        store.put_cell(id, 0, &cell).unwrap();
        store.put_module(id, &cell.id, &cell.modules[0]).unwrap();
        // SQLite knows no negative zero.
        let plain = |text: String| text.replace("-0.0,", "0.0,").replace("-0.0]", "0.0]").replace("-0.0)", "0.0)");
        prop_assert_eq!(plain(text(&store.study(id).unwrap().cells[0])), plain(text(&cell)));
    }
}

#[test]
fn a_person_with_sqlite_reads_the_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("studies.db");
    let store = Store::open(&path).unwrap();
    fill(&store);
    let connection = Connection::open(&path).unwrap();
    let best: (String, String, f64) = connection
        .query_row(
            "SELECT model, cell, value FROM overview
             WHERE score = 'perplexity' AND data_set = 'ptb' AND cell <> 'base' ORDER BY value LIMIT 1",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(best, ("models/tiny".into(), "magnitude-0.30000000000000004".into(), 80.5));
}

#[test]
fn modules_are_replaced_by_name_and_ordered_by_block() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let id = store.create_study(&samples::spec(), &samples::model(), &samples::environment()).unwrap();
    let cell = "magnitude-2of4";
    for (block, path) in [(2, "mlp.up_proj"), (0, "self_attn.q_proj"), (0, "mlp.up_proj")] {
        store.put_module(id, cell, &samples::module(block, path)).unwrap();
    }
    let mut again = samples::module(0, "self_attn.q_proj");
    again.footprint.zeros = 7;
    store.put_module(id, cell, &again).unwrap();
    let modules = store.study(id).unwrap().cells[1].modules.clone();
    let names: Vec<_> = modules.iter().map(|m| (m.name.as_str(), m.footprint.zeros)).collect();
    assert_eq!(
        names,
        [
            ("model.layers.0.self_attn.q_proj", 7),
            ("model.layers.0.mlp.up_proj", 110_592),
            ("model.layers.2.mlp.up_proj", 110_592)
        ]
    );
}

#[test]
fn cells_may_be_added_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("studies.db")).unwrap();
    let id = fill(&store);
    let mut spec = samples::spec();
    let more = CellSpec {
        recipe: Step::new("wanda", Sparsity::Fraction(0.5)).into(),
        calibration: Some("data/c4.txt".into()),
        seed: 1,
    };
    let [of_known, of_new] = [&spec.cells[0].id(), &more.id()].map(|cell| {
        let path = store.folder(id, Some(cell)).join("block-0001.safetensors");
        write_atomically(&path, |w| w.write_all(b"x")).unwrap();
        path
    });
    spec.cells.insert(1, more.clone());
    store.put_spec(id, &spec, None).unwrap();
    assert!(of_known.exists() && !of_new.exists(), "a cell that the store does not know has no checkpoints");
    let record = store.study(id).unwrap();
    assert_eq!(record.spec, spec);
    assert_eq!(record.cells[1], CellResult::queued(&more));
    assert_eq!(text(&record.cells[0]), text(&samples::cells()[0]), "what was known is kept");

    let first = record.cells[0].id.clone();
    store.put_answers(id, Some(&first), &[samples::answer("squad", 0, "Paris")]).unwrap();
    let checkpoint = store.folder(id, Some(&first)).join("block-0000.safetensors");
    write_atomically(&checkpoint, |w| w.write_all(b"x")).unwrap();
    store.clear_cell(id, Some(&first)).unwrap();
    assert_eq!(store.study(id).unwrap().cells[0], CellResult::queued(&spec.cells[0]));
    assert!(store.answers(id, Some(&first)).unwrap().is_empty());
    assert!(!checkpoint.exists());
    assert_eq!(store.study(id).unwrap().base, samples::base(), "the base stays");
    store.clear_cell(id, None).unwrap();
    let record = store.study(id).unwrap();
    assert_eq!((record.base, record.base_state), (BaseResult::default(), CellState::Queued));
}

#[test]
fn a_deleted_study_takes_all_its_rows_and_files_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("studies.db");
    let store = Store::open(&path).unwrap();
    let (first, second) = (fill(&store), fill(&store));
    for id in [first, second] {
        store.put_answers(id, None, &[samples::answer("squad", 0, "Paris")]).unwrap();
        let file = store.folder(id, None).join("states.safetensors");
        write_atomically(&file, |w| w.write_all(b"x")).unwrap();
    }
    assert_eq!(store.folder(first, None), dir.path().join("studies.d/study-1/base"));
    let tables = ["studies", "base", "cells", "modules", "metrics", "questions", "answers", "timings"];
    store.delete_study(first).unwrap();
    for table in tables {
        assert_eq!(rows(&path, table, first), 0, "{table}");
        assert!(rows(&path, table, second) > 0, "{table}");
    }
    assert!(!dir.path().join("studies.d/study-1").exists());
    assert!(store.folder(second, None).join("states.safetensors").exists());
    let error = store.delete_study(first).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(
        error.to_string().starts_with("there is no study 1 in ") && error.to_string().ends_with("it has 2")
    );
    assert_eq!(store.study(first).unwrap_err().to_string(), error.to_string());
    store.delete_study(second).unwrap();
    assert_eq!(fill(&store), 3, "numbers are not used again");
}

#[test]
fn models_of_late_come_once_each_the_latest_first() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    assert!(store.recent_models().unwrap().is_empty());
    for source in ["a", "b", "c/d", "a"] {
        let model = secateur::results::ModelInfo { source: source.into(), ..samples::model() };
        store.create_study(&samples::spec(), &model, &samples::environment()).unwrap();
    }
    assert_eq!(store.recent_models().unwrap(), ["a", "c/d", "b"]);
}

#[test]
fn a_store_that_is_only_looked_for_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/studies.db");
    assert!(Store::open_existing(&path).unwrap().is_none());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    fill(&Store::open(&path).unwrap());
    assert_eq!(Store::open_existing(&path).unwrap().unwrap().studies().unwrap().len(), 1);
}

#[test]
fn disagreements_are_put_to_answers_that_are_there_all_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let (id, cell) = (fill(&store), "magnitude-2of4");
    for record in [0, 1] {
        let answer = Answer { disagreement_bits: Vec::new(), ..samples::answer("squad", record, "Paris") };
        store.put_answers(id, Some(cell), std::slice::from_ref(&answer)).unwrap();
    }
    let bits = vec![0.25, f32::NAN, 0.1];
    store.put_disagreements(id, cell, &[("squad", 1, bits.clone())]).unwrap();
    let read = || store.answers(id, Some(cell)).unwrap();
    assert_eq!(text(&read()[1].disagreement_bits), text(&bits));
    let half = [("squad", 0, vec![1.0]), ("squad", 2, vec![1.0])];
    assert!(store.put_disagreements(id, cell, &half).unwrap_err().to_string().contains("record 2 of squad"));
    assert!(read()[0].disagreement_bits.is_empty());
}

#[test]
fn checkpoints_of_a_store_that_is_gone_are_not_taken_for_ones_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("studies.db")).unwrap();
    assert_eq!(fill(&store), 1);
    drop(store);
    fs::remove_file(dir.path().join("studies.db")).unwrap();
    let store = Store::open(&dir.path().join("studies.db")).unwrap();
    assert_eq!(fill(&store), 2);
    // Nor those of a store whose folder has the same name.
    let beside = Store::open(&dir.path().join("studies.sqlite")).unwrap();
    assert_eq!(fill(&beside), 3);
    assert_eq!(fill(&store), 4);
}

#[test]
fn the_list_of_studies_says_how_far_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    let id = store.create_study(&samples::spec(), &samples::model(), &samples::environment()).unwrap();
    let state = || store.studies().unwrap()[0].state;
    let put = |position: usize, state| {
        let cell = CellResult { state, ..CellResult::queued(&samples::spec().cells[position]) };
        store.put_cell(id, position, &cell).unwrap();
    };
    assert_eq!(state(), CellState::Queued);
    store.put_base(id, &samples::base(), CellState::Running).unwrap();
    assert_eq!(state(), CellState::Running);
    store.put_base(id, &samples::base(), CellState::Done).unwrap();
    assert_eq!(state(), CellState::Cancelled, "begun, nothing runs: can be resumed");
    put(0, CellState::Running);
    put(1, CellState::Failed);
    assert_eq!(state(), CellState::Running);
    put(0, CellState::Done);
    assert_eq!(state(), CellState::Failed);
    let summary = &store.studies().unwrap()[0];
    assert_eq!((summary.id, summary.cells, summary.cells_done, &*summary.model), (id, 4, 1, "models/tiny"));
    (1..4).for_each(|position| put(position, CellState::Done));
    assert_eq!(state(), CellState::Done);
}

/// What is changed in a study, and how.
type Change = (&'static str, fn(&mut StudySpec));

#[test]
fn a_study_is_resumed_by_what_changes_its_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("s.db")).unwrap();
    assert_eq!(store.resumable(&samples::spec(), None).unwrap(), None);
    fill(&store);
    let newest = fill(&store);

    let same: [Change; 8] = [
        ("nothing", |_| ()),
        ("fewer cells", |s| s.cells.truncate(1)),
        ("another seed's cell", |s| s.cells[2].seed = 5),
        ("another set beside", |s| {
            s.calibration.sets.push("alpaca".into());
            s.cells.push(CellSpec { calibration: Some("alpaca".into()), ..s.cells[2].clone() });
        }),
        ("batch of tokens", |s| s.compute.batch_tokens = 1),
        ("batch of prompts", |s| s.compute.batch_prompts = 1),
        ("another device, the dtype named", |s| s.compute.device = "cuda:0".into()),
        ("order of modules", |s| s.prune.modules.reverse()),
    ];
    for (what, change) in same {
        let mut spec = samples::spec();
        change(&mut spec);
        assert_eq!(store.resumable(&spec, None).unwrap(), Some(newest), "{what}");
    }
    let other: [Change; 20] = [
        ("model", |s| s.model.push('x')),
        ("length", |s| s.seq_len = 256),
        ("seed", |s| s.seed = 1),
        ("dtype", |s| s.compute.dtype = "f32".into()),
        ("dtype auto", |s| s.compute.dtype = "auto".into()),
        ("samples", |s| s.calibration.samples = 31),
        ("sampling", |s| s.calibration.sampling = Sampling::Random),
        ("a set of the same short name", |s| {
            s.cells[2].calibration = Some("elsewhere/c4.txt".into());
        }),
        ("corpora", |s| s.evaluation.corpora.truncate(1)),
        ("windows", |s| s.evaluation.max_windows = None),
        ("tasks", |s| s.evaluation.tasks.clear()),
        ("records", |s| s.evaluation.task_limit = Some(3)),
        ("examples", |s| s.evaluation.shots.count = 2),
        ("answers' length", |s| s.evaluation.max_new_tokens = 31),
        ("prompt", |s| s.evaluation.prompt = None),
        ("modules", |s| s.prune.modules = vec!["q_proj".into()]),
        ("blocks", |s| s.prune.blocks = None),
        ("damping", |s| s.prune.damping = 0.3),
        ("block size", |s| s.prune.block_size = 64),
        ("profile", |s| s.prune.profile = None),
    ];
    for (what, change) in other {
        let mut spec = samples::spec();
        change(&mut spec);
        assert_eq!(store.resumable(&spec, None).unwrap(), None, "{what}");
    }

    // With the dtype left to the device, the device matters.
    let mut auto = samples::spec();
    auto.compute.dtype = "auto".into();
    let id = store.create_study(&auto, &samples::model(), &samples::environment()).unwrap();
    auto.compute.device = "cuda:3".into();
    assert_eq!(store.resumable(&auto, None).unwrap(), Some(id));
    auto.compute.device = "cpu".into();
    assert_eq!(store.resumable(&auto, None).unwrap(), None);
}

#[test]
fn places_that_cannot_be_a_store_are_mistakes_and_are_left_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let text = dir.join("notes.txt");
    fs::write(&text, "no database").unwrap();
    let folder = dir.join("folder");
    fs::create_dir(&folder).unwrap();
    let foreign = dir.join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    let marked = dir.join("marked.db");
    let sql = "PRAGMA application_id = 7; CREATE TABLE t (x)";
    Connection::open(&marked).unwrap().execute_batch(sql).unwrap();
    let newer = dir.join("newer.db");
    drop(Store::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", 99).unwrap();
    fs::remove_file(dir.join("newer.db.lock")).unwrap();

    let before: Vec<_> = [&text, &foreign, &marked].map(|p| fs::read(p).unwrap()).into();
    let expected: [(&Path, &[&str]); 5] = [
        (&text, &["notes.txt", "no SQLite file", "--store"]),
        (&folder, &["folder", "is a folder", "--store"]),
        (&foreign, &["foreign.db", "another program", "--store"]),
        (&marked, &["marked.db", "another program", "--store"]),
        (&newer, &["newer.db", "version 99", "newer secateur", "version 4"]),
    ];
    for (path, parts) in expected {
        for message in [mistake(Store::open(path)), mistake(Store::open_read_only(path))] {
            for part in parts {
                assert!(message.contains(part), "`{part}` is not in: {message}");
            }
        }
    }
    let after: Vec<_> = [&text, &foreign, &marked].map(|p| fs::read(p).unwrap()).into();
    assert_eq!(before, after);
    for left in ["notes.txt.lock", "marked.db.lock", "folder.lock"] {
        assert!(!dir.join(left).exists(), "{left}");
    }
    // Below a file there is no place for a folder.
    let message = mistake(Store::open(&text.join("s.db")));
    assert!(message.contains("notes.txt/s.db") && message.contains("--store"), "{message}");
    let message = mistake(Store::open_read_only(&dir.join("none.db")));
    assert!(message.contains("there is no store at") && message.contains("none.db"), "{message}");
    assert!(!dir.join("none.db").exists());
}

#[test]
fn a_damaged_store_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    drop(Store::open(&path).unwrap());
    let mut bytes = fs::read(&path).unwrap();
    bytes[4096..].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let error = Store::open(&path).and_then(|s| s.studies().map(|_| ())).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("s.db is damaged"), "{error}");
}

#[test]
fn nothing_is_changed_through_a_store_opened_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.db");
    let id = fill(&Store::open(&path).unwrap());
    let store = Store::open_read_only(&path).unwrap();
    let spec = samples::spec();
    for error in [
        store.create_study(&spec, &samples::model(), &samples::environment()).unwrap_err(),
        store.delete_study(id).unwrap_err(),
        store.clear_cell(id, None).unwrap_err(),
        store.put_base(id, &BaseResult::default(), CellState::Done).unwrap_err(),
    ] {
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("only to be read"), "{error}");
    }
    assert_eq!(store.study(id).unwrap().base, samples::base());
    assert!(!dir.path().join("s.d/study-2").exists());
}

const ROLE: &str = "SECATEUR_TEST_HOLD_STORE";

/// Not a test of its own: what [`Holder`] runs in another process. Opens the store, says so, and writes until killed.
#[test]
fn holder() {
    let Some(path) = std::env::var_os(ROLE) else { return };
    let store = Store::open(Path::new(&path)).unwrap();
    let id = fill(&store);
    println!("\nholding {id}");
    for n in 0.. {
        let metrics = Metrics { values: vec![samples::perplexity("x", f64::from(n))] };
        store.put_base(id, &BaseResult { metrics, ..samples::base() }, CellState::Running).unwrap();
        println!("\nwrote {n}");
    }
}

/// Another process that writes a store.
struct Holder {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Holder {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "holder", "--nocapture"])
            .env(ROLE, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut holder = Self { child, lines };
        holder.wait_for("holding");
        holder
    }

    fn wait_for(&mut self, word: &str) {
        let found = self.lines.by_ref().map(Result::unwrap).any(|line| line.starts_with(word));
        assert!(found, "the other process ended before it said `{word}`");
    }

    /// SIGKILL: nothing of the process runs any more.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("studies.db");
    (dir, path)
}

#[test]
fn a_second_process_is_told_who_writes_until_the_first_is_killed() {
    let (dir, path) = place();
    let mut holder = Holder::start(&path);
    let message = mistake(Store::open(&path));
    for part in [&format!("process {}", holder.child.id()), "studies.db", "secateur show", "--store"] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    #[cfg(unix)]
    {
        let link = dir.path().join("link.db");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(mistake(Store::open(&link)).contains("in use"), "by another name");
    }
    holder.wait_for("wrote 20");
    holder.kill();
    let store = Store::open(&path).unwrap();
    let base = store.study(1).unwrap().base;
    assert!(base.metrics.values[0].value >= 20.0, "what was written is there");
    assert_eq!(text(&store.study(1).unwrap().cells), text(&samples::cells()));
    assert_eq!(fill(&store), 2);
    drop((store, dir));
}

#[test]
fn reading_goes_on_while_another_process_writes() {
    let (_dir, path) = place();
    let mut holder = Holder::start(&path);
    let store = Store::open_read_only(&path).unwrap();
    let mut last = -1.0;
    for _ in 0..20 {
        holder.wait_for("wrote");
        let record = store.study(1).unwrap();
        let value = record.base.metrics.values[0].value;
        assert!(value >= last, "{value} after {last}");
        last = value;
        assert_eq!(text(&record.cells), text(&samples::cells()));
        assert_eq!(record.result(RankCorrelations::default()).study, 1);
    }
    holder.kill();
    // The log that the killed process left is read as well, though nobody may write now.
    drop(store);
    let store = Store::open_read_only(&path).unwrap();
    assert!(store.study(1).unwrap().base.metrics.values[0].value >= last);
}
