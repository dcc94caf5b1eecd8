//! Quantised models agree with the authors' code on a real model, as `../shared/golden/quant/README.md` lists it.

mod common;

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use secateur::engine::RunOptions;
use secateur::kernels::codes::Codes;
use secateur::methods::grid;
use secateur::results::CellResult;
use secateur::scores::{JS_DIVERGENCE, KL_DIVERGENCE, PERPLEXITY};
use secateur::store::Store;
use secateur::store::checkpoint::read_block;
use secateur::store::stored::Stored;
use secateur::study::StudySpec;
use serde_json::Value;

/// What all tests here need: the model with its weights in `f32`, as the golden run had them, and the golden results.
struct Setting {
    home: tempfile::TempDir,
    data: PathBuf,
    golden: PathBuf,
}

impl Setting {
    fn new() -> Option<Self> {
        let (model, data) = (common::skip::smollm2()?, common::skip::shared("data")?);
        let golden = common::skip::shared("golden/quant")?;
        let home = tempfile::tempdir().unwrap();
        let copy = home.path().join("model");
        std::fs::create_dir(&copy).unwrap();
        for entry in std::fs::read_dir(&model).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "model.safetensors" {
                std::fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
            }
        }
        // Scales are rounded to the dtype of the weights, and the golden run's were not rounded.
        let mut tensors =
            candle_core::safetensors::load(model.join("model.safetensors"), &Device::Cpu).unwrap();
        for tensor in tensors.values_mut() {
            *tensor = tensor.to_dtype(DType::F32).unwrap();
        }
        candle_core::safetensors::save(&tensors, copy.join("model.safetensors")).unwrap();
        Some(Self { home, data, golden })
    }

    fn study(&self, recipes: &[&str], samples: usize, windows: usize) -> StudySpec {
        let calibration = self.data.join("text/c4_sample.txt");
        let corpus = self.data.join("text/wikitext2_raw_test.txt");
        let recipes: Vec<_> = recipes.iter().map(|recipe| recipe.parse().unwrap()).collect();
        let cells = grid(&recipes, &[calibration.display().to_string()], 0);
        let model = self.home.path().join("model");
        let mut spec = common::study(&model, &calibration, &corpus, 512, cells);
        spec.calibration.samples = samples;
        spec.evaluation.max_windows = Some(windows);
        spec.compute.device = "cpu".into();
        spec
    }

    fn store(&self) -> PathBuf {
        self.home.path().join("golden.db")
    }
}

/// Says how far a number is off, and whether that is within its tolerance.
fn is_close(what: &str, got: f64, want: f64, tolerance: f64) -> bool {
    let off = (got / want - 1.0).abs() * 100.0;
    println!("{what}: {got:.5}, golden {want:.5}, off by {off:.3}% of at most {}%", tolerance * 100.0);
    off <= tolerance * 100.0
}

fn of_recipe<'a>(cells: &'a [CellResult], recipe: &str) -> &'a CellResult {
    cells.iter().find(|cell| cell.spec.recipe.to_string() == recipe).unwrap()
}

#[test]
fn quantised_models_have_the_authors_perplexities() {
    let Some(setting) = Setting::new() else { return };
    let text = std::fs::read_to_string(setting.golden.join("results.json")).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap();
    // Rounding feeds nothing back. What the solver does is chaotic over a whole model: with 4 bits the authors' own code
    // moves by 6.1% of perplexity when the calibration windows come in another order, and its four runs lie within 10%
    // (JS 17%, KL 20%). What ruins the model more moves more; there the bound only catches gross errors.
    let (exact, chaotic, ruined) = ([0.005, 0.01, 0.01], [0.10, 0.17, 0.20], [0.30, 0.20, 0.25]);
    let cells = [
        ("rtn@4bit,group=64", "rtn-w4-g64-asym", exact),
        ("rtn@3bit,group=64", "rtn-w3-g64-asym", exact),
        ("rtn@4bit,group=row", "rtn-w4-row-asym", exact),
        ("rtn@8bit,group=64,sym", "rtn-w8-g64-sym", exact),
        ("gptq@4bit,group=64", "gptq-w4-g64-asym-c8", chaotic),
        ("gptq@3bit,group=64", "gptq-w3-g64-asym-c8", ruined),
        ("sparsegpt@50%+gptq@4bit,group=row", "joint-0.5-w4-row-asym-c8", ruined),
        ("sparsegpt@2:4+gptq@4bit,group=row", "joint-2:4-w4-row-asym-c8", ruined),
    ];
    let spec = setting.study(&cells.map(|(recipe, ..)| recipe), 8, 8);
    let (result, _) = common::run(&setting.store(), spec, RunOptions::default());
    let base = result.base.metrics.first(&PERPLEXITY).unwrap().value;
    let mut all =
        is_close("base perplexity", base, results["dense"]["perplexity_8"].as_f64().unwrap(), 0.0005);
    for (recipe, name, [perplexity, js, kl]) in cells {
        let golden = results["cells"].as_array().unwrap().iter().find(|cell| cell["cell"] == name).unwrap();
        let number = |name: &str| golden[name].as_f64().unwrap();
        let metrics = &of_recipe(&result.cells, recipe).metrics;
        let value = |score| metrics.first(score).unwrap().value;
        let nats = metrics.first(&KL_DIVERGENCE).unwrap().details.get("nats").unwrap();
        all &=
            is_close(&format!("{recipe} perplexity"), value(&PERPLEXITY), number("perplexity"), perplexity);
        all &= is_close(&format!("{recipe} JS"), value(&JS_DIVERGENCE), number("js_bits"), js);
        all &= is_close(&format!("{recipe} KL"), nats / std::f64::consts::LN_2, number("kl_bits"), kl);
    }
    assert!(all, "not all within their bounds");
}

