//! Small models of every family: compared with what transformers makes of them.
//!
//! `../shared/golden/tiny/README.md` says what is in a folder.

mod common;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use secateur::Result;
use secateur::model::{
    ARCHITECTURES, ActivationObserver, Activations, Batch, Block, Generator, InputSite, LmHead, ModelFolder,
    RopeTables, head,
};
use serde_json::{Value, json};

/// What stands before the names of a model's tensors, and not before golden names.
const PREFIXES: [&str; 2] = ["language_model.", "transformer."];

/// What some models around a text model have in the place of `model.`; golden names of the text model alone do not.
const WITHIN: &str = "model.language_model.";

/// Layers whose output is what attention gives, and what the MLP gives.
const ATTENTION_OUTPUTS: [&str; 6] = [
    "self_attn.o_proj",
    "self_attn.out_proj",
    "self_attn.dense",
    "attention.dense",
    "attn.c_proj",
    "linear_attn.out_proj",
];
const MLP_OUTPUTS: [&str; 5] = ["mlp.down_proj", "mlp.dense_4h_to_h", "mlp.c_proj", "mlp.fc2", "fc2"];

/// Layers around the blocks.
const AROUND: [&str; 3] = [".project_in", ".project_out", ".per_layer_model_projection"];

/// What routes tokens to experts.
const ROUTERS: [&str; 5] =
    ["block_sparse_moe.gate", "mlp.gate", "mlp.router", "mlp.shared_expert_gate", "router.proj"];

/// What transformers made of a model.
struct Golden {
    folder: PathBuf,
    told: Value,
    tensors: HashMap<String, Tensor>,
}

impl Golden {
    fn read(folder: &Path) -> Self {
        let read = |folder: &Path| -> Value {
            serde_json::from_str(&std::fs::read_to_string(folder.join("golden.json")).unwrap()).unwrap()
        };
        // A model around a text model has the results of that one.
        let same = read(folder)["same_results_as"].as_str().map(|other| folder.with_file_name(other));
        let results = same.as_deref().unwrap_or(folder);
        let told = read(results);
        let tensors =
            candle_core::safetensors::load(results.join("golden.safetensors"), &Device::Cpu).unwrap();
        Self { folder: folder.to_path_buf(), told, tensors }
    }

    fn tokens(&self, pointer: &str) -> Vec<u32> {
        let list = self.told.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}")).as_array().unwrap();
        list.iter().map(|id| id.as_u64().unwrap() as u32).collect()
    }

    fn tolerance(&self, of: &str) -> f32 {
        self.told["tolerance"][of].as_f64().unwrap() as f32
    }

    /// Compares a matrix with a golden one.
    fn check(&self, name: &str, got: &Tensor, of: &str) {
        let got = got.to_device(&Device::Cpu).unwrap();
        let apart = (got - &self.tensors[name]).unwrap().abs().unwrap();
        let apart = apart.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        let tolerance = self.tolerance(of);
        assert!(apart <= tolerance, "{}, {name}: {apart} apart, {tolerance} accepted", self.folder.display());
    }
}

/// Sees every input of a block, and keeps it.
#[derive(Default)]
struct Keeper(BTreeMap<InputSite, Tensor>);

impl ActivationObserver for Keeper {
    fn input(&mut self, site: InputSite, x: &Activations) -> Result<()> {
        let x = match x {
            Activations::Host { data, width } => Tensor::from_slice(data, ((), *width), &Device::Cpu)?,
            Activations::Device(x) => x.to_device(&Device::Cpu)?,
        };
        assert!(self.0.insert(site, x).is_none(), "an input was shown twice");
        Ok(())
    }
}

/// A model with all its blocks in `f32`.
struct Loaded {
    folder: ModelFolder,
    blocks: Vec<Block>,
    head: LmHead,
    device: Device,
}

impl Loaded {
    fn open(path: &Path) -> Result<Self> {
        let (mut folder, device) = (ModelFolder::open(path)?, common::device());
        // The golden answers go on behind them.
        folder.config.eos.clear();
        let load = |i| Block::load(&folder, i, DType::F32, &device);
        let blocks = (0..folder.config.blocks).map(load).collect::<Result<_>>()?;
        let head = LmHead::load(&folder, DType::F32, &device)?;
        Ok(Self { folder, blocks, head, device })
    }

    /// States without what travels with them to later blocks.
    fn residual(&self, states: &Tensor) -> Tensor {
        states.narrow(1, 0, self.folder.config.hidden_size).unwrap()
    }

