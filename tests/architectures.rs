//! Every architecture through everything that a user can do with a model. `golden_tiny.rs` compares them with transformers.

mod common;

use std::path::Path;

use candle_core::{DType, Device};
use common::{Place, Synthetic};
use secateur::engine::{Command, EngineOptions, Event, RunOptions, plan};
use secateur::model::{ARCHITECTURES, ModelFolder, Weights};
use secateur::results::Seconds;
use secateur::scores::{JS_DIVERGENCE, PERPLEXITY, records};
use secateur::study::StudySpec;
use serde_json::json;

/// A Gemma 4 whose last block takes keys and values of another one, and whose blocks have inputs of their own.
fn gemma_with_shared_parts() -> Synthetic {
    let gemma = ARCHITECTURES.iter().find(|architecture| architecture.name() == "Gemma4ForCausalLM").unwrap();
    let keys = [
        ("enable_moe_block", json!(false)),
        ("attention_k_eq_v", json!(false)),
        ("num_kv_shared_layers", json!(1)),
        ("use_double_wide_mlp", json!(true)),
        ("hidden_size_per_layer_input", json!(32)),
        ("vocab_size_per_layer_input", json!(258)),
    ];
    keys.into_iter().fold(Synthetic::tiny(*gemma), |model, (key, value)| model.with(key, value))
}

/// A small model of every architecture.
fn models() -> Vec<Synthetic> {
    let tiny = ARCHITECTURES.iter().map(|architecture| Synthetic::tiny(*architecture));
    tiny.chain([gemma_with_shared_parts()]).map(|model| Synthetic { dtype: DType::BF16, ..model }).collect()
}

