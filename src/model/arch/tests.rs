//! What configurations mean, and a walk through the registry.

use serde_json::json;

use super::*;
use crate::model::layout::BlockLayout;
use crate::model::rope::{Rope, RopeScaling};

fn parse(extra: &Value) -> Result<ModelConfig> {
    let folder = tempfile::tempdir().unwrap();
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 300,
    });
    for (key, value) in extra.as_object().unwrap() {
        config[key] = value.clone();
    }
    let path = folder.path().join("config.json");
    std::fs::write(&path, config.to_string()).unwrap();
    read_config(&path)
}

fn rope(config: &ModelConfig) -> Rope {
    config.ropes[0].rope.clone()
}

/// Modules of the first block that have a bias.
fn biases(config: &ModelConfig) -> Vec<&str> {
    let with_bias = config.layout(0).modules().filter(|(_, module)| module.bias);
    with_bias.map(|(_, module)| module.name.as_str()).collect()
}

#[test]
fn absent_keys_mean_what_they_mean_to_transformers() {
    let config = parse(&json!({})).unwrap();
    let heads = config.attention(0);
    assert_eq!((heads.dim, heads.key, config.max_positions), (16, 2, 2048));
    assert_eq!(rope(&config), Rope { theta: 10_000.0, scaling: RopeScaling::None });
    assert!(!config.head.tied && biases(&config).is_empty());
    assert!(config.eos.is_empty() && config.bos.is_none());
    let qwen3 = parse(&json!({"architectures": ["Qwen3ForCausalLM"]})).unwrap();
    assert_eq!(qwen3.attention(0).dim, 128);
    let norm = ("model.layers.3.self_attn.q_norm.weight".to_string(), vec![128]);
    assert!(qwen3.tensors().contains(&norm));
    let qwen2 = parse(&json!({"architectures": ["Qwen2ForCausalLM"]})).unwrap();
    assert_eq!(biases(&qwen2), ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]);
}

#[test]
fn both_spellings_of_rope_settings_say_the_same() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192});
    let old = parse(&json!({"rope_theta": 500_000.0, "rope_scaling": scaling})).unwrap();
    let mut parameters = scaling.clone();
    parameters["rope_theta"] = json!(500_000.0);
    let new = parse(&json!({"rope_parameters": parameters})).unwrap();
    assert_eq!(rope(&old), rope(&new));
    assert_eq!(
        rope(&new).scaling,
        RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 8192
        }
    );
    let linear = parse(&json!({"rope_scaling": {"type": "linear", "factor": 2}})).unwrap();
    assert_eq!(rope(&linear).scaling, RopeScaling::Linear { factor: 2.0 });
    let plain = parse(&json!({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}})).unwrap();
    assert_eq!(rope(&plain), Rope { theta: 7.0, scaling: RopeScaling::None });
}

#[test]
fn stretched_rotary_embeddings_are_read_with_all_that_belongs_to_them() {
    let yarn = parse(&json!({"max_position_embeddings": 64,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "attention_factor": null}}))
    .unwrap();
    let RopeScaling::Yarn { beta_fast, beta_slow, truncate, attention_factor, .. } = rope(&yarn).scaling
    else {
        panic!("{:?}", rope(&yarn))
    };
    assert_eq!((beta_fast, beta_slow, truncate), (32.0, 1.0, true));
    assert!((attention_factor - (0.1 * 4f64.ln() + 1.0)).abs() < 1e-12);
    let pair = json!({"rope_type": "yarn", "factor": 4.0, "mscale": 1.0, "mscale_all_dim": 1.0});
    let pair = parse(&json!({"rope_parameters": pair})).unwrap();
    let RopeScaling::Yarn { attention_factor, .. } = rope(&pair).scaling else { panic!() };
    assert!((attention_factor - 1.0).abs() < 1e-12, "the pair cancels");
    let dynamic = parse(&json!({"max_position_embeddings": 64,
        "rope_scaling": {"type": "dynamic", "factor": 2.0}}))
    .unwrap();
    assert_eq!(rope(&dynamic).scaling, RopeScaling::Dynamic { factor: 2.0, max_position_embeddings: 64 });
    assert_eq!((dynamic.length_limit(), yarn.length_limit()), (Some(64), None));
    let phi = |keys: Value| {
        let mut all = json!({"architectures": ["Phi3ForCausalLM"], "max_position_embeddings": 128,
            "rope_scaling": {"type": "su", "short_factor": vec![1.0; 8], "long_factor": vec![2.0; 8]}});
        for (key, value) in keys.as_object().unwrap() {
            all[key] = value.clone();
        }
        parse(&all)
    };
    let long = phi(json!({"original_max_position_embeddings": 32})).unwrap();
    let RopeScaling::LongRope { attention_factor, .. } = rope(&long).scaling else { panic!() };
    assert!((attention_factor - (1.0 + 4f64.ln() / 32f64.ln()).sqrt()).abs() < 1e-12);
    assert_eq!(long.length_limit(), Some(32));
    let error = phi(json!({})).unwrap_err().to_string();
    assert!(error.contains("`original_max_position_embeddings` is missing"), "{error}");
}

