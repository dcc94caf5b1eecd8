//! A fraction spread over the blocks by what the survey says of them, through everything that a user can do with such a
//! cell. `golden_structure.rs` compares the shares with the authors' code.

mod common;

use std::path::{Path, PathBuf};

use common::{Place, Synthetic};
use secateur::engine::{Command, Event, Phase, RunOptions};
use secateur::methods::{Family, METHODS, Method};
use secateur::results::{CellResult, StudyResult};
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY};
use secateur::store::Store;
use secateur::study::{CellSpec, StudySpec};
use serde_json::Value;

const BLOCKS: usize = 4;

fn place() -> Place {
    Place::new(&Synthetic { blocks: BLOCKS, ..Synthetic::default() })
}

fn cell(place: &Place, recipe: &str) -> CellSpec {
    let calibration = Some(place.path("calibration.txt").display().to_string());
    CellSpec { recipe: recipe.parse().unwrap(), calibration, seed: 0 }
}

fn study(place: &Place, recipes: &[&str]) -> StudySpec {
    place.spec(recipes.iter().map(|recipe| cell(place, recipe)).collect())
}

/// The share that every block of a cell was to lose; `None` of blocks that are gone or were not pruned.
fn shares(cell: &CellResult) -> Vec<Option<f64>> {
    let of_block = |block: usize| {
        let mut found = cell.modules.iter().filter(|module| module.block == block);
        let first = found.next().and_then(|module| module.details.get("share"));
        assert!(found.all(|module| module.details.get("share") == first), "{}", cell.id);
        first
    };
    (0..BLOCKS).map(of_block).collect()
}

fn folder(store: &Path, cell: Option<&str>) -> PathBuf {
    Store::open_read_only(store).unwrap().folder(1, cell)
}

fn zeros(cell: &CellResult) -> Vec<u64> {
    cell.modules.iter().map(|module| module.footprint.zeros).collect()
}

