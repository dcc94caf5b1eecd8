//! What people get told when a model's folder is not what it should be: one clear message, exit code 2.

#[path = "common/synthetic.rs"]
mod synthetic;

use std::path::Path;

use candle_core::{DType, Device};
use proptest::prelude::*;
use secateur::Result;
use secateur::model::arch::{mistral::Mistral, qwen3::Qwen3};
use secateur::model::{ModelFolder, Weights, load_tokenizer};
use serde_json::{Value, json};
use synthetic::Synthetic;

/// One broken folder: how to break it, and what the message has to name.
struct Case {
    name: &'static str,
    model: Synthetic,
    damage: Box<dyn Fn(&Path)>,
    named: Vec<&'static str>,
}

fn case(name: &'static str, damage: impl Fn(&Path) + 'static, named: &[&'static str]) -> Case {
    Case { name, model: Synthetic::default(), damage: Box::new(damage), named: named.to_vec() }
}

/// Opens the folder and reads its norm and its first weights, as a run does.
fn load(dir: &Path) -> Result<()> {
    let folder = ModelFolder::open(dir)?;
    load_tokenizer(&folder.tokenizer)?;
    for name in ["model.norm.weight", "model.layers.0.mlp.up_proj.weight"] {
        folder.weights.tensor(name, DType::F32, &Device::Cpu)?;
    }
    folder.weights.rows("model.embed_tokens.weight", &[0, 7], DType::F32, &Device::Cpu)?;
    Ok(())
}

fn check(cases: Vec<Case>) {
    for Case { name, model, damage, named } in cases {
        let dir = tempfile::tempdir().unwrap();
        model.write(dir.path()).unwrap();
        load(dir.path()).unwrap();
        damage(dir.path());
        let error = load(dir.path()).expect_err(name);
        let message = error.to_string();
        assert_eq!(error.exit_code(), 2, "{name}: {message}");
        assert!(message.contains(&dir.path().display().to_string()), "{name} has no path: {message}");
        assert!(!message.contains('\n'), "{name} has more than a line: {message}");
        for part in named {
            assert!(message.contains(part), "{name} does not name {part}: {message}");
        }
    }
}

fn remove(file: &'static str) -> impl Fn(&Path) {
    move |dir| std::fs::remove_file(dir.join(file)).unwrap()
}

fn write(file: &'static str, content: &'static str) -> impl Fn(&Path) {
    move |dir| std::fs::write(dir.join(file), content).unwrap()
}

fn edit(file: &str, dir: &Path, change: impl Fn(&mut Value)) {
    let path = dir.join(file);
    let mut json: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut json);
    std::fs::write(path, json.to_string()).unwrap();
}

/// Sets a key of `config.json`; null removes it.
fn config(key: &'static str, value: Value) -> impl Fn(&Path) {
    move |dir| {
        edit("config.json", dir, |config| {
            if value.is_null() {
                config.as_object_mut().unwrap().remove(key);
            } else {
                config[key] = value.clone();
            }
        });
    }
}