    /// The states after every block, the embedding's first.
    fn states(&self, tokens: &[u32]) -> (Vec<Tensor>, Batch, RopeTables) {
        let (batch, ropes) = (Batch::windows(1, tokens.len()), self.folder.config.rope_tables(tokens.len()));
        let mut states = vec![head::embed(&self.folder, tokens, &batch, DType::F32, &self.device).unwrap()];
        for block in &self.blocks {
            states.push(block.forward(states.last().unwrap(), &batch, &ropes, None).unwrap());
        }
        (states, batch, ropes)
    }
}

fn check_states_and_logits(model: &Loaded, golden: &Golden) {
    let (states, ..) = model.states(&golden.tokens("/sequences/a/tokens"));
    golden.check("a.embedding", &model.residual(&states[0]), "hidden_states");
    for (block, x) in states[1..].iter().enumerate() {
        golden.check(&format!("a.block.{block}"), &model.residual(x), "hidden_states");
    }
    golden.check("a.logits", &model.head.logits(states.last().unwrap()).unwrap(), "logits");
    let (states, ..) = model.states(&golden.tokens("/sequences/b/tokens"));
    let logits = model.head.logits(states.last().unwrap()).unwrap();
    let rows = golden.tensors["b.logits"].dim(0).unwrap();
    let last = logits.narrow(0, logits.dim(0).unwrap() - rows, rows).unwrap();
    golden.check("b.logits", &last, "logits");
}

/// Inputs of all modules, and what attention and MLP make of theirs where that is golden.
fn check_inputs_and_parts(model: &Loaded, golden: &Golden) {
    let (states, batch, ropes) = model.states(&golden.tokens("/sequences/a/tokens"));
    let is_within = golden.tensors.keys().any(|name| name.contains(WITHIN));
    let mut compared = 0;
    for (index, (block, x)) in model.blocks.iter().zip(&states).enumerate() {
        let sites: Vec<InputSite> = block.layout().sites().map(|(site, _)| site).collect();
        let mut keeper = Keeper::default();
        block.observe(x, &batch, &ropes, &sites, &mut keeper).unwrap();
        for (id, module) in block.layout().modules() {
            let mut full_name = module.full_name.as_str();
            for prefix in PREFIXES {
                full_name = full_name.strip_prefix(prefix).unwrap_or(full_name);
            }
            let bare = full_name.replacen(WITHIN, "model.", 1);
            let full_name = if is_within { full_name } else { &bare };
            let Some(input) = keeper.0.get(&module.site) else {
                // An expert that no token goes to has no inputs, nor has it golden ones.
                assert!(!golden.tensors.contains_key(&format!("a.inputs.{full_name}")), "{full_name}");
                continue;
            };
            let sums = input.sqr().unwrap().sum(0).unwrap().to_vec1::<f32>().unwrap();
            let want = golden.tensors[&format!("a.inputs.{full_name}")].to_vec1::<f32>().unwrap();
            let largest = want.iter().fold(0f32, |a, b| a.max(*b));
            for (got, want) in sums.iter().zip(want) {
                assert!((got - want).abs() <= 1e-4 * largest, "{}: {got}, golden {want}", module.full_name);
            }
            compared += 1;
            let part = if ATTENTION_OUTPUTS.contains(&&*module.name) {
                format!("a.block.{index}.attention")
            } else if MLP_OUTPUTS.contains(&&*module.name) {
                format!("a.block.{index}.mlp")
            } else {
                continue;
            };
            if golden.tensors.contains_key(&part) {
                let linear = block.module(id).unwrap();
                let input = input.to_device(&model.device).unwrap();
                let mut y = input.matmul(&linear.weight.t().unwrap()).unwrap();
                if let Some(bias) = &linear.bias {
                    y = y.broadcast_add(bias).unwrap();
                }
                golden.check(&part, &y, "hidden_states");
            }
        }
    }
    // What is around the blocks is not compressed, nor is what routes tokens.
    let is_around = |name: &str| AROUND.iter().any(|layer| name.ends_with(layer));
    let is_router = |name: &str| ROUTERS.iter().any(|router| name.ends_with(router));
    let is_layer = |name: &&String| name.starts_with("a.inputs.") && !is_around(name) && !is_router(name);
    let all = golden.tensors.keys().filter(is_layer).count();
    assert_eq!(compared, all, "{}: inputs of every linear layer", golden.folder.display());
}

