//! Agreement with the methods' authors' code on a real model, as `../shared/golden/README.md` lists it.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use secateur::engine::RunOptions;
use secateur::methods::grid;
use secateur::model::ModelFolder;
use secateur::results::{CellResult, Metrics, ModuleResult, StudyResult};
use secateur::scores::{EXACT_MATCH, F1, JS_DIVERGENCE, KL_DIVERGENCE, PERPLEXITY, ROUGE1, Score};
use secateur::store::Store;
use secateur::store::checkpoint::{positions, read_block};
use secateur::store::stored::mask_of;
use serde_json::Value;

/// Both tests use every core for minutes; side by side they would only wait for each other.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The golden cell of a method at a sparsity.
fn golden<'a>(results: &'a Value, method: &str, sparsity: &str) -> &'a Value {
    let cells = results["cells"].as_array().unwrap();
    let wanted = |c: &&Value| {
        let s = &c["sparsity"];
        c["method"] == method && s.as_str().map_or_else(|| s.to_string(), str::to_string) == sparsity
    };
    cells.iter().find(wanted).unwrap_or_else(|| panic!("no golden {method} {sparsity}"))
}

/// Asserts that two numbers agree to a share of the golden one, and prints how well.
fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    let off = (got / want - 1.0).abs();
    println!(
        "{what}: {got:.5}, golden {want:.5}, off by {:.4}% of at most {}%",
        off * 100.0,
        tolerance * 100.0
    );
    assert!(off <= tolerance, "{what}: {got} is not within {tolerance} of {want}");
}

/// Perplexity and JS of a cell, each to its tolerance.
fn check_metrics(cell: &CellResult, golden: &Value, perplexity: f64, js: f64) {
    close(
        &format!("{} perplexity", cell.id),
        value(&cell.metrics, &PERPLEXITY),
        number(&golden["perplexity"]),
        perplexity,
    );
    if let Some(bits) = golden["js_bits"].as_f64() {
        close(&format!("{} JS", cell.id), value(&cell.metrics, &JS_DIVERGENCE), bits, js);
        close(
            &format!("{} KL", cell.id),
            cell.metrics.first(&KL_DIVERGENCE).unwrap().details.get("nats").unwrap(),
            number(&golden["kl_base_to_cell_nats"]),
            3.0 * js,
        );
    }
}

/// The value of a score on the first data set.
fn value(metrics: &Metrics, score: &Score) -> f64 {
    metrics.first(score).unwrap().value
}

fn number(v: &Value) -> f64 {
    v.as_f64().unwrap()
}

/// Zeroes of every module against the golden counts; `slack` is a share of a module's size.
fn check_zeros(cell: &CellResult, golden: &Value, slack: f64) {
    let off = zeros_that_differ(cell, golden, slack);
    assert!(off.is_empty(), "{} has other zeroes than the golden cell: {off:?}", cell.id);
}

/// The modules whose zeroes differ by more than `slack`, a share of the module's size: name, found, golden.
fn zeros_that_differ<'a>(cell: &'a CellResult, golden: &Value, slack: f64) -> Vec<(&'a str, u64, u64)> {
    let counts = golden["zeros_by_module"].as_object().unwrap();
    assert_eq!(cell.modules.len(), counts.len());
    let of = |module: &'a ModuleResult| {
        let want = counts[module.name.strip_prefix("model.layers.").unwrap()].as_u64().unwrap();
        (module.name.as_str(), module.footprint.zeros, want, slack * module.footprint.weights as f64)
    };
    let differs = |&(_, found, want, slack): &(_, u64, u64, f64)| found.abs_diff(want) as f64 > slack;
    cell.modules.iter().map(of).filter(differs).map(|(name, found, want, _)| (name, found, want)).collect()
}

/// Share of equal bits between a cell's masks and the golden ones, per module of a block.
fn mask_agreement(
    store: &Path,
    study: i64,
    cell: &CellResult,
    golden: &str,
    masks: &Masks,
    block: usize,
) -> Vec<(String, f64)> {
    let dir = Store::open_read_only(store).unwrap().folder(study, Some(&cell.id));
    let modules = read_block(&dir, block, &candle_core::Device::Cpu).unwrap();
    modules
        .into_iter()
        .map(|(path, weight)| {
            let count = weight.shape().unwrap().iter().product::<usize>();
            // Whatever the source's weights are where a mask keeps them.
            let weights = weight.weights(|| Ok(vec![1.0; count])).unwrap();
            let weights = weights.to_dtype(candle_core::DType::F32).unwrap().flatten_all().unwrap();
            let bits = mask_of(&weights.to_vec1::<f32>().unwrap());
            let want = &masks[&format!("{golden}/model.layers.{block}.{path}.weight")];
            let wrong: u32 = bits.iter().zip(want).map(|(a, b)| (a ^ b).count_ones()).sum();
            (path, 1.0 - f64::from(wrong) / count as f64)
        })
        .collect()
}