#[test]
fn a_model_of_every_architecture_is_pruned_measured_exported_and_opened_again() {
    for model in models() {
        let (place, architecture) = (Place::new(&model), model.architecture);
        let cells =
            vec![place.cell("magnitude", "0.5"), place.cell("wanda", "2:4"), place.cell("sparsegpt", "0.5")];
        let mut spec = place.spec(cells);
        spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
        spec.evaluation.task_limit = Some(2);
        let saved = place.path("saved");
        let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
        let (result, _) = common::run(&place.path("studies.db"), spec.clone(), options);
        let config = ModelFolder::open(&place.path("model")).unwrap().config;
        let names = config.module_names();
        let modules: usize = (0..config.blocks).map(|block| config.layout(block).modules().count()).sum();
        for cell in &result.cells {
            assert_eq!(cell.modules.len(), modules, "{architecture:?}");
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
    // With a tensor for every matrix, and with one tensor for those of all experts.
    for (class, matrices) in [("MixtralForCausalLM", 3), ("GptOssForCausalLM", 2)] {
        let model = models().into_iter().find(|model| model.architecture.name() == class).unwrap();
        check_experts_held_one_after_the_other(&model, matrices);
    }
}

fn check_experts_held_one_after_the_other(model: &Synthetic, matrices: usize) {
    let place = Place::new(model);
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
        assert_eq!(routed.len(), if looks_at_data { 3 * 4 * matrices } else { 0 }, "{}", held.id);
        let about_experts = |line: &&String| line.contains("experts saw fewer calibration tokens");
        let few = held.modules.iter().filter(|m| m.details.get("tokens") < m.details.get("columns"));
        let blocks: std::collections::BTreeSet<usize> = few.map(|module| module.block).collect();
        assert_eq!(held.warnings.iter().filter(about_experts).count(), blocks.len(), "{:?}", held.warnings);
    }
    assert!(held.cells.iter().any(|cell| !cell.warnings.is_empty()), "no expert saw too few tokens");
}

/// Starts a study, and stops it when a block of a cell is on the disk.
fn stop_behind_a_block(store: &Path, spec: StudySpec) {
    let mut engine = common::engine(store);
    engine.commands.blocking_send(Command::Start(Box::new(spec), RunOptions::default())).unwrap();
    while let Some(event) = engine.events.blocking_recv() {
        match event {
            Event::Checkpoint { .. } => {
                engine.commands.blocking_send(Command::Shutdown { after_block: true }).unwrap();
            }
            Event::Failed { message, .. } => panic!("the study failed: {message}"),
            Event::Finished { .. } => panic!("the study ended before it was stopped"),
            _ => {}
        }
    }
    engine.join();
}

/// Whether a matrix is a tensor of the files, or lies in one with those of other experts.
fn is_part_of(module: &str, tensor: &str) -> bool {
    let fused =
        module.split_once(".experts.").and_then(|(path, expert)| Some((path, expert.split_once('.')?.1)));
    format!("{module}.weight") == *tensor
        || fused.is_some_and(|(path, layer)| format!("{path}.experts.{layer}") == *tensor)
}

#[test]
fn blocks_that_hand_things_on_cannot_be_left_out() {
    let place = Place::new(&gemma_with_shared_parts());
    let options = EngineOptions { store: place.path("studies.db"), threads: Some(1), offline: true };
    let error = plan(place.spec(vec![place.cell("depth", "1blocks")]), &RunOptions::default(), &options)
        .unwrap_err()
        .to_string();
    for part in ["depth 1block", "Gemma4ForCausalLM", "keys and values"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn this_years_models_are_compressed_by_every_method_and_go_on_where_they_were_stopped() {
    let names = ["GptOssForCausalLM", "Gemma4ForCausalLM", "Qwen3_5ForCausalLM", "Qwen3_5MoeForCausalLM"];
    for model in models().into_iter().filter(|model| names.contains(&model.architecture.name())) {
        let place = Place::new(&model);
        let recipes = [
            ("ria", "0.5"),
            ("rtn", "4bit,group=32"),
            ("gptq", "4bit,group=32"),
            ("kquant", "q8_0"),
            ("wanda", "0.5"),
        ];
        let mut spec = place.spec(recipes.map(|(method, level)| place.cell(method, level)).to_vec());
        spec.evaluation.tasks = vec![place.path("tasks.jsonl").display().to_string()];
        spec.evaluation.task_limit = Some(2);
        let (whole, _) = common::run(&place.path("whole.db"), spec.clone(), RunOptions::default());
        let store = place.path("stopped.db");
        stop_behind_a_block(&store, spec.clone());
        let resume = RunOptions { resume: true, ..RunOptions::default() };
        let (resumed, events) = common::run(&store, spec, resume);
        let done = events.iter().find_map(|event| match event {
            Event::Plan { cells, .. } => Some(cells.iter().map(|cell| cell.blocks_done).sum::<usize>()),
            _ => None,
        });
        assert!(done.unwrap() > 0, "nothing was done before it was stopped");
        for (whole, resumed) in whole.cells.iter().zip(&resumed.cells) {
            assert_eq!(whole.metrics, resumed.metrics, "{:?} {}", model.architecture, whole.id);
        }
    }
}

#[test]
fn the_text_part_of_a_model_that_sees_pictures_is_compressed_and_the_rest_is_copied() {
    let Some(root) = common::skip::shared("golden/tiny") else {
        return;
    };
    let place = Place::new(&Synthetic::default());
    for folder in ["gemma3_pictures", "mistral3", "qwen3_5", "qwen3_5_moe"] {
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
            let compressed = cell.modules.iter().any(|module| is_part_of(&module.name, name));
            assert_eq!(same, !compressed, "{folder} {name}");
        }
        assert!(
            before.names().any(|name| name.starts_with("vision_tower.") || name.starts_with("model.visual."))
        );
        let config = |folder: &std::path::Path| std::fs::read(folder.join("config.json")).unwrap();
        assert_eq!(config(&source), config(&saved));
        spec.model = saved.display().to_string();
        spec.cells.clear();
        let (again, _) = common::run(&place.path("again.db"), spec, RunOptions::default());
        assert_eq!(again.base.metrics.first(&PERPLEXITY), cell.metrics.first(&PERPLEXITY), "{folder}");
    }
}
