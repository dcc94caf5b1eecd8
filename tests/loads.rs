//! Folders that transformers loads though they are odd, and settings that contradict each other: what counts is what
//! counts there, and a person hears of it.

mod common;

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use common::{Place, Synthetic};
use secateur::engine::{Event, RunOptions};
use secateur::model::arch::{mistral::Mistral, qwen2::Qwen2, smollm3::SmolLm3};
use secateur::model::{Architecture, Batch, Block, LmHead, ModelFolder, Rope, RopeScaling, head};
use secateur::results::Metrics;
use secateur::scores::PERPLEXITY;
use serde_json::{Value, json};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn edit(dir: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = dir.join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

/// Rewrites `model.safetensors`.
fn tensors(dir: &Path, change: impl FnOnce(&mut Vec<(String, Tensor)>)) {
    let path = dir.join(SINGLE);
    let mut tensors: Vec<(String, Tensor)> =
        candle_core::safetensors::load(&path, &Device::Cpu).unwrap().into_iter().collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    change(&mut tensors);
    let notes = std::collections::HashMap::from([("format".to_string(), "pt".to_string())]);
    safetensors::serialize_to_file(tensors, Some(notes), &path).unwrap();
}

fn get<'a>(tensors: &'a [(String, Tensor)], name: &str) -> &'a Tensor {
    &tensors.iter().find(|(known, _)| known == name).unwrap().1
}

/// Logits of a short text.
fn logits(dir: &Path) -> Vec<f32> {
    let (folder, device) = (ModelFolder::open(dir).unwrap(), Device::Cpu);
    let tokens: Vec<u32> = (0..20).map(|i| i * 31 % 258).collect();
    let (batch, ropes) = (Batch::windows(1, tokens.len()), folder.config.rope_tables(tokens.len()));
    let mut x = head::embed(&folder, &tokens, &batch, DType::F32, &device).unwrap();
    for index in 0..folder.config.blocks {
        let block = Block::load(&folder, index, DType::F32, &device).unwrap();
        x = block.forward(&x, &batch, &ropes, None).unwrap();
    }
    let logits = LmHead::load(&folder, DType::F32, &device).unwrap().logits(&x).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

fn warnings(dir: &Path) -> Vec<String> {
    ModelFolder::open(dir).unwrap().config.warnings
}

fn written(model: &Synthetic) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    model.write(dir.path()).unwrap();
    dir
}

/// Prunes a model and opens what is exported: it has the perplexity that the cell had.
fn export_works(source: &Path) {
    let place = Place::new(&Synthetic::default());
    let mut spec = place.spec(vec![place.cell("wanda", "0.5")]);
    spec.model = source.display().to_string();
    let saved = place.path("saved");
    let options = RunOptions { save_models: Some(saved.clone()), ..RunOptions::default() };
    let (result, _) = common::run(&place.path("studies.db"), spec.clone(), options);
    let cell = &result.cells[0];
    let perplexity = |metrics: &Metrics| metrics.first(&PERPLEXITY).cloned().unwrap();
    assert!(perplexity(&cell.metrics).value > perplexity(&result.base.metrics).value);
    spec.model = saved.join(&cell.id).display().to_string();
    spec.cells.clear();
    let (again, _) = common::run(&place.path("again.db"), spec, RunOptions::default());
    assert_eq!(perplexity(&again.base.metrics), perplexity(&cell.metrics));
}

/// What is changed in a configuration.
type Change = fn(&mut Value);

#[test]
fn names_of_classes_and_activations_that_mean_the_same() {
    let dir = written(&Synthetic::default());
    let expected = logits(dir.path());
    let config = |key: &str, value: Value| edit(dir.path(), "config.json", |config| config[key] = value);
    for name in ["LlamaModel", "LLaMAForCausalLM", "LlamaForCausalLM"] {
        config("architectures", json!([name]));
        assert_eq!(logits(dir.path()), expected, "{name}");
    }
    config("hidden_act", json!("swish"));
    config("rope_scaling", json!({}));
    assert_eq!(logits(dir.path()), expected);
    for eos in [json!(-1), json!([-1]), json!([7, -1])] {
        config("eos_token_id", eos.clone());
        let known = ModelFolder::open(dir.path()).unwrap().config.eos;
        // The other is that of generation_config.json.
        assert_eq!(known, if eos == json!([7, -1]) { vec![7, 1] } else { vec![1] }, "{eos}");
    }
    assert!(warnings(dir.path()).is_empty());
}