#[test]
fn kinds_of_blocks_have_rotary_embeddings_of_their_own() {
    let gemma = parse(&json!({"architectures": ["Gemma3ForCausalLM"], "layer_types":
        ["full_attention", "sliding_attention", "full_attention", "full_attention"], "sliding_window": 5,
        "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4}}}))
    .unwrap();
    let ropes: Vec<Rope> = gemma.ropes.iter().map(|embedding| embedding.rope.clone()).collect();
    let full = Rope { theta: 1e6, scaling: RopeScaling::Linear { factor: 8.0 } };
    assert_eq!(ropes, [full, Rope { theta: 1e4, scaling: RopeScaling::None }]);
    let windows: Vec<_> = (0..4).map(|block| gemma.attention(block).window).collect();
    assert_eq!(windows, [None, Some(5), None, None]);
    assert!(gemma.head.tied, "although the configuration does not say so");
    let olmo = parse(&json!({"architectures": ["Olmo3ForCausalLM"], "sliding_window": 6})).unwrap();
    let windows: Vec<_> = (0..4).map(|block| olmo.attention(block).window).collect();
    assert_eq!(windows, [Some(6), Some(6), Some(6), None]);
}

#[test]
fn what_changes_a_block_and_is_not_known_is_refused_by_name() {
    for (class, key, value) in [
        ("GemmaForCausalLM", "hidden_activation", json!("silu")),
        ("Gemma2ForCausalLM", "use_bidirectional_attention", json!(true)),
        ("Gemma3ForCausalLM", "hidden_activation", json!("gelu")),
        ("Phi3ForCausalLM", "mlp_bias", json!(true)),
        ("PhiForCausalLM", "qk_layernorm", json!(true)),
        ("PhiForCausalLM", "partial_rotary_factor", json!(0.19)),
        ("GPTNeoXForCausalLM", "rotary_pct", json!(1.5)),
        ("GPTNeoXForCausalLM", "hidden_act", json!("quick_gelu")),
        ("GPT2LMHeadModel", "scale_attn_weights", json!(false)),
        ("GPT2LMHeadModel", "add_cross_attention", json!(true)),
        ("OPTForCausalLM", "enable_bias", json!(false)),
        ("OlmoeForCausalLM", "clip_qkv", json!(8.0)),
        ("OlmoeForCausalLM", "num_experts_per_tok", json!(65)),
        ("MixtralForCausalLM", "num_local_experts", json!(1)),
        ("Qwen3MoeForCausalLM", "mlp_only_layers", json!([0])),
        ("Qwen3MoeForCausalLM", "decoder_sparse_step", json!(2)),
        ("Qwen3MoeForCausalLM", "use_sliding_window", json!(true)),
        ("Qwen3MoeForCausalLM", "moe_intermediate_size", json!(0)),
        ("Qwen2MoeForCausalLM", "mlp_only_layers", json!([1, 3])),
        ("Qwen2MoeForCausalLM", "decoder_sparse_step", json!(4)),
        ("Qwen2MoeForCausalLM", "use_sliding_window", json!(true)),
        ("OPTForCausalLM", "_remove_final_layer_norm", json!(true)),
        ("Starcoder2ForCausalLM", "norm_type", json!("rms_norm")),
        ("CohereForCausalLM", "logit_scale", json!(0)),
        ("Olmo3ForCausalLM", "layer_types", json!(["chunked_attention", "", "", ""])),
    ] {
        let mut keys = json!({"architectures": [class], "hidden_act": null, "n_embd": 64, "n_layer": 4,
            "n_head": 4, "ffn_dim": 128});
        parse(&keys).unwrap_or_else(|error| panic!("{class}: {error}"));
        keys[key] = value;
        let error = parse(&keys).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&format!("`{key}`")), "{class} {key}: {error}");
    }
}

#[test]
fn what_is_special_about_this_years_models_is_refused_where_it_makes_no_sense() {
    let yarn = json!({"rope_type": "yarn", "factor": 4.0});
    for (class, key, value) in [
        ("GptOssForCausalLM", "rope_scaling", Value::Null),
        ("GptOssForCausalLM", "swiglu_limit", json!(0)),
        ("GptOssForCausalLM", "num_experts_per_tok", json!(200)),
        ("Gemma4ForCausalLM", "num_kv_shared_layers", json!(4)),
        ("Gemma4ForCausalLM", "use_bidirectional_attention", json!("all")),
        ("Gemma4ForCausalLM", "rope_parameters", json!({"rope_type": "default"})),
        ("Gemma4ForCausalLM", "top_k_experts", json!(5)),
        ("Gemma4ForCausalLM", "num_global_key_value_heads", json!(3)),
        ("Qwen3_5ForCausalLM", "attn_output_gate", json!(false)),
        ("Qwen3_5ForCausalLM", "linear_num_value_heads", json!(3)),
        ("Qwen3_5ForCausalLM", "layer_types", json!(["sliding_attention", "", "", ""])),
        ("Qwen3_5MoeForCausalLM", "mlp_only_layers", json!([1])),
    ] {
        let architecture = ARCHITECTURES.iter().find(|a| a.name() == class).unwrap();
        let mut keys = architecture.example();
        keys["architectures"] = json!([class]);
        keys["layer_types"] = Value::Null;
        if class.starts_with("GptOss") {
            keys["rope_scaling"] = yarn.clone();
        }
        parse(&keys).unwrap_or_else(|error| panic!("{class}: {error}"));
        keys[key] = value;
        let error = parse(&keys).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains(&format!("`{key}`")), "{class} {key}: {error}");
    }
}

