//! What a study may choose changes the numbers as it should, and nothing else changes them.

mod common;

use common::{Place, Synthetic};
use secateur::engine::RunOptions;
use secateur::results::{CellResult, Measurement, Metrics, ModelInfo, StudyResult};
use secateur::scores::{JS_DIVERGENCE, KL_DIVERGENCE, PERPLEXITY, Score, TOP1_AGREEMENT};
use secateur::study::StudySpec;

const BLOCKS: usize = 4;

/// The value of a score on the first text.
fn of<'a>(metrics: &'a Metrics, score: &Score) -> &'a Measurement {
    metrics.first(score).unwrap()
}

fn place() -> Place {
    Place::new(&Synthetic { hidden: 128, intermediate: 256, blocks: BLOCKS, ..Synthetic::default() })
}

/// The result of a study in a store of its own.
fn run(spec: StudySpec) -> StudyResult {
    let store = tempfile::tempdir().unwrap();
    common::run(&store.path().join("s.db"), spec, RunOptions::default()).0
}

fn close(a: f64, b: f64, tolerance: f64) -> bool {
    (a / b - 1.0).abs() <= tolerance
}

#[test]
fn only_the_chosen_modules_of_the_chosen_blocks_are_pruned_and_counted() {
    let place = place();
    let mut spec = place.spec(vec![place.cell("wanda", "0.5"), place.cell("sparsegpt", "0.5")]);
    spec.prune.modules = vec!["mlp.down*".into(), "q_proj".into()];
    spec.prune.blocks = Some((1, 3));
    let result = run(spec);
    let expected: Vec<String> = (1..3)
        .flat_map(|b| ["self_attn.q_proj", "mlp.down_proj"].map(|m| format!("model.layers.{b}.{m}")))
        .collect();
    for cell in &result.cells {
        let names: Vec<&str> = cell.modules.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, expected, "{}", cell.id);
        let zeros: u64 = cell.modules.iter().map(|m| m.footprint.zeros).sum();
        let weights: u64 = cell.modules.iter().map(|m| m.footprint.weights).sum();
        assert_eq!(weights, 2 * (64 * 128 + 128 * 256));
        assert!(close(cell.footprint.unwrap().sparsity(), zeros as f64 / weights as f64, 1e-12));
        assert!((cell.footprint.unwrap().sparsity() - 0.5).abs() < 0.01);
        assert!(of(&cell.metrics, &JS_DIVERGENCE).value > 1e-4);
    }
}

#[test]
fn the_dense_pass_for_some_modules_gives_what_the_whole_one_gives() {
    let place = place();
    for method in ["wanda", "sparsegpt"] {
        let mut spec = place.spec(vec![place.cell(method, "0.5")]);
        let whole = run(spec.clone());
        for module in ModelInfo::llama_modules() {
            spec.prune.modules = vec![module.clone()];
            // Block 0 sees the same inputs whatever else is pruned.
            spec.prune.blocks = Some((0, 1));
            let alone = run(spec.clone());
            let [alone] = &alone.cells[0].modules[..] else { panic!() };
            let among = whole.cells[0].modules.iter().find(|m| m.name == alone.name).unwrap();
            assert!(
                close(alone.reconstruction_error, among.reconstruction_error, 1e-12),
                "{method} {module}"
            );
            assert_eq!(alone.footprint, among.footprint);
        }
    }
}

#[test]
fn a_profile_spreads_the_sparsity_over_the_blocks() {
    let place = place();
    let mut spec = place.spec(vec![place.cell("wanda", "0.4"), place.cell("wanda", "2:4")]);
    spec.prune.profile = Some(place.write("profile.txt", "0 0.5\n1 # the third\n1.5\n"));
    let result = run(spec);
    for module in &result.cells[0].modules {
        let share = 0.4 * [0.0, 0.5, 1.0, 1.5][module.block];
        // Wanda removes the same number in every row.
        assert!(
            module.footprint.sparsity() <= share + 1e-9 && module.footprint.sparsity() > share - 1.0 / 64.0,
            "{module:?}"
        );
    }
    let achieved = result.cells[0].footprint.unwrap().sparsity();
    assert!((0.28..=0.3).contains(&achieved), "{achieved}");
    assert!(
        close(result.cells[1].footprint.unwrap().sparsity(), 0.5, 1e-12),
        "groups are the same everywhere"
    );
}