#[test]
fn llama3_scaling_without_an_original_context_takes_the_models() {
    let scaling =
        json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0});
    let dir = written(&Synthetic { max_positions: 96, ..Synthetic::default() }.with("rope_scaling", scaling));
    let original = || match rope(dir.path()).scaling {
        RopeScaling::Llama3 { original_max_position_embeddings, .. } => original_max_position_embeddings,
        other => panic!("{other:?}"),
    };
    assert_eq!(original(), 96);
    // One beside the settings counts more than one in them.
    edit(dir.path(), "config.json", |c| c["original_max_position_embeddings"] = json!(24));
    assert_eq!(original(), 24);
    assert!(warnings(dir.path()).is_empty());
    edit(dir.path(), "config.json", |c| c["rope_scaling"]["original_max_position_embeddings"] = json!(48));
    assert_eq!(original(), 24);
    says(
        dir.path(),
        &[
            "`original_max_position_embeddings` is 24",
            "`rope_scaling.original_max_position_embeddings` is 48",
        ],
    );
}

fn rope(dir: &Path) -> Rope {
    ModelFolder::open(dir).unwrap().config.ropes[0].rope.clone()
}

/// The one warning of a model, and what it names.
fn says(dir: &Path, parts: &[&str]) {
    let warnings = warnings(dir);
    let [warning] = &warnings[..] else { panic!("one warning is expected: {warnings:?}") };
    for part in parts {
        assert!(warning.contains(part), "`{part}` is not in: {warning}");
    }
    assert!(warning.contains(&dir.display().to_string()) && !warning.contains('\n'), "{warning}");
}

