//! Agreement with the distribution of divergences that `../shared/golden/eval/README.md` gives for a real model: means,
//! percentiles, Δp and paired perplexity, over all positions and over those that llama.cpp counts.

mod common;

use std::path::Path;

use secateur::engine::RunOptions;
use secateur::methods::grid;
use secateur::results::{CellResult, Measurement};
use secateur::scores::{
    DELTA_P_RMS, JS_DIVERGENCE, KL_DIVERGENCE, KL_P99, PERPLEXITY, PERPLEXITY_RATIO, Score, TOP1_AGREEMENT,
};
use secateur::store::Store;
use secateur::store::checkpoint::positions::{self, TextPositions};
use secateur::study::{ScoredPositions, StudySpec};
use serde_json::Value;

/// The percentiles of a divergence: the golden name, ours, and how far they may be apart, as a share. The least value is
/// held to an absolute bound.
const TAILS: [(&str, &str, f64); 10] = [
    ("max", "max", 0.01),
    ("99.9", "p99_9", 0.01),
    ("99", "p99", 0.001),
    ("95", "p95", 0.001),
    ("90", "p90", 0.001),
    ("median", "median", 0.001),
    ("10", "p10", 0.001),
    ("5", "p5", 0.001),
    ("1", "p1", 0.001),
    ("0.1", "p0_1", 0.01),
];

/// What may be added to a bound that is a share.
const ABSOLUTE: f64 = 1e-6;

/// The comparisons so far; all are printed before one fails the test.
#[derive(Default)]
struct Checks {
    wrong: Vec<String>,
}

impl Checks {
    fn near(&mut self, what: &str, got: f64, want: f64, tolerance: f64) {
        let off = (got - want).abs();
        println!("{what}: {got:.9}, golden {want:.9}, off by {off:.2e} of at most {tolerance:.2e}");
        if off.is_nan() || off > tolerance {
            self.wrong.push(format!("{what}: {got} is not within {tolerance} of {want}"));
        }
    }

    fn share(&mut self, what: &str, got: f64, want: f64, share: f64) {
        self.near(what, got, want, want.abs() * share + ABSOLUTE);
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn measured<'a>(cell: &'a CellResult, score: &Score) -> &'a Measurement {
    cell.metrics.first(score).unwrap()
}

fn detail(cell: &CellResult, score: &Score, name: &str) -> f64 {
    measured(cell, score).details.get(name).unwrap_or_else(|| panic!("{} has no {name}", score.id))
}

/// The golden figures are in nats, ours in bits.
fn nats(bits: f64) -> f64 {
    bits * std::f64::consts::LN_2
}

fn study(model: &Path, data: &Path, scored: ScoredPositions) -> StudySpec {
    let corpus = data.join("text/wikitext2_raw_test.txt");
    let cells = grid(&["magnitude@20%".parse().unwrap()], &[], 0);
    let mut spec = common::study(model, &data.join("text/c4_sample.txt"), &corpus, 512, cells);
    spec.evaluation.max_windows = Some(8);
    spec.evaluation.score = scored;
    spec.compute.device = "cpu".into();
    spec
}

fn check_divergences(checks: &mut Checks, cell: &CellResult, golden: &Value) {
    for (score, name) in [(&KL_DIVERGENCE, "kld"), (&JS_DIVERGENCE, "js")] {
        let golden = &golden[name];
        let mean = detail(cell, score, "nats");
        checks.share(&format!("{name} mean"), mean, number(&golden["mean"]), 0.001);
        for (theirs, ours, share) in TAILS {
            let got = nats(detail(cell, score, ours));
            checks.share(&format!("{name} {theirs}"), got, number(&golden[theirs]), share);
        }
        let least = nats(detail(cell, score, "min"));
        checks.near(&format!("{name} min"), least, number(&golden["min"]), 1e-5);
    }
    checks.share("KL p99", nats(measured(cell, &KL_P99).value), number(&golden["kld"]["99"]), 0.001);
    let [low, high] = measured(cell, &KL_P99).ci95;
    println!("KL p99: {low:.4} to {high:.4} bits");
    let top1 = measured(cell, &TOP1_AGREEMENT).value;
    checks.near("same top", top1, number(&golden["same_top"]["share"]), 4.0 / 4096.0);
}

