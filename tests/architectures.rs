//! Every architecture through everything that a user can do with a model. `golden_tiny.rs` compares them with transformers.

mod common;

use candle_core::{DType, Device};
use common::{Place, Synthetic};
use secateur::engine::RunOptions;
use secateur::model::arch::mixtral::Mixtral;
use secateur::model::{ARCHITECTURES, ModelFolder, Weights};
use secateur::results::Seconds;
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY, records};

#[test]
fn a_model_of_every_architecture_is_pruned_measured_exported_and_opened_again() {
    for architecture in ARCHITECTURES {
        let place = Place::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(*architecture) });
        let cells =
            vec![place.cell("magnitude", "0.5"), place.cell("wanda", "2:4"), place.cell("sparsegpt", "0.5")];
        let mut spec = place.spec(cells);
        spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
        spec.evaluation.task_limit = Some(2);
        let saved = place.path("saved");
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, _) = common::run(&place.path("studies.db"), spec.clone(), options);
        let names = ModelFolder::open(&place.path("model")).unwrap().config.module_names();
        for cell in &result.cells {
            assert_eq!(cell.modules.len(), result.model.blocks * names.len(), "{architecture:?}");
            let exported = ModelFolder::open(&saved.join(&cell.id)).unwrap();
            for module in &cell.modules {
                assert!(names.iter().any(|name| name == module.path()), "{}", module.name);
                let weight =
                    exported.weights.tensor(&format!("{}.weight", module.name), DType::F32, &Device::Cpu);
                let weight = weight.unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
                let zeros = weight.iter().filter(|w| **w == 0.0).count();
                let counted = (module.footprint.zeros as usize, module.footprint.weights as usize);
                assert_eq!((zeros, weight.len()), counted, "{}", module.name);
            }
            let perplexity = cell.metrics.first(&PERPLEXITY);
            assert!(cell.metrics.first(&JS_DIVERGENCE).unwrap().value > 1e-4, "{architecture:?}");
            assert_eq!(records(&cell.metrics), 2);
            // What is exported is what was measured.
            let mut again = spec.clone();
            again.model = saved.join(&cell.id).display().to_string();
            again.cells.clear();
            let (again, _) = common::run(&place.path("again.db"), again, RunOptions::default());
            assert_eq!(again.base.metrics.first(&PERPLEXITY), perplexity, "{architecture:?} {}", cell.id);
        }
    }
}

#[test]
fn experts_that_are_held_one_after_the_other_become_the_same() {
    let place = Place::new(&Synthetic { dtype: DType::BF16, ..Synthetic::tiny(&Mixtral) });
    let recipes =
        [("wanda", "0.5"), ("ria", "2:4"), ("sparsegpt", "0.5"), ("gptq", "4bit"), ("kquant", "q8_0")];
    let cells = recipes.map(|(method, level)| place.cell(method, level)).to_vec();
    let mut spec = place.spec(cells);
    spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
    spec.evaluation.task_limit = Some(2);
    let run = |store: &str, held_experts| {
        let options = RunOptions { held_experts: Some(held_experts), ..RunOptions::default() };
        let (mut result, _) = common::run(&place.path(store), spec.clone(), options);
        for cell in &mut result.cells {
            (cell.seconds, cell.peak_rss_bytes) = (Seconds::default(), 0);
            cell.modules.iter_mut().for_each(|module| module.seconds = 0.0);
        }
        result
    };
    let held = run("held.db", usize::MAX);
    // Every expert by itself: read when tokens reach it, with statistics of its own.
    let read = run("read.db", 0);
    assert_eq!(held.base.metrics, read.base.metrics);
    for (held, read) in held.cells.iter().zip(&read.cells) {
        assert_eq!(held, read, "{}", held.id);
        let experts = held.modules.iter().filter(|module| module.name.contains(".experts."));
        let routed: Vec<f64> = experts.filter_map(|module| module.details.get("tokens")).collect();
        let looks_at_data = held.spec.calibration.is_some();
        assert_eq!(routed.len(), if looks_at_data { 3 * 4 * 3 } else { 0 }, "{}", held.id);
        let about_experts = |line: &&String| line.contains("experts saw fewer calibration tokens");
        let few = held.modules.iter().filter(|m| m.details.get("tokens") < m.details.get("columns"));
        let blocks: std::collections::BTreeSet<usize> = few.map(|module| module.block).collect();
        assert_eq!(held.warnings.iter().filter(about_experts).count(), blocks.len(), "{:?}", held.warnings);
    }
    assert!(held.cells.iter().any(|cell| !cell.warnings.is_empty()), "no expert saw too few tokens");
}

#[test]
fn the_text_part_of_a_model_that_sees_pictures_is_compressed_and_the_rest_is_copied() {
    let Some(root) = common::skip::shared("golden/tiny") else {
        return;
    };
    let place = Place::new(&Synthetic::default());
    for folder in ["gemma3_pictures", "mistral3"] {
        let source = root.join(folder);
        let mut spec = place.spec(vec![place.cell("wanda", "0.5")]);
        spec.model = source.display().to_string();
        spec.seq_len = 16;
        let saved = place.path(folder);
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, _) = common::run(&place.path("studies.db"), spec.clone(), options);
        let cell = &result.cells[0];
        let saved = saved.join(&cell.id);
        let (before, after) = (Weights::open(&source).unwrap(), Weights::open(&saved).unwrap());
        for name in before.names() {
            let same = before.bytes(name, |a| after.bytes(name, |b| a == b).unwrap()).unwrap();
            let compressed = cell.modules.iter().any(|module| format!("{}.weight", module.name) == *name);
            assert_eq!(same, !compressed, "{folder} {name}");
        }
        assert!(before.names().any(|name| name.starts_with("vision_tower.")));
        let config = |folder: &std::path::Path| std::fs::read(folder.join("config.json")).unwrap();
        assert_eq!(config(&source), config(&saved));
        spec.model = saved.display().to_string();
        spec.cells.clear();
        let (again, _) = common::run(&place.path("again.db"), spec, RunOptions::default());
        assert_eq!(again.base.metrics.first(&PERPLEXITY), cell.metrics.first(&PERPLEXITY), "{folder}");
    }
}