/// Rewrites the header of `model.safetensors` and leaves its data.
fn header(change: impl Fn(&mut Value) + 'static) -> impl Fn(&Path) {
    move |dir| {
        let path = dir.join("model.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let end = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut json: Value = serde_json::from_slice(&bytes[8..end]).unwrap();
        change(&mut json);
        let json = json.to_string();
        let file = [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &bytes[end..]].concat();
        std::fs::write(path, file).unwrap();
    }
}

/// Overwrites bytes of `model.safetensors` at an offset into the data of a tensor.
fn poke(dir: &Path, tensor: &str, bytes: &[u8]) {
    let info = Weights::open(dir).unwrap().info(tensor).unwrap().clone();
    let mut file = std::fs::read(&info.file).unwrap();
    let at = info.bytes.start as usize + 8;
    file[at..at + bytes.len()].copy_from_slice(bytes);
    std::fs::write(info.file, file).unwrap();
}

fn truncate(file: &'static str, length: impl Fn(u64) -> u64 + 'static) -> impl Fn(&Path) {
    move |dir| {
        let file = std::fs::OpenOptions::new().write(true).open(dir.join(file)).unwrap();
        file.set_len(length(file.metadata().unwrap().len())).unwrap();
    }
}

#[test]
fn something_that_is_no_model_folder() {
    let dir = tempfile::tempdir().unwrap();
    let none = dir.path().join("nowhere");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    for (path, word) in [(&none, "no such folder"), (&file, "is a file")] {
        let error = ModelFolder::open(path).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        let message = error.to_string();
        for part in [&path.display().to_string(), word, "config.json"] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn files_that_are_missing() {
    check(vec![
        case("no config", remove("config.json"), &["no config.json"]),
        case("no tokenizer", remove("tokenizer.json"), &["no tokenizer.json"]),
        case(
            "no weights",
            remove("model.safetensors"),
            &["no weights", "model.safetensors", "model.safetensors.index.json"],
        ),
        case(
            "pickled weights only",
            |dir| std::fs::rename(dir.join("model.safetensors"), dir.join("pytorch_model.bin")).unwrap(),
            &["no weights", "found pytorch_model.bin", "model.safetensors"],
        ),
    ]);
}

#[test]
fn shards_that_are_not_what_the_index_says() {
    let sharded = |case: Case| Case { model: Synthetic { sharded: Some(3), ..Synthetic::default() }, ..case };
    let index = |change: fn(&mut Value)| move |dir: &Path| edit("model.safetensors.index.json", dir, change);
    check(
        vec![
            case(
                "missing shard",
                remove("model-00002-of-00003.safetensors"),
                &["model.safetensors.index.json", "model-00002-of-00003.safetensors", "named but not there"],
            ),
            case("no map", index(|index| *index = json!({})), &["weight_map", "missing"]),
            case(
                "a path for a file",
                index(|index| index["weight_map"]["model.norm.weight"] = json!("../x.safetensors")),
                &["weight_map.model.norm.weight", "../x.safetensors", "a file name"],
            ),
            case(
                "index is not JSON",
                write("model.safetensors.index.json", "{"),
                &["index.json", "is not JSON"],
            ),
            case(
                "truncated shard",
                truncate("model-00003-of-00003.safetensors", |length| length - 4),
                &["model-00003-of-00003.safetensors", "truncated"],
            ),
        ]
        .into_iter()
        .map(sharded)
        .collect(),
    );
}

#[test]
fn safetensors_files_that_lie() {
    const FILE: &str = "model.safetensors";
    const NORM: &str = "model.norm.weight";
    check(vec![
        case("empty", truncate(FILE, |_| 0), &[FILE, "has 0 bytes", "at least 8"]),
        case("cut in the header", truncate(FILE, |_| 100), &[FILE, "92 at most", "truncated"]),
        case("cut in the data", truncate(FILE, |length| length / 2), &[FILE, "truncated"]),
        case("data too long", truncate(FILE, |length| length + 16), &[FILE, "its tensors fill", "corrupt"]),
        case(
            "header length lies",
            |dir| {
                let path = dir.join(FILE);
                let mut bytes = std::fs::read(&path).unwrap();
                bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
                std::fs::write(path, bytes).unwrap();
            },
            &[FILE, "18446744073709551615 bytes", "at most"],
        ),
        case(
            "not safetensors",
            write(FILE, "just some text, and a lot of it"),
            &[FILE, "no safetensors file"],
        ),
        case(
            "header is not JSON",
            |dir| std::fs::write(dir.join(FILE), [&2_u64.to_le_bytes()[..], b"[]"].concat()).unwrap(),
            &[FILE, "not the JSON object"],
        ),
        case(
            "offsets beyond the end",
            header(|h| h[NORM]["data_offsets"][1] = json!(1_u64 << 40)),
            &[FILE, NORM, "1099511627776", "truncated or corrupt"],
        ),
        case(
            "offsets reversed",
            header(|h| h[NORM]["data_offsets"] = json!([8, 4])),
            &[FILE, NORM, "before that"],
        ),
        case(
            "tensors overlap",
            header(|h| {
                let from = h[NORM]["data_offsets"][0].as_u64().unwrap();
                h[NORM]["data_offsets"][0] = json!(from - 4);
            }),
            &[FILE, NORM, "overlaps"],
        ),
        case(
            "a hole",
            header(|h| {
                h.as_object_mut().unwrap().remove("model.layers.1.input_layernorm.weight");
            }),
            &[FILE, "model.layers.1.post_attention_layernorm.weight", "leaves a hole"],
        ),
        case("size of shape", header(|h| h[NORM]["shape"] = json!([65])), &[FILE, NORM, "[65]", "260"]),
        case(
            "shape overflows",
            header(|h| h[NORM]["shape"] = json!([u64::MAX, 2])),
            &[FILE, NORM, "more than there can be"],
        ),
        case("shape of text", header(|h| h[NORM]["shape"] = json!("64")), &[FILE, NORM, "makes no sense"]),
        case(
            "dtype",
            header(|h| h[NORM]["dtype"] = json!("F8_E4M3")),
            &[FILE, NORM, "F8_E4M3", "F32, F16 and BF16"],
        ),
    ]);
}

#[test]
fn weights_that_are_no_numbers() {
    let model = |dtype| Synthetic { dtype, ..Synthetic::default() };
    let up = "model.layers.0.mlp.up_proj.weight";
    let embedding = "model.embed_tokens.weight";
    let mut cases = Vec::new();
    for (dtype, bytes) in [
        (DType::F32, f32::NAN.to_le_bytes().to_vec()),
        (DType::F32, f32::NEG_INFINITY.to_le_bytes().to_vec()),
        (DType::BF16, half::bf16::NAN.to_le_bytes().to_vec()),
        (DType::F16, half::f16::INFINITY.to_le_bytes().to_vec()),
    ] {
        for tensor in [up, embedding] {
            let bytes = bytes.clone();
            let damage = move |dir: &Path| poke(dir, tensor, &bytes);
            let named = &[tensor, "model.safetensors", "NaN or infinite"];
            cases.push(Case { model: model(dtype), ..case("not finite", damage, named) });
        }
    }
    check(cases);
}

#[test]
fn shapes_that_contradict_the_config() {
    check(vec![
        case(
            "wider MLP",
            config("intermediate_size", json!(256)),
            &["model.layers.0.mlp.gate_proj.weight", "[128, 64]", "[256, 64]"],
        ),
        case("more words", config("vocab_size", json!(300)), &["embed_tokens", "[258, 64]", "[300, 64]"]),
        case("more blocks", config("num_hidden_layers", json!(4)), &["no tensor `model.layers.3."]),
        case(
            "a bias that is not there",
            config("attention_bias", json!(true)),
            &["no tensor `model.layers.0.self_attn.q_proj.bias`"],
        ),
        case(
            "no head",
            config("tie_word_embeddings", json!(false)),
            &["no tensor `lm_head.weight`", "tie_word_embeddings"],
        ),
        Case {
            model: Synthetic::tiny(&Qwen3),
            ..case("wider heads", config("head_dim", json!(64)), &["q_norm.weight", "[32]", "[64]"])
        },
    ]);
}

#[test]
fn configs_that_make_no_sense() {
    let whole = "a whole number from 1";
    let known = "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM";
    let rope = |value: Value| config("rope_scaling", value);
    let mut cases = vec![
        case("not JSON", write("config.json", "{,}"), &["config.json", "is not JSON"]),
        case("not an object", write("config.json", "[1]"), &["config.json", "found a list", "a JSON object"]),
        case(
            "architecture",
            config("architectures", json!(["MambaForCausalLM"])),
            &["MambaForCausalLM", known],
        ),
        case(
            "architectures",
            config("architectures", json!("LlamaForCausalLM")),
            &["architectures", "a list"],
        ),
        case(
            "no architecture",
            |dir| {
                config("architectures", Value::Null)(dir);
                config("model_type", Value::Null)(dir);
            },
            &["architectures", known],
        ),
        case("activation", config("hidden_act", json!("gelu")), &["hidden_act", "gelu", "only silu"]),
        case("quantised", config("quantization_config", json!({"quant_method": "gptq"})), &["gptq", "BF16"]),
        case(
            "blocks of four bits",
            config("quantization_config", json!({"quant_method": "mxfp4"})),
            &["mxfp4", "dequantize=True"],
        ),
        case(
            "heads",
            config("num_key_value_heads", json!(3)),
            &["`num_attention_heads` is 4", "is 3", "multiple"],
        ),
        case("odd head", config("head_dim", json!(15)), &["15", "even", "head_dim"]),
        case("eps", config("rms_norm_eps", json!(0)), &["rms_norm_eps", "is 0", "above 0"]),
        case("theta", config("rope_theta", json!("big")), &["rope_theta", "\"big\"", "above 0"]),
        case(
            "tied",
            config("tie_word_embeddings", json!(1)),
            &["tie_word_embeddings", "is 1", "true or false"],
        ),
        case(
            "eos",
            config("eos_token_id", json!([1, "x"])),
            &["eos_token_id", "\"x\"", "a token id or a list"],
        ),
        case(
            "unknown rope scaling",
            rope(json!({"rope_type": "proportional", "factor": 4})),
            &["rope_scaling.rope_type", "proportional", "llama3", "yarn"],
        ),
        case(
            "unknown rope scaling in the old spelling",
            rope(json!({"type": "mrope", "factor": 4})),
            &["rope_scaling.type", "mrope", "linear"],
        ),
        case(
            "rope by kind of block",
            config("rope_parameters", json!({"full_attention": {"rope_type": "default"}})),
            &["`rope_parameters`", "each kind of block", "one for all"],
        ),
        case("rope text", rope(json!("linear")), &["rope_scaling", "\"linear\"", "an object"]),
        case("factor", rope(json!({"rope_type": "linear", "factor": 0.5})), &["rope_scaling.factor", "0.5"]),
        case("no factor", rope(json!({"rope_type": "linear"})), &["rope_scaling.factor", "missing"]),
        case(
            "llama3 factors",
            rope(json!({"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                "original_max_position_embeddings": 64})),
            &["rope_scaling.high_freq_factor", "above `low_freq_factor`"],
        ),
        case(
            "longrope without its numbers",
            config("rope_parameters", json!({"rope_type": "longrope", "rope_theta": 1e4})),
            &["rope_parameters.short_factor", "missing", "8 numbers above 0"],
        ),
        case(
            "longrope with too few numbers",
            rope(json!({"type": "longrope", "short_factor": [1.0, 2.0], "long_factor": [1.0]})),
            &["rope_scaling.short_factor", "2 entries", "8 numbers above 0"],
        ),
        case(
            "yarn without a factor",
            rope(json!({"rope_type": "yarn"})),
            &["rope_scaling.factor", "missing"],
        ),
        case(
            "a part of a head",
            config("partial_rotary_factor", json!(0.5)),
            &["partial_rotary_factor", "0.5", "only 1"],
        ),
        case(
            "generation config",
            write("generation_config.json", "no"),
            &["generation_config.json", "not JSON"],
        ),
        case("tokenizer", write("tokenizer.json", "{}"), &["tokenizer.json", "not a usable tokenizer"]),
    ];
    let sizes =
        ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"];
    for key in sizes {
        cases.push(case("missing", config(key, Value::Null), &[key, "missing", whole]));
        cases.push(case("zero", config(key, json!(0)), &[key, "is 0", whole]));
        cases.push(case("text", config(key, json!("64")), &[key, "is \"64\"", whole]));
        cases.push(case("huge", config(key, json!(1_u64 << 40)), &[key, "1099511627776", whole]));
    }
    cases.push(Case {
        model: Synthetic::tiny(&Qwen3),
        ..case(
            "layer types",
            |dir| {
                config("use_sliding_window", json!(true))(dir);
                config("layer_types", json!(["full_attention", "linear_attention", "full_attention"]))(dir);
            },
            &["layer_types", "linear_attention", "sliding_attention"],
        )
    });
    cases.push(Case {
        model: Synthetic::tiny(&Mistral),
        ..case(
            "too few layer types",
            config("layer_types", json!(["sliding_attention"])),
            &["1 entries", "num_hidden_layers"],
        )
    });
    check(cases);
}

#[test]
fn tokens_that_the_model_does_not_have() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::default().write(dir.path()).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    let error = weights.rows("model.embed_tokens.weight", &[3, 258], DType::F32, &Device::Cpu).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("token 258") && error.to_string().contains("258: "), "{error}");
    let error = weights.rows("model.norm.weight", &[0], DType::F32, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("accepted is a matrix"), "{error}");
    let error = weights.tensor("model.nothing", DType::F32, &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("no tensor `model.nothing`"), "{error}");
}

#[test]
fn a_file_that_is_cut_while_in_use_is_refused_without_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic::default().write(dir.path()).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    truncate("model.safetensors", |length| length / 2)(dir.path());
    let error = weights.tensor("model.norm.weight", DType::F32, &Device::Cpu).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("changed while in use"), "{error}");
}

#[test]
fn rows_are_those_of_the_whole_tensor_and_bytes_are_what_is_on_disk() {
    let dir = tempfile::tempdir().unwrap();
    Synthetic { dtype: DType::BF16, ..Synthetic::default() }.write(dir.path()).unwrap();
    let weights = Weights::open(dir.path()).unwrap();
    let name = "model.embed_tokens.weight";
    let whole: Vec<Vec<f32>> = weights.tensor(name, DType::F32, &Device::Cpu).unwrap().to_vec2().unwrap();
    let ids = [5, 0, 257, 5];
    let rows: Vec<Vec<f32>> = weights.rows(name, &ids, DType::F32, &Device::Cpu).unwrap().to_vec2().unwrap();
    for (row, id) in rows.iter().zip(ids) {
        assert_eq!(row, &whole[id as usize]);
    }
    let first =
        weights.bytes(name, |bytes| half::bf16::from_le_bytes([bytes[0], bytes[1]]).to_f32()).unwrap();
    assert_eq!(first.to_bits(), whole[0][0].to_bits());
    let empty = weights.rows(name, &[], DType::BF16, &Device::Cpu).unwrap();
    assert_eq!(empty.dims(), [0, 64]);
}

fn open_bytes(bytes: &[u8]) -> Result<Weights> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    let weights = Weights::open(dir.path())?;
    for name in weights.names() {
        let _ = weights.tensor(name, DType::F32, &Device::Cpu);
    }
    Ok(weights)
}

proptest! {
    #[test]
    fn random_bytes_are_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = open_bytes(&bytes) {
            prop_assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn a_random_header_over_random_data_is_never_a_panic(
        entries in prop::collection::btree_map(
            "[a-c]",
            ("F32|BF16|F16|I64|X", prop::collection::vec(0..9_u64, 0..3), 0..40_u64, 0..40_u64),
            0..4,
        ),
        data in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let header: serde_json::Map<String, Value> = entries
            .into_iter()
            .map(|(name, (dtype, shape, from, to))| {
                (name, json!({"dtype": dtype, "shape": shape, "data_offsets": [from, to]}))
            })
            .collect();
        let header = Value::Object(header).to_string();
        let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat();
        if let Err(error) = open_bytes(&bytes) {
            prop_assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn one_flipped_byte_of_a_good_file_is_never_a_panic(at in any::<prop::sample::Index>(), value in any::<u8>()) {
        let header = r#"{"a":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BF16","shape":[4],"data_offsets":[16,24]}}"#;
        let mut bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 24]].concat();
        open_bytes(&bytes).unwrap();
        let at = at.index(bytes.len());
        bytes[at] = value;
        let _ = open_bytes(&bytes);
    }
}