fn check_probabilities(checks: &mut Checks, cell: &CellResult, golden: &Value) {
    let delta = &golden["delta_p"];
    checks.near("dp rms", measured(cell, &DELTA_P_RMS).value, number(&delta["rms"]), 1e-4);
    let names = [
        ("rms_standard_error", "rms_standard_error"),
        ("mean", "mean"),
        ("standard_error", "standard_error"),
        ("75", "p75"),
        ("25", "p25"),
        ("min", "min"),
    ];
    let tails = TAILS.map(|(theirs, ours, _)| (theirs, ours));
    for (theirs, ours) in names.into_iter().chain(tails) {
        let got = detail(cell, &DELTA_P_RMS, ours);
        checks.near(&format!("dp {theirs}"), got, number(&delta[theirs]), 1e-4);
    }

    let paired = &golden["perplexity"];
    let of = |name: &str| detail(cell, &PERPLEXITY_RATIO, name);
    checks.near("ln ratio", of("ln_ratio"), number(&paired["ln_ppl_ratio"]), 1e-4);
    let error = number(&paired["ln_ppl_ratio_standard_error"]);
    checks.near("its standard error", of("standard_error_tokens_nats"), error, error * 0.001);
    println!("its standard error over windows: {:.6}", of("standard_error_nats"));
    checks.share("ratio", measured(cell, &PERPLEXITY_RATIO).value, number(&paired["ppl_ratio"]), 2e-4);
    checks.share("perplexity", measured(cell, &PERPLEXITY).value, number(&paired["ppl"]), 0.001);
}

/// What is kept of the positions against single golden positions, and against the means.
fn check_kept(
    checks: &mut Checks,
    cell: &CellResult,
    base: &TextPositions,
    kept: &TextPositions,
    golden: &Value,
) {
    let [js, kl] = kept.divergences.as_ref().unwrap();
    assert!(base.divergences.is_none(), "the base is not compared");
    let list = |name: &str| golden[name].as_array().unwrap().iter().map(number).collect::<Vec<_>>();
    for (name, ours) in [("kld", &kl[0]), ("js", &js[0]), ("nll", &kept.nll[0]), ("nll_base", &base.nll[0])] {
        let theirs = list(name);
        assert_eq!(ours.len(), theirs.len(), "{name}");
        let off = ours.iter().zip(theirs).map(|(ours, theirs)| (f64::from(*ours) - theirs).abs());
        checks.near(&format!("window 0, {name}, farthest position"), off.fold(0.0, f64::max), 0.0, 1e-3);
    }
    let mean = kl.concat().iter().map(|v| f64::from(*v)).sum::<f64>() / kl.concat().len() as f64;
    checks.near("mean of the kept KL", mean, detail(cell, &KL_DIVERGENCE, "nats"), 1e-7);
}