#[test]
fn of_two_spellings_of_one_rope_setting_the_one_counts_that_counts_for_transformers() {
    let linear = |theta| Rope { theta, scaling: RopeScaling::Linear { factor: 4.0 } };
    let plain = |theta| Rope { theta, scaling: RopeScaling::None };
    let scaling = json!({"type": "linear", "factor": 4.0});
    let parameters = json!({"rope_type": "default", "rope_theta": 10_000.0});
    let both = json!({"rope_scaling": scaling, "rope_parameters": parameters});
    let same = json!({"rope_scaling": scaling, "rope_parameters": {"rope_type": "linear", "factor": 4, "rope_theta": 1e4}});
    let cases: [(Value, Rope, &[&str]); 9] = [
        (both, linear(10_000.0), &["`rope_scaling`", "`rope_parameters`", "contradict"]),
        (same, linear(10_000.0), &[]),
        (json!({"rope_scaling": {}, "rope_parameters": {"rope_theta": 9.0}}), plain(9.0), &[]),
        (json!({"rope_scaling": null, "rope_parameters": parameters}), plain(10_000.0), &[]),
        (
            json!({"rope_scaling": scaling, "rope_parameters": {"rope_type": "yarn", "factor": 2.0}}),
            linear(10_000.0),
            &["`rope_scaling`", "`rope_parameters`"],
        ),
        (
            json!({"rope_theta": 777.0, "rope_parameters": {"rope_type": "default", "rope_theta": 333.0}}),
            plain(333.0),
            &["`rope_theta` is 777", "`rope_parameters.rope_theta` is 333"],
        ),
        (json!({"rope_theta": 777.0, "rope_parameters": {"rope_type": "default"}}), plain(777.0), &[]),
        (
            json!({"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 1.0}}),
            plain(10_000.0),
            &["`rope_scaling.rope_type` is default", "`rope_scaling.type` is linear"],
        ),
        (
            json!({"rope_scaling": {"factor": 4.0}}),
            plain(10_000.0),
            &["`rope_scaling.factor`", "nothing is stretched"],
        ),
    ];
    for (keys, expected, named) in cases {
        let dir = written(&Synthetic::default());
        edit(dir.path(), "config.json", |config| {
            config.as_object_mut().unwrap().remove("rope_theta");
            for (key, value) in keys.as_object().unwrap() {
                config[key] = value.clone();
            }
        });
        assert_eq!(rope(dir.path()), expected, "{keys}");
        if named.is_empty() {
            assert!(warnings(dir.path()).is_empty(), "{keys}: {:?}", warnings(dir.path()));
        } else {
            says(dir.path(), named);
        }
    }
}

/// An architecture, what its configuration says besides, the windows of its blocks, what a warning names.
type Windows = (&'static dyn Architecture, Value, [Option<usize>; 3], &'static [&'static str]);

#[test]
fn windows_and_rotation_that_are_said_twice() {
    let mixed = json!(["sliding_attention", "full_attention", "full_attention"]);
    let [mistral, qwen2, smollm3]: [&'static dyn Architecture; 3] = [&Mistral, &Qwen2, &SmolLm3];
    let cases: [Windows; 7] = [
        (mistral, json!({"layer_types": mixed}), [Some(16); 3], &["`layer_types`", "`sliding_window`"]),
        (
            mistral,
            json!({"layer_types": ["sliding_attention", "sliding_attention", "sliding_attention"]}),
            [Some(16); 3],
            &[],
        ),
        (
            qwen2,
            json!({"layer_types": mixed, "sliding_window": 8}),
            [None; 3],
            &["`layer_types`", "`use_sliding_window`"],
        ),
        (
            qwen2,
            json!({"layer_types": mixed, "sliding_window": 8, "use_sliding_window": true}),
            [Some(8), None, None],
            &[],
        ),
        (
            qwen2,
            json!({"layer_types": mixed, "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 2}),
            [Some(8), None, None],
            &["`layer_types`", "`max_window_layers`, 2", "the first is used"],
        ),
        // Blocks without a rotary embedding are the ones that slide.
        (smollm3, json!({"no_rope_layers": [1, 0, 1]}), [None, Some(16), None], &[]),
        (
            smollm3,
            json!({"no_rope_layers": [1, 0, 1], "no_rope_layer_interval": 3}),
            [None, Some(16), None],
            &["`no_rope_layers`", "`no_rope_layer_interval`, 3", "the first is used"],
        ),
    ];
    for (architecture, keys, expected, named) in cases {
        let dir = written(&Synthetic::tiny(architecture));
        edit(dir.path(), "config.json", |config| {
            for (key, value) in keys.as_object().unwrap() {
                config[key] = value.clone();
            }
        });
        let config = ModelFolder::open(dir.path()).unwrap().config;
        let windows: Vec<Option<usize>> = (0..3).map(|block| config.attention(block).window).collect();
        assert_eq!(windows, expected, "{architecture:?} {keys}");
        if named.is_empty() {
            assert!(config.warnings.is_empty(), "{architecture:?} {keys}: {:?}", config.warnings);
        } else {
            says(dir.path(), named);
        }
    }
}

#[test]
fn the_type_counts_more_than_the_class() {
    let dir = written(&Synthetic::default());
    edit(dir.path(), "config.json", |config| config["architectures"] = json!(["MistralForCausalLM"]));
    let config = ModelFolder::open(dir.path()).unwrap().config;
    assert_eq!((config.architecture, config.attention(0).window), ("LlamaForCausalLM", None));
    says(dir.path(), &["`architectures` is MistralForCausalLM", "`model_type` is llama"]);
}

#[test]
fn a_stored_head_counts_more_than_a_tied_one_and_an_equal_one_is_silent() {
    let dir = written(&Synthetic::default());
    let expected = logits(dir.path());
    let add_head = |factor: f64| {
        tensors(dir.path(), |tensors| {
            tensors.retain(|(name, _)| name != "lm_head.weight");
            let head = (get(tensors, "model.embed_tokens.weight") * factor).unwrap();
            tensors.push(("lm_head.weight".into(), head));
        });
    };
    add_head(1.0);
    assert_eq!(logits(dir.path()), expected);
    assert!(warnings(dir.path()).is_empty());
    // A product with 2 is exact.
    add_head(2.0);
    assert_eq!(logits(dir.path()), expected.iter().map(|v| 2.0 * v).collect::<Vec<_>>());
    says(
        dir.path(),
        &["`tie_word_embeddings` is true", "`lm_head.weight` differs from `model.embed_tokens.weight`"],
    );
    export_works(dir.path());
    // Without a tied head's embedding the head is the embedding.
    add_head(1.0);
    tensors(dir.path(), |tensors| tensors.retain(|(name, _)| name != "model.embed_tokens.weight"));
    assert_eq!(logits(dir.path()), expected);
    assert!(warnings(dir.path()).is_empty());
    export_works(dir.path());
}

#[test]
fn a_warning_reaches_those_who_run_a_study() {
    let place = Place::new(&Synthetic::default());
    tensors(&place.path("model"), |tensors| {
        let head = (get(tensors, "model.embed_tokens.weight") * 2.0).unwrap();
        tensors.push(("lm_head.weight".into(), head));
    });
    let spec = place.spec(vec![place.cell("magnitude", "0.5")]);
    let (_, events) = common::run(&place.path("studies.db"), spec, RunOptions::default());
    let told =
        |e: &Event| matches!(e, Event::Warning { message, .. } if message.contains("tie_word_embeddings"));
    assert_eq!(events.iter().filter(|e| told(e)).count(), 1, "{events:?}");
}

#[test]
fn weights_that_the_configuration_does_not_reach_are_named() {
    let dir = written(&Synthetic::default());
    let expected = logits(dir.path());
    tensors(dir.path(), |tensors| {
        let buffer = Tensor::zeros(8, DType::F32, &Device::Cpu).unwrap();
        tensors.push(("model.layers.0.self_attn.rotary_emb.inv_freq".into(), buffer.clone()));
        tensors.push(("model.position_ids".into(), buffer.to_dtype(DType::I64).unwrap()));
    });
    assert_eq!(logits(dir.path()), expected);
    assert!(warnings(dir.path()).is_empty(), "buffers that nobody reads");
    tensors(dir.path(), |tensors| {
        let bias = Tensor::ones(64, DType::F32, &Device::Cpu).unwrap();
        tensors.push(("model.layers.0.self_attn.q_proj.bias".into(), bias));
    });
    assert_eq!(logits(dir.path()), expected);
    says(
        dir.path(),
        &["1 of the stored tensors", "model.layers.0.self_attn.q_proj.bias", "LlamaForCausalLM"],
    );
    edit(dir.path(), "config.json", |config| config["num_hidden_layers"] = json!(2));
    says(dir.path(), &["10 of the stored tensors", "model.layers.2.", "and 7 more"]);
}

#[test]
fn a_decoder_that_was_saved_without_its_head_has_shorter_names() {
    let dir = written(&Synthetic::default());
    let expected = logits(dir.path());
    let shorten = |which: fn(&str) -> bool| {
        tensors(dir.path(), |tensors| {
            for (name, _) in tensors.iter_mut().filter(|(name, _)| which(name)) {
                *name = name.trim_start_matches("model.").to_owned();
            }
        });
    };
    // Some names, then all.
    shorten(|name| name.contains("norm"));
    assert_eq!(logits(dir.path()), expected);
    shorten(|_| true);
    assert_eq!(logits(dir.path()), expected);
    assert!(warnings(dir.path()).is_empty());
    let folder = ModelFolder::open(dir.path()).unwrap();
    assert!(folder.weights.names().all(|name| !name.starts_with("model.")));
    export_works(dir.path());
}

#[test]
fn an_index_that_is_wrong_about_what_its_shards_hold() {
    let sharded = || written(&Synthetic { sharded: Some(3), ..Synthetic::default() });
    let expected = logits(sharded().path());
    let changes: [(&str, Change); 5] = [
        ("a tied head that nobody stored", |map| {
            map["lm_head.weight"] = json!("model-00001-of-00003.safetensors");
        }),
        ("a buffer that nobody stored", |map| {
            map["model.layers.0.self_attn.rotary_emb.inv_freq"] = json!("model-00002-of-00003.safetensors");
        }),
        ("no norm", |map| drop(map.as_object_mut().unwrap().remove("model.norm.weight"))),
        ("the norm in another shard", |map| {
            map["model.norm.weight"] = json!("model-00001-of-00003.safetensors");
        }),
        ("only one tensor a shard", |map| {
            let mut seen = std::collections::BTreeSet::new();
            map.as_object_mut().unwrap().retain(|_, file| seen.insert(file.to_string()));
        }),
    ];
    for (what, change) in changes {
        let dir = sharded();
        edit(dir.path(), INDEX, |index| change(&mut index["weight_map"]));
        assert_eq!(logits(dir.path()), expected, "{what}");
        assert!(warnings(dir.path()).is_empty(), "{what}");
        export_works(dir.path());
    }
}