/// What mixtures give, and how many tokens each expert gets.
fn check_mixtures(model: &Loaded, golden: &Golden) {
    let Some(routed) = golden.told.pointer("/router/tokens_of_expert_in_a") else { return };
    let (states, batch, ropes) = model.states(&golden.tokens("/sequences/a/tokens"));
    let (mut tokens, mut parts) = (BTreeMap::new(), 0);
    for (index, (block, x)) in model.blocks.iter().zip(&states).enumerate() {
        let sites: Vec<InputSite> = block.layout().sites().map(|(site, _)| site).collect();
        let mut keeper = Keeper::default();
        block.observe(x, &batch, &ropes, &sites, &mut keeper).unwrap();
        for (_, module) in block.layout().modules().filter(|(_, module)| module.expert.is_some()) {
            let (expert, _) = module.full_name.rsplit_once('.').unwrap();
            let rows = keeper.0.get(&module.site).map_or(0, |input| input.dim(0).unwrap());
            assert_eq!(*tokens.entry(expert.to_owned()).or_insert(rows), rows, "{expert}");
            // Alone, an expert shows the same.
            let mut alone = Keeper::default();
            block.observe(x, &batch, &ropes, &[module.site], &mut alone).unwrap();
            let same = |a: &Tensor, b: &Tensor| a.to_vec2::<f32>().unwrap() == b.to_vec2::<f32>().unwrap();
            assert!(alone.0.iter().all(|(site, x)| same(x, &keeper.0[site])) && alone.0.len() <= 1);
        }
        // The block's output is its input with both parts added.
        let [attention, mixture] = ["attention", "mlp"].map(|part| format!("a.block.{index}.{part}"));
        // Beside a dense MLP, whose output is compared with the golden one above, a mixture has none.
        let has_mlp = block.layout().modules().any(|(_, module)| MLP_OUTPUTS.contains(&&*module.name));
        parts += usize::from(has_mlp);
        if let Some(attention) = golden.tensors.get(&attention).filter(|_| !has_mlp) {
            let added = (states[index + 1].to_device(&Device::Cpu).unwrap()
                - x.to_device(&Device::Cpu).unwrap())
            .unwrap();
            golden.check(&mixture, &(added - attention).unwrap(), "hidden_states");
            parts += 1;
        }
    }
    assert!(parts > 0, "no part of a mixture is golden");
    assert_eq!(json!(tokens), *routed, "{}", golden.folder.display());
}

fn check_answers(model: &Loaded, golden: &Golden) {
    let prompt = golden.tokens("/generation/prompt");
    let generated = golden.tokens("/generation/generated");
    let Loaded { folder, blocks, head, device } = model;
    // Fewer rows at a time than the prompt has.
    let generator = Generator::new(
        std::borrow::Cow::Borrowed(folder),
        blocks.clone(),
        head.clone(),
        DType::F32,
        device,
        7,
    );
    let answers =
        generator.answer(&[prompt], std::slice::from_ref(&generated.len()), &mut |_| Ok(()), &mut || Ok(()));
    let answer = answers.unwrap().remove(0);
    assert_eq!(answer.tokens, generated, "{}", golden.folder.display());
    let states = answer.states.unwrap().to_device(device).unwrap();
    golden.check("generated.logits", &head.logits(&states).unwrap(), "logits");
}

/// The folders, in alphabetical order; none where they are not there.
fn folders() -> Vec<PathBuf> {
    let Some(root) = common::skip::shared("golden/tiny") else {
        return Vec::new();
    };
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.join("golden.json").exists()).collect();
    folders.sort();
    folders
}

fn name(folder: &Path) -> &str {
    folder.file_name().unwrap().to_str().unwrap()
}

/// What a panic says.
fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

#[test]
fn small_models_give_what_transformers_makes_of_them() {
    let (mut agreed, mut complaints) = (BTreeSet::new(), Vec::new());
    let folders = folders();
    if folders.is_empty() {
        return;
    }
    for folder in &folders {
        let name = name(folder);
        let model = match Loaded::open(folder) {
            Ok(model) => model,
            Err(error) => {
                complaints.push(format!("{name}: {error}"));
                continue;
            }
        };
        let golden = Golden::read(folder);
        let checks: [fn(&Loaded, &Golden); 4] =
            [check_states_and_logits, check_inputs_and_parts, check_mixtures, check_answers];
        for check in checks {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(&model, &golden))) {
                complaints.push(format!("{name}: {}", message(&*panic)));
            }
        }
        agreed.insert(model.folder.config.architecture);
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
    for architecture in ARCHITECTURES {
        assert!(agreed.contains(architecture.name()), "{architecture:?} was compared with nothing");
    }
}

/// A folder, a key of its configuration (with a part behind a slash), and a value that switches a feature off.
type Switch = (&'static str, &'static str, Value);