#[test]
fn tails_agree_with_the_reference() {
    let (Some(model), Some(data), Some(gold)) = (
        common::skip::smollm2(),
        common::skip::shared("data"),
        common::skip::shared("golden/eval/divergence.json"),
    ) else {
        return;
    };
    let golden: Value = serde_json::from_str(&std::fs::read_to_string(gold).unwrap()).unwrap();
    let golden = &golden["cells"]["magnitude-0.2"];
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("golden.db");
    let mut checks = Checks::default();
    for (name, scored) in [("all", ScoredPositions::All), ("second_half", ScoredPositions::SecondHalf)] {
        println!("\n{name}");
        let (result, _) = common::run(&store, study(&model, &data, scored), RunOptions::default());
        let [cell] = result.cells.as_slice() else { panic!("one cell was asked for") };
        let of_set = &golden["sets"][name];
        check_divergences(&mut checks, cell, of_set);
        check_probabilities(&mut checks, cell, of_set);

        let folder = |cell| Store::open_read_only(&store).unwrap().folder(result.study, cell);
        let read = |cell| positions::read(&folder(cell)).unwrap().unwrap();
        let (base, kept) = (read(None), read(Some(&*cell.id)));
        if scored == ScoredPositions::All {
            check_kept(&mut checks, cell, &base[0], &kept[0], &golden["window_0"]);
            let bands = golden["kld_mean_by_position_64"].as_array().unwrap();
            for (i, want) in bands.iter().enumerate() {
                let got = nats(detail(cell, &KL_DIVERGENCE, &format!("band_{}", i + 1)));
                checks.share(&format!("KL band {}", i + 1), got, number(want), 0.001);
            }
        } else {
            let [js, _] = kept[0].divergences.as_ref().unwrap();
            assert_eq!((kept[0].nll[0].len(), js[0].len(), base[0].nll.len()), (255, 255, 8));
        }
    }
    assert!(checks.wrong.is_empty(), "{:#?}", checks.wrong);
}

#[test]
fn positions_stay_with_their_study_and_go_with_it() {
    let place = common::Place::new(&common::Synthetic::default());
    let store = place.path("s.db");
    let spec = place.spec(vec![place.cell("magnitude", "0.5")]);
    let (all, _) = common::run(&store, spec.clone(), RunOptions::default());
    let mut half = spec.clone();
    half.evaluation.score = ScoredPositions::SecondHalf;
    let (half, _) = common::run(&store, half, RunOptions { resume: true, ..RunOptions::default() });
    assert_ne!(all.study, half.study, "other positions are another study");

    let folder = |study, cell| Store::open_read_only(&store).unwrap().folder(study, cell);
    let read = |study, cell| positions::read(&folder(study, cell)).unwrap().unwrap().remove(0);
    let id = all.cells[0].id.as_str();
    let (of_all, of_half) = (read(all.study, Some(id)), read(half.study, Some(id)));
    let lengths = |text: &TextPositions| (text.nll[0].len(), text.divergences.as_ref().unwrap()[0][0].len());
    assert_eq!((lengths(&of_all), lengths(&of_half)), ((31, 32), (15, 15)));
    // The same positions show the same, whichever of them count.
    for (all, half) in of_all.nll.iter().zip(&of_half.nll) {
        assert!(all[16..].iter().zip(half).all(|(a, b)| (a - b).abs() < 1e-4), "{all:?}\n{half:?}");
    }
    let mean = |rows: &[Vec<f32>]| {
        let all: Vec<f64> = rows.iter().flatten().map(|v| f64::from(*v)).collect();
        all.iter().sum::<f64>() / all.len() as f64
    };
    for (result, kept) in [(&all, &of_all), (&half, &of_half)] {
        let perplexity = measured(&result.cells[0], &PERPLEXITY).value;
        assert!((mean(&kept.nll).exp() / perplexity - 1.0).abs() < 1e-5);
        let base = result.base.metrics.first(&PERPLEXITY).unwrap().value;
        assert!((mean(&read(result.study, None).nll).exp() / base - 1.0).abs() < 1e-5);
        let ratio = measured(&result.cells[0], &PERPLEXITY_RATIO).value;
        assert!((ratio * base / perplexity - 1.0).abs() < 1e-9);
    }

    // Whoever takes the study up again finds it done, with its positions.
    let (again, _) = common::run(&store, spec, RunOptions { resume: true, ..RunOptions::default() });
    assert_eq!(again.study, all.study);
    assert_eq!(read(all.study, Some(id)), of_all);
    let gone = folder(all.study, Some(id));
    Store::delete(&store, all.study).unwrap();
    assert_eq!(positions::read(&gone).unwrap(), None);
}