#[test]
fn formats_have_the_perplexity_that_llama_cpp_has_with_its_own_files() {
    let Some(setting) = Setting::new() else { return };
    let text = std::fs::read_to_string(setting.golden.join("results.json")).unwrap();
    let results: Value = serde_json::from_str(&text).unwrap();
    // The bytes are the same. llama.cpp rounds what it multiplies with blocks to eight bits, which moves JS by about 0.002
    // bits, and collects importance from the dense model, all at once.
    let cells = [
        ("kquant@q8_0,head=q8_0", "gguf-Q8_0", 0.005),
        ("kquant@q6_k,head=q6_k", "gguf-lc_Q6_K", 0.005),
        ("kquant@q4_k_m", "gguf-lc_Q4_K_M", 0.02),
        ("kquant@q4_0,head=q8_0", "gguf-lc_Q4_0", 0.02),
        ("kquant@q4_k_m,imatrix", "gguf-lc_Q4_K_M_im", 0.03),
    ];
    let spec = setting.study(&cells.map(|(recipe, ..)| recipe), 8, 2);
    let (result, _) = common::run(&setting.store(), spec, RunOptions::default());
    let mut all = true;
    for (recipe, name, bound) in cells {
        let golden = results["gguf"].as_array().unwrap().iter().find(|cell| cell["cell"] == name).unwrap();
        let cell = of_recipe(&result.cells, recipe);
        let value = |score| cell.metrics.first(score).unwrap().value;
        let perplexity = golden["perplexity"].as_f64().unwrap();
        all &= is_close(&format!("{recipe} perplexity"), value(&PERPLEXITY), perplexity, bound);
        let js = golden["js_bits"].as_f64().unwrap();
        all &= is_close(&format!("{recipe} JS"), value(&JS_DIVERGENCE), js, 0.1 + 0.002 / js);
        // A file has names, a vocabulary and norms besides, less than 3 MB; ours counts these norms in 32 bits.
        let size = cell.whole_model.unwrap().size_bytes as f64;
        all &= is_close(&format!("{recipe} size"), size, golden["file_bytes"].as_f64().unwrap(), 0.03);
    }
    assert!(all, "not all within their bounds");
}

/// The codes of a module of block 0.
fn codes(store: &Path, study: i64, cell: &CellResult, module: &str) -> Codes {
    let dir = Store::open_read_only(store).unwrap().folder(study, Some(&cell.id));
    let modules = read_block(&dir, 0, &Device::Cpu).unwrap();
    match modules.into_iter().find(|(name, _)| name == module).unwrap().1 {
        Stored::Codes(codes) => codes,
        other => panic!("{module} is kept as {other:?}"),
    }
}

#[test]
fn the_first_block_has_the_authors_codes() {
    let Some(setting) = Setting::new() else { return };
    let golden =
        candle_core::safetensors::load(setting.golden.join("codes.safetensors"), &Device::Cpu).unwrap();
    let cells = [
        ("gptq@4bit,group=64", "gptq-w4-g64-asym"),
        ("gptq@4bit,group=64,sym", "gptq-w4-g64-sym"),
        ("gptq@3bit,group=64", "gptq-w3-g64-asym"),
        ("gptq@4bit,group=row", "gptq-w4-row-asym"),
        ("gptq@4bit,act_order,group=row", "gptq-w4-row-asym-act"),
        ("gptq@4bit,act_order,group=64", "gptq-w4-g64-asym-act-static"),
        ("sparsegpt@50%+gptq@4bit,group=row", "joint-0.5-w4-row-asym"),
        ("sparsegpt@2:4+gptq@4bit,group=row", "joint-2:4-w4-row-asym"),
        ("rtn@4bit,group=64", "rtn-w4-g64-asym"),
    ];
    let mut spec = setting.study(&cells.map(|(recipe, _)| recipe), 32, 1);
    spec.prune.blocks = Some((0, 1));
    let (result, _) = common::run(&setting.store(), spec, RunOptions::default());
    let mut compared = 0;
    for (recipe, name) in cells {
        for module in ["self_attn.q_proj", "mlp.down_proj"] {
            let key = format!("{name}/model.layers.0.{module}/codes");
            let Some(packed) = golden.get(&key) else { continue };
            let packed: Vec<u8> = packed.flatten_all().unwrap().to_vec1().unwrap();
            let wanted = packed.iter().flat_map(|byte| [byte & 15, byte >> 4]);
            let found = codes(&setting.store(), result.study, of_recipe(&result.cells, recipe), module);
            let found = found.codes();
            let same = found.iter().zip(wanted).filter(|(a, b)| **a == *b).count();
            let share = same as f64 / found.len() as f64;
            println!("{recipe} {module}: {:.4}% of the codes agree", share * 100.0);
            // A mask that rounding turns in one place moves what stands behind it: the threshold is one for 128 columns of
            // all rows. The authors' formula in PyTorch has 99.80% of the golden codes of down_proj at 50% when nothing but
            // the order of the calibration windows is reversed, and 99.56% to 99.74% with its solver in f64.
            let least = if recipe.starts_with("sparsegpt") { 0.995 } else { 0.999 };
            assert!(share >= least, "{recipe} {module}: {share}");
            compared += 1;
        }
    }
    assert!(compared >= 17, "{compared} matrices");
}