/// Everything that a configuration can switch.
fn switches() -> Vec<Switch> {
    vec![
        ("gemma2", "attn_logit_softcapping", Value::Null),
        ("gemma2", "final_logit_softcapping", Value::Null),
        ("gemma2", "query_pre_attn_scalar", json!(16)),
        ("gemma2", "sliding_window", json!(9)),
        ("gemma3", "sliding_window_pattern", json!(5)),
        ("gemma3", "rope_local_base_freq", json!(10_000)),
        ("gemma3_layer_types", "rope_parameters/full_attention/factor", json!(1.0)),
        ("phi3", "sliding_window", Value::Null),
        ("phi3_longrope", "original_max_position_embeddings", json!(64)),
        ("olmo3", "rope_scaling/attention_factor", json!(1.0)),
        ("olmo3", "rope_scaling/factor", json!(1.0)),
        ("gpt_neox", "use_parallel_residual", json!(false)),
        ("gpt_neox", "rotary_pct", json!(1.0)),
        ("gpt_neox", "hidden_act", json!("gelu_new")),
        ("gpt_neox_sequential", "use_parallel_residual", json!(true)),
        ("gpt2", "activation_function", json!("gelu")),
        ("phi", "partial_rotary_factor", json!(1.0)),
        ("starcoder2", "sliding_window", Value::Null),
        ("starcoder2", "hidden_act", json!("gelu")),
        ("stablelm", "partial_rotary_factor", json!(1.0)),
        ("cohere", "logit_scale", json!(1.0)),
        ("cohere", "use_qk_norm", json!(false)),
        ("glm4", "partial_rotary_factor", json!(1.0)),
        ("ministral3", "rope_parameters/llama_4_scaling_beta", Value::Null),
        ("ministral3", "rope_parameters/mscale", Value::Null),
        ("granite", "residual_multiplier", json!(1.0)),
        ("llama_yarn", "rope_scaling", Value::Null),
        ("llama_yarn", "rope_scaling/beta_slow", json!(4.0)),
        ("llama_dynamic", "rope_scaling", Value::Null),
        ("mixtral", "num_experts_per_tok", json!(1)),
        ("qwen3_moe", "norm_topk_prob", json!(false)),
        ("olmoe", "norm_topk_prob", json!(true)),
        ("qwen2_moe", "norm_topk_prob", json!(true)),
        ("qwen2_moe", "qkv_bias", json!(false)),
        ("qwen3_5_text", "rope_parameters/partial_rotary_factor", json!(1.0)),
        ("qwen3_5_text", "rope_parameters/rope_theta", json!(1000.0)),
        ("qwen3_5_moe", "text_config/num_experts_per_tok", json!(1)),
        ("gemma4", "final_logit_softcapping", Value::Null),
        ("gemma4", "sliding_window", json!(9)),
        ("gemma4", "rope_parameters/full_attention/partial_rotary_factor", json!(1.0)),
        ("gemma4_e2b", "sliding_window", json!(9)),
        ("gemma4_moe", "top_k_experts", json!(1)),
        ("gpt_oss", "swiglu_limit", json!(7.0)),
        ("gpt_oss", "sliding_window", json!(9)),
        ("gpt_oss", "rope_scaling/truncate", json!(true)),
        ("gpt_oss", "attention_bias", json!(false)),
        ("qwen3_rope_parameters", "rope_parameters/truncate", json!(true)),
    ]
}

#[test]
fn the_golden_results_notice_every_feature_that_a_configuration_switches_off() {
    let folders = folders();
    if folders.is_empty() {
        return;
    }
    let mut complaints = Vec::new();
    for (folder, key, value) in switches() {
        let source = folders.iter().find(|path| name(path) == folder).unwrap();
        let dir = tempfile::tempdir().unwrap();
        for file in ["config.json", "model.safetensors", "tokenizer.json"] {
            std::fs::copy(source.join(file), dir.path().join(file)).unwrap();
        }
        let path = dir.path().join("config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let place = key.split('/').fold(&mut config, |config, key| &mut config[key]);
        assert_ne!(*place, value, "{folder} {key}");
        *place = value;
        std::fs::write(&path, config.to_string()).unwrap();
        let (model, golden) = (Loaded::open(dir.path()).unwrap(), Golden::read(source));
        let (states, ..) = model.states(&golden.tokens("/sequences/a/tokens"));
        let logits = model.head.logits(states.last().unwrap()).unwrap().to_device(&Device::Cpu).unwrap();
        let apart = (logits - &golden.tensors["a.logits"]).unwrap().abs().unwrap();
        let apart = apart.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap();
        if apart < 5.0 * golden.tolerance("logits") {
            complaints.push(format!("{folder}, {key}: only {apart} apart"));
        }
    }
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