#[test]
fn blocks_of_a_model_may_be_of_two_kinds() {
    let qwen = |keys: Value| {
        let mut all = json!({"architectures": ["Qwen3_5ForCausalLM"], "linear_num_key_heads": 2,
            "linear_num_value_heads": 4, "head_dim": 16});
        all.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let config = parse(&all).unwrap();
        (0..4).map(|block| config.layout(block).find("self_attn.q_proj").is_some()).collect::<Vec<_>>()
    };
    assert_eq!(qwen(json!({})), [false, false, false, true]);
    assert_eq!(qwen(json!({"full_attention_interval": 2})), [false, true, false, true]);
    let types = ["full_attention", "linear_attention", "linear_attention", "full_attention"];
    assert_eq!(qwen(json!({"layer_types": types})), [true, false, false, true]);
    let gemma = parse(&json!({"architectures": ["Gemma4ForCausalLM"], "hidden_act": null, "layer_types":
        ["full_attention", "sliding_attention", "sliding_attention", "sliding_attention"],
        "hidden_size_per_layer_input": 0, "head_dim": 16, "global_head_dim": 32}))
    .unwrap();
    let heads: Vec<_> =
        (0..4).map(|block| (gemma.attention(block).dim, gemma.attention(block).window)).collect();
    assert_eq!(heads, [(32, None), (16, Some(512)), (16, Some(512)), (32, None)], "the last one is full");
    assert!(gemma.warnings.iter().any(|warning| warning.contains("`layer_types`")), "{:?}", gemma.warnings);
}