type Masks = HashMap<String, Vec<u8>>;

fn load_masks(path: &Path) -> Masks {
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensors().into_iter().map(|(name, t)| (name, t.data().to_vec())).collect()
}

fn cell<'a>(result: &'a StudyResult, id: &str) -> &'a CellResult {
    result.cells.iter().find(|c| c.id.starts_with(id)).unwrap_or_else(|| panic!("no cell {id}"))
}

/// The study of the golden results: 32 windows of 512 tokens to calibrate on and to measure.
fn golden_study(model: &Path, data: &Path, recipes: &[&str]) -> secateur::study::StudySpec {
    let (calibration, corpus) = (data.join("text/c4_sample.txt"), data.join("text/wikitext2_raw_test.txt"));
    let set = calibration.display().to_string();
    let recipes: Vec<_> = recipes.iter().map(|recipe| recipe.parse().unwrap()).collect();
    let cells = grid(&recipes, &[set], 0);
    let mut spec = common::study(model, &calibration, &corpus, 512, cells);
    spec.calibration.samples = 32;
    spec.evaluation.max_windows = Some(32);
    spec.evaluation.max_new_tokens = 32;
    spec
}

#[test]
fn pruned_models_agree_with_the_authors_code() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (Some(model), Some(data), Some(gold)) =
        (common::skip::smollm2(), common::skip::shared("data"), common::skip::shared("golden"))
    else {
        return;
    };
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(gold.join("results.json")).unwrap()).unwrap();
    let masks = load_masks(&gold.join("masks.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("golden.db");
    let cells = [
        ("magnitude", "0.5"),
        ("magnitude", "2:4"),
        ("wanda", "0.5"),
        ("wanda", "2:4"),
        ("sparsegpt", "0.5"),
        ("sparsegpt", "2:4"),
    ];
    let recipes = cells.map(|(method, sparsity)| format!("{method}@{sparsity}"));
    let mut spec = golden_study(&model, &data, &recipes.each_ref().map(String::as_str));
    // The golden run's device. Another one rounds otherwise and turns other weights: Wanda 2:4 on an H200 in f32 has
    // perplexity 210.0, 2.8% below.
    spec.compute.device = "cpu".into();
    let (result, _) = common::run(&store, spec, RunOptions::default());
    close(
        "base perplexity",
        value(&result.base.metrics, &PERPLEXITY),
        number(&golden(&results, "dense", "0")["perplexity"]),
        0.0005,
    );

    for (method, sparsity) in cells {
        let id = format!("{method}-{}", sparsity.replace(':', "of"));
        let (cell, golden) = (cell(&result, &id), golden(&results, method, sparsity));
        let agreement = |block| mask_agreement(&store, result.study, cell, &id, &masks, block);
        let (perplexity, js, slack, first, last) = match method {
            "magnitude" => (0.002, 0.005, 0.0, 1.0, 1.0),
            // The golden page asks for 0.5% of perplexity, 1% of JS and 99.9% of the masks of the last block. That is not
            // to be had: the authors' formulas in PyTorch, on transformers' own layers in f32, give perplexity 64.27
            // (eager attention) and 64.45 (fused) for 0.5 where the golden run gave 64.11, and in block 29 99.51% to
            // 99.76% of its masks; in f64 64.446 (here 64.447) and 99.54% to 99.74%. A weight or two that rounding turns
            // in block 6 is all it takes; from there on every block turns more, at 2:4 ten times as many.
            "wanda" if sparsity == "2:4" => (0.015, 0.02, 0.0, 0.9999, 0.96),
            "wanda" => (0.015, 0.01, 0.0, 0.9999, 0.995),
            _ => (0.04, 0.04, 0.0001, 0.999, 0.0),
        };
        check_metrics(cell, golden, perplexity, js);
        // Of equal magnitudes in an N:M group either may go; counts do not depend on which.
        check_zeros(cell, golden, slack);
        if masks.keys().any(|k| k.starts_with(&format!("{id}/"))) {
            for (block, least) in [(0, first), (29, last)] {
                for (module, share) in agreement(block) {
                    println!("{id} block {block} {module}: masks agree on {:.5}%", share * 100.0);
                    assert!(share >= least, "{id} block {block} {module}: {share}");
                }
            }
        }
    }
}

#[test]
fn ria_agrees_with_its_authors_code() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (Some(model), Some(data), Some(gold)) =
        (common::skip::smollm2(), common::skip::shared("data"), common::skip::shared("golden/structure"))
    else {
        return;
    };
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(gold.join("results.json")).unwrap()).unwrap();
    let masks = load_masks(&gold.join("masks.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("golden.db");
    // Recipe, id, golden cell; how far zeros may be off as a share of a module, the least agreement of masks in the last
    // block, and the perplexity of the authors' formula in f64. The golden page asks for 99.9% of these masks and for 0.5%
    // of perplexity, which that formula misses itself, on the same model and windows: by row it has 99.82% to 99.91% of the
    // masks and a perplexity of 87.1366, at 2:4 98.87% to 99.34% and 319.255. A pair of scores that is equal but for f32's
    // last bits decides there. So perplexity is held to f64's too, where f32 allows it (2:4: 313.6 to 321.3 in PyTorch).
    // Where one threshold serves a whole matrix, all scores equal to it go: in the authors' run two scores were equal
    // there in one of 210 matrices, by chance of rounding. Here that may befall a few others.
    let cells = [
        ("ria@50%", "ria-0.5-c4", "ria-0.5-matrix", 0.0, 0.998, 87.7285),
        ("ria@50%,compare=row", "ria-0.5-comparerow", "ria-0.5-row", 0.0, 0.998, 87.1366),
        ("ria@2:4", "ria-2of4", "ria-2of4", 0.0001, 0.98, 319.255),
    ];
    let mut spec = golden_study(&model, &data, &cells.map(|(recipe, ..)| recipe));
    spec.evaluation.max_windows = Some(16);
    spec.compute.device = "cpu".into();
    let (result, _) = common::run(&store, spec, RunOptions::default());
    let mut wrong = Vec::new();
    for (_, id, want, slack, last, exact) in cells {
        let of_name = |c: &&Value| c["cell"] == want;
        let golden = results["ria"]["cells"].as_array().unwrap().iter().find(of_name).unwrap();
        let cell = cell(&result, id);
        let off = zeros_that_differ(cell, golden, slack);
        println!("{want}: {off:?}");
        if off.len() > 6 || off.iter().any(|(_, found, golden)| found.abs_diff(*golden) != 1) {
            wrong.push(format!("{want}: {off:?}"));
        }
        for (block, least) in [(0, 0.9999), (29, last)] {
            for (module, share) in mask_agreement(&store, result.study, cell, want, &masks, block) {
                println!("{want} block {block} {module}: masks agree on {:.5}%", share * 100.0);
                if share < least {
                    wrong.push(format!("{want} block {block} {module}: {share}"));
                }
            }
        }
        let (perplexity, js, of_exact) =
            if want == "ria-2of4" { (0.04, 0.03, 0.02) } else { (0.005, 0.01, 0.003) };
        check_metrics(cell, golden, perplexity, js);
        close(&format!("{want}: perplexity in f64"), value(&cell.metrics, &PERPLEXITY), exact, of_exact);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn swaps_agree_with_brute_force_on_a_whole_matrix() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (Some(model), Some(data), Some(gold)) =
        (common::skip::smollm2(), common::skip::shared("data"), common::skip::shared("golden/structure"))
    else {
        return;
    };
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(gold.join("results.json")).unwrap()).unwrap();
    let masks = load_masks(&gold.join("masks.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("golden.db");
    let mut spec =
        golden_study(&model, &data, &["wanda@50%", "wanda@50%+swaps", "wanda@2:4", "wanda@2:4+swaps"]);
    spec.evaluation.max_windows = Some(1);
    spec.prune.modules = vec!["q_proj".into()];
    spec.prune.blocks = Some((0, 1));
    let (result, _) = common::run(&store, spec, RunOptions::default());
    let golden = &results["swaps"]["real"];
    let energy = number(&golden["output_energy"]);
    for (id, name) in [("wanda-0.5-swaps", "wanda-0.5"), ("wanda-2of4-swaps", "wanda-2of4")] {
        let (cell, golden) = (cell(&result, id), &golden[name]);
        let [module] = &cell.modules[..] else { panic!("{} modules", cell.modules.len()) };
        close(id, module.reconstruction_error * energy, number(&golden["error_after"]), 0.005);
        close(&format!("{id}: swaps"), module.details["swaps"], number(&golden["swaps"]), 0.02);
        let name = format!("{name}+swaps");
        for (module, share) in mask_agreement(&store, result.study, cell, &name, &masks, 0) {
            println!("{name} {module}: masks agree on {:.4}%", share * 100.0);
            assert!(share >= 0.99, "{name} {module}: {share}");
        }
    }
}

#[test]
fn a_mixed_calibration_set_agrees_with_the_reference() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (Some(model), Some(data), Some(gold)) =
        (common::skip::smollm2(), common::skip::shared("data"), common::skip::shared("golden/structure"))
    else {
        return;
    };
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(gold.join("results.json")).unwrap()).unwrap();
    let golden = &results["mixed"];
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("golden.db");
    let mut spec = golden_study(&model, &data, &[]);
    let [c4, dolly] =
        ["text/c4_sample.txt", "tasks/dolly_dev.jsonl"].map(|file| data.join(file).display().to_string());
    spec.calibration.sets = vec![format!("{c4}+{dolly}")];
    spec.cells = grid(&["wanda@50%".parse().unwrap()], &spec.calibration.sets, 0);
    spec.compute.device = "cpu".into();
    let (result, _) = common::run(&store, spec, RunOptions::default());
    let cell = cell(&result, "wanda-0.5-c4_sample+dolly_dev");
    let folder = Store::open_read_only(&store).unwrap().folder(result.study, Some(&cell.id));
    let windows = positions::read(&folder).unwrap().unwrap().remove(0).nll;
    // The mean perplexity is that of C4 alone, by chance: only the windows tell that the second set was read.
    let of_golden = golden["nll_windows"].as_array().unwrap();
    assert_eq!(windows.len(), of_golden.len());
    let mut wrong = Vec::new();
    for (place, (window, want)) in windows.iter().zip(of_golden).enumerate() {
        let got = window.iter().map(|&nll| f64::from(nll)).sum::<f64>() / window.len() as f64;
        let off = got - number(want);
        println!("window {place}: {got:.5}, golden {want}, off by {off:+.5} of at most 0.006");
        if off.abs() > 0.006 {
            wrong.push(format!("window {place}: {got} instead of {want}"));
        }
    }
    close("mixed perplexity", value(&cell.metrics, &PERPLEXITY), number(&golden["perplexity"]), 0.005);
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn answers_agree_with_the_reference() {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (Some(model), Some(data), Some(gold)) =
        (common::skip::smollm2(), common::skip::shared("data"), common::skip::shared("golden"))
    else {
        return;
    };
    let tasks: Value =
        serde_json::from_str(&std::fs::read_to_string(gold.join("tasks.json")).unwrap()).unwrap();
    let results: Value =
        serde_json::from_str(&std::fs::read_to_string(gold.join("results.json")).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("golden.db");
    let mut spec = golden_study(&model, &data, &["magnitude@0.2", "wanda@0.3"]);
    spec.evaluation.tasks = vec![data.join("tasks/squad_short.jsonl").display().to_string()];
    spec.evaluation.task_limit = Some(64);
    let (result, _) = common::run(&store, spec, RunOptions::default());

    let magnitude = cell(&result, "magnitude-0.2");
    check_metrics(magnitude, golden(&results, "magnitude", "0.2"), 0.002, 0.005);
    check_zeros(magnitude, golden(&results, "magnitude", "0.2"), 0.0);
    let wanda = cell(&result, "wanda-0.3");
    check_metrics(wanda, golden(&results, "wanda", "0.3"), 0.005, 0.01);
    check_zeros(wanda, golden(&results, "wanda", "0.3"), 0.0);

    let folder = ModelFolder::open(&model).unwrap();
    let answers = Store::open_read_only(&store).unwrap().answers(result.study, None).unwrap();
    let items = tasks["cells"]["dense"]["items"].as_array().unwrap();
    assert_eq!(answers.len(), items.len());
    let same = answers
        .iter()
        .zip(items)
        .filter(|(answer, item)| {
            let golden: Vec<u32> =
                item["new_tokens"].as_array().unwrap().iter().map(|t| t.as_u64().unwrap() as u32).collect();
            // The golden tokens end with the end token where there was one; ours never hold it.
            let end = golden.iter().position(|t| folder.config.eos.contains(t)).unwrap_or(golden.len());
            answer.tokens == golden[..end]
        })
        .count();
    println!("base answers equal token for token: {same} of {}", items.len());
    assert!(same >= 60, "{same} of 64 base answers are equal token for token");

    for (metrics, cell, tolerance) in [
        (&result.base.metrics, "dense", 0.02),
        (&magnitude.metrics, "magnitude-0.2", 0.04),
        (&wanda.metrics, "wanda-0.3", 0.04),
    ] {
        let want = &tasks["cells"][cell]["summary"];
        for score in [&EXACT_MATCH, &F1, &ROUGE1] {
            let (got, want) = (value(metrics, score), number(&want[score.id]));
            println!("{cell} {}: {got:.4}, golden {want:.4}", score.id);
            assert!((got - want).abs() <= tolerance, "{cell} {}", score.id);
        }
    }
}