/// What the program says, and how it ends.
fn said(place: &Place, line: &[&str]) -> (Option<i32>, String) {
    let output = place.program(line).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[test]
fn every_method_that_prunes_spreads_a_fraction_and_its_profile_gives_another_study_the_same_cell() {
    let place = place();
    let methods: Vec<_> = METHODS.iter().filter(|method| method.family() == Family::Prune).collect();
    let mut recipes = Vec::new();
    for allocation in ["owl", "error"] {
        let of_method = |method: &&&dyn Method| format!("{}@60%,allocation={allocation}", method.name());
        recipes.extend(methods.iter().map(of_method));
        recipes.push(format!("depth@1block+wanda@60%,allocation={allocation}"));
        recipes.push(format!("magnitude@60%,allocation={allocation}+rtn@4bit,group=32"));
    }
    let recipes: Vec<&str> = recipes.iter().map(String::as_str).collect();
    let store = place.path("studies.db");
    let (result, events) = common::run(&store, study(&place, &recipes), RunOptions::default());
    let surveys = events.iter().filter(|event| matches!(event, Event::Phase { phase: Phase::Survey, .. }));
    assert_eq!(surveys.count(), 1, "one survey serves all cells");
    for cell in &result.cells {
        let id = &cell.id;
        let all = shares(cell);
        let there: Vec<f64> = all.iter().flatten().copied().collect();
        assert_eq!(there.len(), if id.contains("depth") { BLOCKS - 1 } else { BLOCKS }, "{id}");
        let mean = there.iter().sum::<f64>() / there.len() as f64;
        let (low, high) = there.iter().fold((1f64, 0f64), |(low, high), s| (low.min(*s), high.max(*s)));
        assert!((mean - 0.6).abs() < 1e-5, "{id}: {all:?}");
        if id.contains("owl") {
            assert!((high - low - 0.16).abs() < 1e-5, "{id}: {all:?}");
        } else {
            assert!(low > 0.52 - 1e-5 && high < 0.68 + 1e-5 && high > low + 0.01, "{id}: {all:?}");
        }
        for module in cell.modules.iter().filter(|module| module.footprint.weights > 0) {
            let found = module.footprint.sparsity();
            let wanted = all[module.block].unwrap();
            // A row loses whole weights; what is put on a grid may become zero besides.
            assert!(
                found > wanted - 0.02 && (found < wanted + 0.02 || id.contains("rtn")),
                "{id} {module:?}"
            );
        }
    }

    // What `show --profile` prints is a profile as `run --profile` reads it.
    for (place_of, allocation) in [(1, "owl"), (1 + methods.len() + 2, "error")] {
        let cell = &result.cells[place_of];
        let (code, text) = said(&place, &["show", "--store", "studies.db", "--profile", &cell.id]);
        assert_eq!(code, Some(0), "{text}");
        assert!(text.starts_with(&format!("# What allocation={allocation} chose for {}", cell.id)), "{text}");
        let mut again = study(&place, &["wanda@60%"]);
        again.prune.profile = Some(place.write("profile.txt", text));
        let store = place.path(&format!("again-{allocation}.db"));
        let (again, _) = common::run(&store, again, RunOptions::default());
        assert_eq!(zeros(&again.cells[0]), zeros(cell));
        assert_eq!(again.cells[0].metrics.first(&PERPLEXITY), cell.metrics.first(&PERPLEXITY));
    }

    let (code, text) = said(&place, &["show", "--store", "studies.db", "--survey"]);
    assert!(code == Some(0) && text.contains("outliers") && text.contains("error at 50%"), "{text}");
    let plain =
        Store::open_read_only(&place.path("again-owl.db")).unwrap().study(1).unwrap().cells[0].id.clone();
    let (code, text) = said(&place, &["show", "--store", "again-owl.db", "--profile", &plain]);
    assert!(code == Some(2) && text.contains("has no profile"), "{text}");
    let (code, text) = said(&place, &["show", "--store", "again-owl.db", "--profile", "wanda"]);
    assert!(code == Some(2) && text.contains("no cell `wanda` in study 1; there are"), "{text}");
}

#[test]
fn where_nothing_tells_blocks_apart_all_lose_the_same_and_a_warning_says_so() {
    let place = place();
    let recipes = ["", ",allocation=uniform", ",allocation=owl", ",allocation=error"];
    let recipes = recipes.map(|allocation| format!("wanda@60%{allocation}"));
    let recipes = recipes.each_ref().map(String::as_str);
    let mut spec = study(&place, &recipes);
    spec.prune.blocks = Some((1, 2));
    let (result, _) = common::run(&place.path("studies.db"), spec, RunOptions::default());
    let [plain, uniform, owl, error] = &result.cells[..] else { panic!("four cells") };
    assert!(plain.id.starts_with("wanda-0.6-calibration"), "as before there were allocations");
    for other in [uniform, owl, error] {
        assert_eq!(zeros(other), zeros(plain));
        assert_eq!(other.metrics.first(&JS_DIVERGENCE), plain.metrics.first(&JS_DIVERGENCE));
    }
    assert_eq!(plain.warnings, [""; 0]);
    assert_eq!(shares(plain), [None; BLOCKS]);
    for cell in [owl, error] {
        assert!(cell.warnings.iter().any(|warning| warning.contains("tells no block from another")));
        assert_eq!(shares(cell), [None, Some(0.6), None, None]);
    }
}

/// Runs a study until a block of its cell is safe, and stops there; or to its end.
fn run_until_checkpoint(store: &Path, spec: StudySpec) {
    let mut engine = common::engine(store);
    engine.commands.blocking_send(Command::Start(Box::new(spec), RunOptions::default())).unwrap();
    while let Some(event) = engine.events.blocking_recv() {
        match event {
            Event::Checkpoint { .. } => {
                engine.commands.blocking_send(Command::Shutdown { after_block: true }).unwrap();
            }
            Event::Finished { .. } => panic!("it was to be stopped"),
            Event::Failed { message, .. } => panic!("{message}"),
            _ => {}
        }
    }
    engine.join();
}

fn resumed(store: &Path, spec: StudySpec) -> StudyResult {
    common::run(store, spec, RunOptions { resume: true, ..RunOptions::default() }).0
}

#[test]
fn a_cell_that_is_resumed_has_the_shares_that_it_began_with() {
    let place = place();
    for (allocation, figures) in [("owl", "outlier_ratio"), ("error", "errors")] {
        resumes_with_its_shares(&place, allocation, figures);
    }
}

fn resumes_with_its_shares(place: &Place, allocation: &str, figures: &str) {
    let spec = study(place, &[&format!("sparsegpt@60%,allocation={allocation}")]);
    let (whole, _) =
        common::run(&place.path(&format!("whole-{allocation}.db")), spec.clone(), RunOptions::default());
    let whole = &whole.cells[0];
    let change = |path: &Path, change: &dyn Fn(&mut Value)| {
        let mut survey: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        change(&mut survey);
        std::fs::write(path, survey.to_string()).unwrap();
    };
    for (name, with_profile) in [("kept", true), ("made", false)] {
        let name = &format!("{name}-{allocation}.db");
        let store = place.path(name);
        run_until_checkpoint(&store, spec.clone());
        let survey = folder(&store, None).join("survey-calibration-s0.json");
        let profile = folder(&store, Some(&whole.id)).join("profile.txt");
        if with_profile {
            // A survey that says something else changes nothing of a cell that has begun.
            change(&survey, &|survey| survey["outlier_ratio"] = serde_json::json!([9.0, 1.0, 5.0, 2.0]));
            change(&survey, &|survey| survey["influence"] = serde_json::json!([9.0, 1.0, 5.0, 2.0]));
        } else {
            // As an earlier version left it, which did not know so much.
            change(&survey, &|survey| drop(survey.as_object_mut().unwrap().remove(figures)));
            std::fs::remove_file(profile).unwrap();
        }
        let result = resumed(&store, spec.clone());
        let cell = &result.cells[0];
        assert_eq!(shares(cell), shares(whole), "{name}");
        assert_eq!(zeros(cell), zeros(whole), "{name}");
        assert_eq!(cell.metrics.first(&PERPLEXITY), whole.metrics.first(&PERPLEXITY), "{name}");
        let (shown, text) = said(place, &["show", "--store", name, "--survey", "--format", "csv"]);
        assert!(shown == Some(0) && text.contains("outlier_ratio,error_10"), "{text}");
    }
}

#[test]
fn what_contradicts_an_allocation_is_refused_before_anything_runs() {
    let place = place();
    place.write("profile.txt", "1 1 1 1\n");
    let line = ["run", "--model", "model", "--calibration", "calibration.txt", "--seq-len", "32", "--corpus"];
    let line = [&line[..], &["corpus.txt", "--dry-run", "--recipe"]].concat();
    for (rest, part) in [
        (&["wanda@2:4,allocation=owl"][..], "allocation=owl spreads a fraction over the blocks, and 2:4"),
        (&["wanda@2:4,allocation=error"], "allocation=error spreads a fraction over the blocks, and 2:4"),
        (&["wanda@50%,allocation=own"], "allocation `own`: accepted is uniform or owl or error"),
        (&["wanda@50%,allocation=error", "--profile", "profile.txt"], "accepted is one of both"),
        (&["wanda@50%,allocation=owl", "--profile", "profile.txt"], "accepted is one of both"),
        (&["gptq@4bit,allocation=owl"], "gptq has no parameter `allocation`"),
    ] {
        let (code, text) = said(&place, &[&line[..], rest].concat());
        assert!(code == Some(2) && text.contains(part), "{rest:?}: {text}");
    }
    let (code, text) = said(&place, &[&line[..], &["magnitude@50%,allocation=owl"]].concat());
    assert_eq!(code, Some(0), "{text}");
}
