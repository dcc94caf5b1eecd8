//! Quantisation, matrix by matrix, as its authors' code does it: `../shared/golden/quant/`.

mod common;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use secateur::engine::RunOptions;
use secateur::kernels::codes::{Codes, Grid};
use secateur::methods::{Encoded, InputStatistics, Matrix, Procedure, Statistics, grid};
use secateur::scores::PERPLEXITY;
use secateur::study::Parameters;
use serde_json::Value;

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The share of equal elements.
fn agreement<T: PartialEq>(a: &[T], b: &[T]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / a.len() as f64
}

#[test]
fn the_solver_gives_the_codes_of_the_authors_code() {
    let Some(folder) = common::skip::shared("golden/quant") else { return };
    let fixture =
        candle_core::safetensors::load(folder.join("solver_fixture.safetensors"), &Device::Cpu).unwrap();
    let golden = &read_json(&folder.join("results.json"))["solver_fixture"];
    let (weights, hessian) = (&fixture["W"], floats(&fixture["H"]));
    let (_, columns) = weights.dims2().unwrap();
    for (name, recipe, dtype) in [
        ("gptq-w4-g64-asym", "gptq@4bit,group=64", DType::F32),
        ("gptq-w4-g64-sym", "gptq@4bit,group=64,sym", DType::F32),
        ("gptq-w3-row-asym", "gptq@3bit,group=row", DType::F32),
        ("gptq-w4-row-asym-act", "gptq@4bit,group=row,act_order", DType::F32),
        ("gptq-w4-g64-asym-act-static", "gptq@4bit,group=64,act_order", DType::F32),
        ("gptq-w4-g64-asym-block64", "gptq@4bit,group=64,block_size=64", DType::F32),
        ("gptq-w4-g64-sym-scale_bf16", "gptq@4bit,group=64,sym", DType::BF16),
        ("joint-0.5-w4-row-asym", "sparsegpt@50%+gptq@4bit,group=row", DType::F32),
        ("joint-2:4-w4-row-asym", "sparsegpt@2:4+gptq@4bit,group=row", DType::F32),
    ] {
        let procedure = Procedure::of(&recipe.parse().unwrap(), &Parameters::new()).unwrap();
        let mut solved = floats(weights);
        // H = (2/n)·Σ x xᵀ: of two sequences it is the sum itself.
        let mut inputs = InputStatistics::new(Statistics::Gram(hessian.clone()), columns, 2);
        let matrix = Matrix { dtype, ..Matrix::new(&mut solved, columns) };
        let outcome = procedure.run(matrix, Some(&mut inputs), &|| false).unwrap();
        let Some(Encoded::Codes(codes)) = outcome.encoded else { panic!("no codes") };
        let same = agreement(&codes.codes(), &bytes(&fixture[&format!("{name}/codes")]));
        println!("{name}: {:.3}% of the codes agree", same * 100.0);
        assert!(same >= 0.999, "{name}: {same}");
        let (scales, zeros): (Vec<f32>, Vec<u8>) = codes.groups.iter().map(|g| (g.scale, g.zero)).unzip();
        let expected = floats(&fixture[&format!("{name}/scales")]);
        let off = scales.iter().zip(&expected).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f32::max);
        assert!(off < 1e-3, "{name}: scales are off by {off}");
        assert!(agreement(&zeros, &bytes(&fixture[&format!("{name}/zeros")])) >= 0.99, "{name}: zeros");
        let zero_weights = solved.iter().filter(|w| **w == 0.0).count() as f64;
        let wanted = golden[name]["zero_weights"].as_f64().unwrap();
        assert!(
            (zero_weights - wanted).abs() <= 4.0,
            "{name}: {zero_weights} zeros, {wanted} in the authors'"
        );
        // The authors print Σ (w − q)²/d²/2; ours is twice that over the output's energy.
        let energy = energy(&floats(weights), &hessian, columns);
        let loss = outcome.error * energy / 2.0;
        let wanted = golden[name]["error"].as_f64().unwrap();
        assert!((loss / wanted - 1.0).abs() < 0.005, "{name}: error {loss}, {wanted} in the authors'");
    }
}

/// `tr(W H Wᵀ)` with the damping that the solver adds.
fn energy(weights: &[f32], hessian: &[f32], columns: usize) -> f64 {
    let mean = (0..columns).map(|i| f64::from(hessian[i * columns + i])).sum::<f64>() / columns as f64;
    let entry =
        |i: usize, j: usize| f64::from(hessian[i * columns + j]) + if i == j { 0.01 * mean } else { 0.0 };
    let row = |row: &[f32]| -> f64 {
        let pairs = (0..columns).flat_map(|i| (0..columns).map(move |j| (i, j)));
        pairs.map(|(i, j)| f64::from(row[i]) * entry(i, j) * f64::from(row[j])).sum()
    };
    weights.chunks(columns).map(row).sum()
}