#[test]
fn a_model_that_sees_pictures_is_its_text_part() {
    let text = json!({"model_type": "gemma3_text", "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "head_dim": 16, "vocab_size": 300});
    let outer = |text: Value| {
        parse(&json!({"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
            "text_config": text, "eos_token_id": [1, 106]}))
    };
    let config = outer(text.clone()).unwrap();
    assert_eq!(config.architecture, "Gemma3ForCausalLM");
    assert_eq!(config.inside, Some("Gemma3ForConditionalGeneration"));
    assert_eq!(config.eos, [1, 106]);
    assert_eq!((config.attention(0).query, config.attention(0).key), (8, 4), "the class' own");
    assert!(config.tensors().iter().all(|(name, _)| name.starts_with("language_model.model.")));
    assert_eq!(config.head.tensor, "language_model.lm_head.weight");
    let mut other = text;
    other["model_type"] = json!("gemma9_text");
    let error = outer(other).unwrap_err().to_string();
    for part in ["text_config.model_type", "gemma9_text", "gemma3_text"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_text_model_may_lie_within_another_one_and_have_its_head_beside() {
    for (class, outer, inner) in [
        ("Gemma4ForConditionalGeneration", "gemma4", "gemma4_text"),
        ("Qwen3_5ForConditionalGeneration", "qwen3_5", "qwen3_5_text"),
        ("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe", "qwen3_5_moe_text"),
    ] {
        let text = json!({"model_type": inner, "hidden_size": 64, "intermediate_size": 128,
            "num_hidden_layers": 6, "head_dim": 16, "vocab_size": 300});
        let config = parse(&json!({"architectures": [class], "model_type": outer, "text_config": text,
            "tie_word_embeddings": false}))
        .unwrap();
        assert_eq!((config.inside, config.head.tied), (Some(class), false), "said of the whole model");
        assert_eq!(config.head.tensor, "lm_head.weight");
        let tensors = config.tensors().into_iter().filter(|(name, _)| *name != config.head.tensor);
        for (name, _) in tensors {
            let rest = name.strip_prefix("model.language_model.");
            assert!(rest.is_some_and(|rest| !rest.starts_with("model.")), "{name}");
        }
    }
}

#[test]
fn blocks_borrow_from_the_last_one_of_their_kind_before_them() {
    let config =
        parse(&json!({"architectures": ["Gemma4ForCausalLM"], "num_hidden_layers": 6, "head_dim": 16,
        "global_head_dim": 32, "num_kv_shared_layers": 3, "use_double_wide_mlp": true,
        "hidden_size_per_layer_input": 8, "layer_types": ["sliding_attention", "full_attention",
            "sliding_attention", "sliding_attention", "full_attention", "full_attention"]}))
        .unwrap();
    let has =
        |name: &str| -> Vec<bool> { (0..6).map(|block| config.layout(block).find(name).is_some()).collect() };
    assert_eq!(has("self_attn.k_proj"), [true, true, true, false, false, false]);
    assert_eq!(has("per_layer_input_gate"), [true; 6]);
    let widths: Vec<usize> = (0..6)
        .map(|block| {
            config.layout(block).find("mlp.up_proj").map(|id| config.layout(block).module(id).shape.0)
        })
        .map(Option::unwrap)
        .collect();
    assert_eq!(widths, [128, 128, 128, 256, 256, 256]);
    let carried: Vec<usize> = (0..6).map(|block| config.plans.at(block).decoder.carried()).collect();
    // Two key heads of 32 and of 16, each with its values, and eight features for every block that is still to come.
    let (sliding, full) = (2 * 2 * 16, 2 * 2 * 32);
    assert_eq!(carried, [40, 32 + full, 24 + full + sliding, 16 + full + sliding, 8 + full + sliding, 0]);
    assert_eq!(config.widest_state(), 64 + carried[2]);
    assert!(config.needs_all_blocks.is_some());
}

#[test]
fn matrices_of_gpt_2_are_stored_the_other_way_round() {
    let config = parse(&json!({"architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_layer": 1,
        "n_head": 4}))
    .unwrap();
    let (_, fused) = config.layout(0).modules().next().unwrap();
    assert_eq!(
        (fused.name.as_str(), fused.shape, fused.stored_shape()),
        ("attn.c_attn", (192, 64), [64, 192])
    );
    assert!(config.tensors().contains(&("transformer.h.0.mlp.c_fc.weight".into(), vec![64, 256])));
    assert!(config.tensors().contains(&("transformer.wpe.weight".into(), vec![1024, 64])));
}

#[test]
fn windows_slide_in_the_blocks_that_say_so() {
    let windows = |extra: Value| -> Vec<Option<usize>> {
        let config = parse(&extra).unwrap();
        (0..config.blocks).map(|b| config.attention(b).window).collect()
    };
    let mistral = "MistralForCausalLM";
    let qwen = "Qwen2ForCausalLM";
    assert_eq!(windows(json!({"architectures": [mistral], "sliding_window": 8})), [Some(8); 4]);
    assert_eq!(windows(json!({"architectures": [mistral], "sliding_window": null})), [None; 4]);
    assert_eq!(windows(json!({"architectures": [mistral]})), [Some(4096); 4]);
    assert_eq!(windows(json!({"architectures": [qwen], "sliding_window": 8})), [None; 4]);
    assert_eq!(
        windows(json!({"architectures": [qwen], "sliding_window": 8, "use_sliding_window": true,
            "max_window_layers": 3})),
        [None, None, None, Some(8)]
    );
    let types = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"];
    assert_eq!(
        windows(json!({"architectures": [qwen], "sliding_window": 8, "use_sliding_window": true,
            "layer_types": types})),
        [Some(8), None, None, Some(8)]
    );
    assert_eq!(windows(json!({"sliding_window": 8})), [None; 4], "Llama has no window");
}

#[test]
fn end_tokens_come_from_both_files_once_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    let config = json!({"architectures": ["LlamaForCausalLM"], "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9,
        "eos_token_id": 2, "bos_token_id": 1});
    std::fs::write(&path, config.to_string()).unwrap();
    let generation = folder.path().join("generation_config.json");
    std::fs::write(generation, r#"{"eos_token_id": [7, 2, 8]}"#).unwrap();
    let config = read_config(&path).unwrap();
    assert_eq!((config.eos, config.bos), (vec![2, 7, 8], Some(1)));
}

#[test]
fn modules_are_chosen_by_names_paths_and_patterns() {
    let config = parse(&json!({})).unwrap();
    let chosen = |patterns: &[&str]| -> Vec<String> {
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_string()).collect();
        let selected = config.select_modules(&patterns).unwrap();
        assert!(selected.iter().all(|ids| *ids == selected[0]), "every block of a Llama is the same");
        selected[0].iter().map(|id| config.layout(0).module(*id).short_name().to_string()).collect()
    };
    let all = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];
    assert_eq!(chosen(&["*"]), all);
    assert_eq!(chosen(&all), all);
    assert_eq!(chosen(&["down_proj", "self_attn.q_proj"]), ["q_proj", "down_proj"], "in the layout's order");
    assert_eq!(chosen(&["mlp.*"]), ["gate_proj", "up_proj", "down_proj"]);
    assert_eq!(chosen(&["?_proj", "mlp.up*"]), ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj"]);
    let error = config.select_modules(&["q_proj".into(), "qkv".into()]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    for part in ["`qkv`", "LlamaForCausalLM", "self_attn.q_proj", "mlp.down_proj"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}

#[test]
fn every_architecture_declares_a_layout_that_makes_sense() {
    for (i, architecture) in ARCHITECTURES.iter().enumerate() {
        let names = |a: &&dyn Architecture| [&[a.name(), a.model_type()], a.other_names()].concat();
        for other in &ARCHITECTURES[..i] {
            assert!(names(architecture).iter().all(|name| !names(other).contains(name)), "{architecture:?}");
        }
        let mut keys =
            json!({ "architectures": [architecture.name()], "head_dim": 16, "num_hidden_layers": 3 });
        for (key, value) in architecture.example().as_object().unwrap() {
            keys[key] = value.clone();
        }
        let config = parse(&keys).unwrap();
        assert_eq!(config.architecture, architecture.name());
        let tensors = config.tensors();
        let mut unique: Vec<_> = tensors.iter().map(|(name, _)| name).collect();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), tensors.len(), "{architecture:?} has a tensor twice");
        assert!(tensors.iter().all(|(_, shape)| shape.iter().all(|n| *n > 0)));
        for (block, layout) in config.layouts().enumerate() {
            check_layout(layout, block, config.hidden_size);
        }
    }
}

/// Modules have names of their own, are found by them, and share sites only with equal inputs.
fn check_layout(layout: &BlockLayout, block: usize, hidden: usize) {
    let mut sites = Vec::new();
    for (id, module) in layout.modules() {
        assert_eq!(layout.find(&module.name), Some(id));
        assert!(module.full_name.ends_with(&format!(".{block}.{}", module.name)), "{}", module.full_name);
        let width = layout.sites().find(|(site, _)| *site == module.site).unwrap().1;
        assert_eq!(module.shape.1, width, "{} reads what others read", module.name);
        sites.push(module.site);
    }
    assert!(sites.is_sorted(), "modules come in the order in which a pass reaches them");
    assert_eq!(layout.modules().next().unwrap().1.shape.1, hidden);
    assert_eq!(layout.modules().last().unwrap().1.shape.0, hidden);
}