#[test]
fn sparsegpt_hears_of_damping_and_block_size() {
    let place = place();
    let with = |damping: f64, block_size: usize| -> CellResult {
        let mut spec = place.spec(vec![place.cell("sparsegpt", "0.5")]);
        (spec.prune.damping, spec.prune.block_size) = (damping, block_size);
        run(spec).cells.remove(0)
    };
    let (usual, damped, narrow) = (with(0.01, 128), with(0.5, 128), with(0.01, 16));
    assert!(usual.modules.iter().all(|m| close(m.details["damping"], 0.01, 1e-12)));
    assert!(damped.modules.iter().all(|m| close(m.details["damping"], 0.5, 1e-12)));
    for other in [&damped, &narrow] {
        assert!((other.footprint.unwrap().sparsity() - 0.5).abs() < 0.02);
        assert_ne!(of(&other.metrics, &PERPLEXITY), of(&usual.metrics, &PERPLEXITY));
    }
    let error = |cell: &CellResult| cell.modules[0].reconstruction_error;
    assert!(error(&usual) < error(&damped), "{} {}", error(&usual), error(&damped));
}

#[test]
fn a_cell_at_sparsity_0_is_the_base() {
    let place = place();
    let cells = ["magnitude", "wanda", "sparsegpt"].map(|m| place.cell(m, "0"));
    let result = run(place.spec(cells.to_vec()));
    let base = of(&result.base.metrics, &PERPLEXITY);
    for cell in &result.cells {
        let (perplexity, js) = (of(&cell.metrics, &PERPLEXITY), of(&cell.metrics, &JS_DIVERGENCE));
        if cell.spec.recipe.method() == "wanda" {
            assert_eq!(cell.footprint.unwrap().zeros, 0);
            assert_eq!(perplexity, base);
            assert!(js.value.abs() < 1e-6 && of(&cell.metrics, &KL_DIVERGENCE).value.abs() < 1e-6, "{js:?}");
            assert!(close(of(&cell.metrics, &TOP1_AGREEMENT).value, 1.0, 1e-12));
        } else {
            // As in the authors' code, thresholds take the smallest weight with them.
            assert!(cell.footprint.unwrap().sparsity() < 1e-3, "{}", cell.id);
            assert!(close(perplexity.value, base.value, 1e-3), "{} {}", cell.id, perplexity.value);
            assert!(js.value < 1e-4, "{} {}", cell.id, js.value);
        }
    }
}

#[test]
fn metrics_do_not_depend_on_how_windows_are_batched() {
    let place = place();
    let with = |batch_tokens: usize| {
        let mut spec = place.spec(["magnitude", "wanda", "sparsegpt"].map(|m| place.cell(m, "0.5")).to_vec());
        spec.compute.batch_tokens = batch_tokens;
        run(spec)
    };
    let (one, odd, all) = (with(1), with(100), with(100_000));
    for other in [&odd, &all] {
        let base = |r: &StudyResult| of(&r.base.metrics, &PERPLEXITY).value;
        assert!(close(base(other), base(&one), 1e-5));
        for (a, b) in one.cells.iter().zip(&other.cells) {
            // SparseGPT carries rounding from block to block.
            let tolerance = if a.spec.recipe.method() == "sparsegpt" { 2e-2 } else { 1e-3 };
            for score in [&PERPLEXITY, &JS_DIVERGENCE] {
                let (p, q) = (of(&a.metrics, score).value, of(&b.metrics, score).value);
                assert!(close(p, q, tolerance), "{}: {p} {q}", a.id);
            }
        }
    }
}