#[test]
fn rounding_gives_the_codes_of_the_golden_run_to_the_last_bit() {
    use sha2::{Digest, Sha256};

    let (Some(folder), Some(model)) = (common::skip::shared("golden/quant"), common::skip::smollm2()) else {
        return;
    };
    let source = candle_core::safetensors::load(model.join("model.safetensors"), &Device::Cpu).unwrap();
    let results = read_json(&folder.join("results.json"));
    let digest = |bytes: Vec<u8>| format!("{:x}", Sha256::digest(bytes));
    let mut checked = 0;
    for cell in results["cells"].as_array().unwrap().iter().filter(|cell| cell["method"] == "rtn") {
        for (module, wanted) in cell["digests"].as_object().unwrap() {
            let (block, module) = module.split_once('.').unwrap();
            let name = format!("model.layers.{block}.{module}.weight");
            let (_, columns) = source[&name].dims2().unwrap();
            let grid = Grid {
                bits: cell["bits"].as_u64().unwrap() as u8,
                group: Some(cell["group"].as_u64().unwrap() as usize)
                    .filter(|group| *group > 0)
                    .unwrap_or(columns),
                symmetric: cell["sym"].as_bool().unwrap(),
                scale_dtype: DType::F32,
            };
            let codes = Codes::nearest(&mut floats(&source[&name]), columns, grid);
            let scales = codes.groups.iter().flat_map(|g| g.scale.to_le_bytes()).collect();
            let zeros = codes.groups.iter().map(|g| g.zero).collect();
            let found = [digest(codes.codes()), digest(scales), digest(zeros)];
            let wanted = ["codes_u8", "scales_f32", "zeros_u8"].map(|what| wanted[what].as_str().unwrap());
            assert_eq!(found, wanted, "{} {name}", cell["cell"]);
            checked += 1;
        }
    }
    assert!(checked >= 36, "{checked} matrices");
}

/// The program's own way through all of it: a cell is measured, saved, and measured again as a model of its own.
#[test]
fn a_format_is_measured_as_it_is_exported_with_embedding_and_head() {
    for (tied, recipe, same_as) in [
        (false, "kquant@q5_0", "kquant@q5_0,embed=source,head=source"),
        (false, "kquant@q5_0,embed=q4_0", "kquant@q5_0,embed=q4_0,head=source"),
        (false, "kquant@q5_0,head=q4_0,imatrix", "kquant@q5_0,embed=source,head=q4_0,imatrix"),
        (true, "kquant@q5_0,head=q4_0", "kquant@q5_0,embed=q4_0"),
        (true, "kquant@q4_k_m", "kquant@q4_k_m,embed=q8_0"),
    ] {
        let place = common::Place::new(&common::Synthetic { tied, ..common::Synthetic::default() });
        let sets = [place.path("calibration.txt").display().to_string()];
        let recipes = [recipe, same_as].map(|recipe| recipe.parse().unwrap());
        let spec = place.spec(grid(&recipes, &sets, 0));
        let models = place.path("models");
        let options = RunOptions { save_models: Some(models.clone()), ..RunOptions::default() };
        let (result, _) = common::run(&place.path("study.db"), spec, options);
        let perplexity = |metrics: &secateur::results::Metrics| metrics.first(&PERPLEXITY).unwrap().value;
        let [cell, same] = &result.cells[..] else { panic!("two cells") };
        // What the embedding and the head have by another name, they have.
        assert_eq!(cell.metrics, same.metrics, "{recipe}");
        assert_eq!(cell.whole_model, same.whole_model, "{recipe}");

        let mut again = place.spec(Vec::new());
        again.model = models.join(&cell.id).display().to_string();
        let (exported, _) = common::run(&place.path("again.db"), again, RunOptions::default());
        let (measured, found) = (perplexity(&cell.metrics), perplexity(&exported.base.metrics));
        assert!((measured / found - 1.0).abs() < 1e-5, "{recipe}: {measured} {found}");
        assert!((measured / perplexity(&result.base.metrics) - 1.0).abs() > 1e-5, "{recipe}: {measured}");

        // A GGUF holds the blocks themselves. It is opened again, and a cell whose file is another model fails.
        let gguf = RunOptions {
            save_models: Some(place.path("gguf")),
            save_as: "gguf".parse().unwrap(),
            ..RunOptions::default()
        };
        let (saved, _) = common::run(&place.path("gguf.db"), place.spec(grid(&recipes, &sets, 0)), gguf);
        let size = std::fs::metadata(place.path("gguf").join(format!("{}.gguf", cell.id))).unwrap().len();
        let of_model = saved.cells[0].whole_model.unwrap().size_bytes;
        assert!(
            (of_model..of_model + 20_000).contains(&size),
            "{recipe}: {size} bytes, {of_model} of the model"
        );

        // The ends are counted: 4.5 bits a weight in place of 32.
        let whole = cell.whole_model.unwrap();
        let ends = recipe.contains("q4_0") || recipe.contains("_m");
        let kept = result.model.source_bits.unwrap().untouched / 8;
        let compressed = cell.footprint.unwrap().stored_bits / 8;
        assert_eq!(whole.size_bytes < kept + compressed, ends, "{recipe}");
    }
}
