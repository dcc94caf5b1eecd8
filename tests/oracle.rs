//! The decoder's forward pass, held against two judges: candle-transformers' own models on the same weights, and, for
//! what those cannot do, the formulas written down plainly in `f64`.

mod common;

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{llama, mistral, qwen2, qwen3};
use common::Synthetic;
use rand::{Rng, SeedableRng};
use secateur::model::arch::{llama::Llama, mistral::Mistral, qwen2::Qwen2, qwen3::Qwen3};
use secateur::model::head::embed;
use secateur::model::{
    Architecture, Batch, Block, LmHead, ModelConfig, ModelFolder, Rope, RopeScaling, load_tokenizer,
};
use serde_json::json;

/// Tokens of a text: three times the width of the sliding windows used here.
const LENGTH: usize = 48;
/// Greatest accepted distance of two rows of logits, relative to their length.
const TOLERANCE: f64 = 1e-5;

/// A synthetic model on disk.
struct Model {
    _dir: tempfile::TempDir,
    folder: ModelFolder,
}

fn model(shape: &Synthetic) -> Model {
    let dir = tempfile::tempdir().unwrap();
    shape.write(dir.path()).unwrap();
    let folder = ModelFolder::open(dir.path()).unwrap();
    Model { _dir: dir, folder }
}

fn text(folder: &ModelFolder, seed: u64) -> Vec<u32> {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    (0..LENGTH).map(|_| rng.random_range(0..folder.config.vocabulary as u32)).collect()
}

/// Logits of every position of texts of one length, block by block: `[text][position][token]`.
fn ours(folder: &ModelFolder, texts: &[Vec<u32>]) -> Vec<Vec<Vec<f32>>> {
    let (dtype, device) = (DType::F32, common::device());
    let length = texts[0].len();
    let batch = Batch::windows(texts.len(), length);
    let ropes = folder.config.rope_tables(length);
    let mut x = embed(folder, &texts.concat(), &batch, dtype, &device).unwrap();
    for index in 0..folder.config.blocks {
        let block = Block::load(folder, index, dtype, &device).unwrap();
        x = block.forward(&x, &batch, &ropes, None).unwrap();
    }
    let logits = LmHead::load(folder, dtype, &device).unwrap().logits(&x).unwrap();
    logits.to_vec2::<f32>().unwrap().chunks(length).map(<[_]>::to_vec).collect()
}

/// From tokens to the logits of the last of them.
type Oracle = Box<dyn FnMut(&[u32]) -> Vec<f32>>;

/// candle-transformers' model of a folder.
fn theirs(folder: &ModelFolder) -> Oracle {
    let device = Device::Cpu;
    let tensors: HashMap<String, Tensor> = folder
        .weights
        .names()
        .map(|name| (name.to_string(), folder.weights.tensor(name, DType::F32, &device).unwrap()))
        .collect();
    let weights = VarBuilder::from_tensors(tensors, DType::F32, &device);
    let config = std::fs::read(folder.root.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    let input = |tokens: &[u32]| Tensor::from_slice(tokens, (1, tokens.len()), &Device::Cpu).unwrap();
    let row = |logits: Tensor| logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    match folder.config.architecture {
        "LlamaForCausalLM" => {
            let config: llama::LlamaConfig = serde_json::from_value(config).unwrap();
            let config = config.into_config(false);
            let model = llama::Llama::load(weights, &config).unwrap();
            let mut cache = llama::Cache::new(false, DType::F32, &config, &device).unwrap();
            Box::new(move |tokens| row(model.forward(&input(tokens), 0, &mut cache).unwrap()))
        }
        "MistralForCausalLM" => {
            let mut config: mistral::Config = serde_json::from_value(config).unwrap();
            // Their mask lets a token see `sliding_window` others and itself; in transformers, whose configuration this
            // is, itself is one of the window.
            config.sliding_window = config.sliding_window.map(|w| w - 1);
            let mut model = mistral::Model::new(&config, weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "Qwen2ForCausalLM" => {
            without_windows(&mut config);
            let config: qwen2::Config = serde_json::from_value(config).unwrap();
            let mut model = qwen2::ModelForCausalLM::new(&config, weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        "Qwen3ForCausalLM" => {
            without_windows(&mut config);
            let config: qwen3::Config = serde_json::from_value(config).unwrap();
            let mut model = qwen3::ModelForCausalLM::new(&config, weights).unwrap();
            Box::new(move |tokens| {
                model.clear_kv_cache();
                row(model.forward(&input(tokens), 0).unwrap())
            })
        }
        other => panic!("candle-transformers is not asked for {other}"),
    }
}

/// candle-transformers wants keys that it does not look at without `use_sliding_window`, and biases that may be left out.
fn without_windows(config: &mut serde_json::Value) {
    config["use_sliding_window"] = false.into();
    config["sliding_window"] = 4096.into();
    config["max_window_layers"] = config["num_hidden_layers"].clone();
    let config = config.as_object_mut().unwrap();
    config.entry("attention_bias").or_insert_with(|| false.into());
}

/// The forward pass as the papers and `transformers` define it: loops over `f64`, nothing shared with the code under
/// test but the reading of files.
struct Definition<'a> {
    folder: &'a ModelFolder,
    tensors: HashMap<String, Vec<f64>>,
}

impl<'a> Definition<'a> {
    fn new(folder: &'a ModelFolder) -> Self {
        let read = |name: &str| {
            let tensor = folder.weights.tensor(name, DType::F64, &Device::Cpu).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let tensors = folder.weights.names().map(|name| (name.to_string(), read(name))).collect();
        Self { folder, tensors }
    }

    fn config(&self) -> &ModelConfig {
        &self.folder.config
    }

    fn linear(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = &self.tensors[&format!("{name}.weight")];
        let mut y: Vec<f64> =
            weight.chunks(x.len()).map(|row| row.iter().zip(x).map(|(w, x)| w * x).sum()).collect();
        if let Some(bias) = self.tensors.get(&format!("{name}.bias")) {
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        y
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let weight = &self.tensors[&format!("{name}.weight")];
        let norm_one = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
            let root = (mean + self.config().head.norm_eps).sqrt();
            x.iter().zip(weight).map(|(v, w)| v / root * w).collect()
        };
        x.chunks(weight.len()).flat_map(norm_one).collect()
    }

    /// Turns every head by the angles of a position; the two halves of a head are the two coordinates.
    fn rotate(&self, x: &mut [f64], position: usize) {
        let Rope { theta, scaling } = self.config().ropes[0].rope.clone();
        let dim = self.config().attention(0).dim;
        let half = dim / 2;
        for head in x.chunks_mut(dim) {
            for i in 0..half {
                let plain = theta.powf(-(i as f64) / half as f64);
                let (sin, cos) = (position as f64 * stretched(plain, &scaling)).sin_cos();
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * cos - b * sin;
                head[i + half] = b * cos + a * sin;
            }
        }
    }

    fn attention(&self, block: usize, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let heads = self.config().attention(block);
        let part = |name: &str| format!("model.layers.{block}.self_attn.{name}");
        let project = |name: &str, norm: &str, turned: bool| -> Vec<Vec<f64>> {
            let one = |(position, x): (usize, &Vec<f64>)| {
                let mut y = self.linear(&part(name), x);
                if self.tensors.contains_key(&format!("{}.weight", part(norm))) {
                    y = self.norm(&part(norm), &y);
                }
                if turned {
                    self.rotate(&mut y, position);
                }
                y
            };
            x.iter().enumerate().map(one).collect()
        };
        let (q, k) = (project("q_proj", "q_norm", true), project("k_proj", "k_norm", true));
        let v = project("v_proj", "", false);
        let window = heads.window.unwrap_or(usize::MAX);
        let dim = heads.dim;
        let mut out = Vec::new();
        for (i, q) in q.iter().enumerate() {
            let mut row = Vec::new();
            for (head, q) in q.chunks(dim).enumerate() {
                let at = head / (heads.query / heads.key) * dim;
                let seen: Vec<usize> = (0..=i).filter(|j| i - j < window).collect();
                let scores = seen.iter().map(|&j| {
                    let dot: f64 = q.iter().zip(&k[j][at..]).map(|(q, k)| q * k).sum();
                    (dot / (dim as f64).sqrt()).exp()
                });
                let scores: Vec<f64> = scores.collect();
                let total: f64 = scores.iter().sum();
                row.extend(
                    (0..dim).map(|d| {
                        seen.iter().zip(&scores).map(|(&j, s)| s / total * v[j][at + d]).sum::<f64>()
                    }),
                );
            }
            out.push(self.linear(&part("o_proj"), &row));
        }
        out
    }

    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let config = &self.folder.config;
        let embedding = &self.tensors["model.embed_tokens.weight"];
        let row = |&t: &u32| embedding[t as usize * config.hidden_size..][..config.hidden_size].to_vec();
        let mut x: Vec<Vec<f64>> = tokens.iter().map(row).collect();
        for block in 0..config.blocks {
            let part = |name: &str| format!("model.layers.{block}.{name}");
            let normed: Vec<_> = x.iter().map(|x| self.norm(&part("input_layernorm"), x)).collect();
            for (x, y) in x.iter_mut().zip(self.attention(block, &normed)) {
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
            }
            for x in &mut x {
                let normed = self.norm(&part("post_attention_layernorm"), x);
                let gate = self.linear(&part("mlp.gate_proj"), &normed);
                let up = self.linear(&part("mlp.up_proj"), &normed);
                let gated: Vec<f64> = gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
                let y = self.linear(&part("mlp.down_proj"), &gated);
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
            }
        }
        let head = if config.head.tied { "model.embed_tokens" } else { "lm_head" };
        x.iter().map(|x| self.linear(head, &self.norm("model.norm", x))).collect()
    }
}

/// Radians per position after the scaling of a long context.
fn stretched(plain: f64, scaling: &RopeScaling) -> f64 {
    match *scaling {
        RopeScaling::None => plain,
        RopeScaling::Linear { factor } => plain / factor,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings,
        } => {
            // Turns within the original context: many are kept, few are stretched, between them it goes linearly.
            let turns = original_max_position_embeddings as f64 * plain / std::f64::consts::TAU;
            let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            plain * kept + plain / factor * (1.0 - kept)
        }
        _ => panic!("{scaling:?} is compared with golden results"),
    }
}

/// Distance of two rows relative to the second's length.
fn distance<A: Copy + Into<f64>, B: Copy + Into<f64>>(a: &[A], b: &[B]) -> f64 {
    assert_eq!(a.len(), b.len());
    let square = |v: f64| v * v;
    let apart: f64 = a.iter().zip(b).map(|(a, b)| square((*a).into() - (*b).into())).sum();
    let length: f64 = b.iter().map(|b| square((*b).into())).sum();
    (apart / length).sqrt()
}

/// Our logits of two texts in one batch are the definition's at every position.
fn agrees_with_definition(shape: &Synthetic) {
    let model = model(shape);
    let texts = [text(&model.folder, 1), text(&model.folder, 2)];
    let definition = Definition::new(&model.folder);
    for (text, got) in texts.iter().zip(ours(&model.folder, &texts)) {
        for (position, (got, want)) in got.iter().zip(definition.logits(text)).enumerate() {
            let distance = distance(got, &want);
            assert!(distance < TOLERANCE, "{shape:?}, position {position}: {distance:e}");
        }
    }
}

/// Our logits are candle-transformers' at every position, and the definition's too.
fn agrees_with_candle(shape: &Synthetic) {
    let model = model(shape);
    let texts = [text(&model.folder, 1), text(&model.folder, 2)];
    let mut oracle = theirs(&model.folder);
    for (text, got) in texts.iter().zip(ours(&model.folder, &texts)) {
        for (position, got) in got.iter().enumerate() {
            let distance = distance(got, &oracle(&text[..=position]));
            assert!(distance < TOLERANCE, "{shape:?}, position {position}: {distance:e}");
        }
    }
    agrees_with_definition(shape);
}

#[test]
fn llama_with_the_output_head_tied_or_not_and_heads_grouped_or_not() {
    for (tied, kv_heads) in [(true, 2), (false, 2), (true, 4), (false, 1)] {
        agrees_with_candle(&Synthetic { kv_heads, tied, ..Synthetic::default() });
    }
}

#[test]
fn llama_3_with_stretched_frequencies() {
    agrees_with_candle(&Synthetic::tiny(&Llama));
}

#[test]
fn llama_stored_in_half_precision_and_in_shards() {
    for dtype in [DType::BF16, DType::F16] {
        agrees_with_candle(&Synthetic { dtype, sharded: Some(3), ..Synthetic::default() });
    }
}

#[test]
fn mistral_with_a_window_shorter_than_the_text_and_without_one() {
    let base = Synthetic::tiny(&Mistral);
    for (sliding_window, head_dim) in [(Some(LENGTH / 3), 16), (Some(LENGTH / 3), 24), (None, 16)] {
        let shape = Synthetic { head_dim, ..base.clone() };
        agrees_with_candle(&shape.with("sliding_window", json!(sliding_window)));
    }
}

#[test]
fn qwen2_with_biases() {
    for tied in [true, false] {
        agrees_with_candle(&Synthetic { tied, ..Synthetic::tiny(&Qwen2) });
    }
}

#[test]
fn qwen3_with_normed_heads_of_a_width_of_their_own() {
    for (tied, biases) in [(true, false), (false, true)] {
        let shape = Synthetic { tied, ..Synthetic::tiny(&Qwen3) }.with("attention_bias", json!(biases));
        assert_ne!(shape.heads * shape.head_dim, shape.hidden);
        agrees_with_candle(&shape);
    }
}

// candle-transformers has none of the following.

#[test]
fn llama_with_linear_scaling() {
    let scaling = json!({ "type": "linear", "factor": 4.0 });
    agrees_with_definition(&Synthetic::default().with("rope_scaling", scaling));
}

#[test]
fn llama_with_biases_and_heads_of_a_width_of_their_own() {
    let shape = Synthetic { head_dim: 24, ..Synthetic::default() };
    agrees_with_definition(&shape.with("attention_bias", json!(true)).with("mlp_bias", json!(true)));
}

#[test]
fn qwen_with_windows() {
    for architecture in [&Qwen2 as &'static dyn Architecture, &Qwen3] {
        let shape = Synthetic::tiny(architecture).with("use_sliding_window", json!(true));
        let shape = shape.with("max_window_layers", json!(1));
        agrees_with_definition(&shape.with("sliding_window", json!(LENGTH / 3)));
    }
}

#[test]
fn a_real_model_gives_candles_logits() {
    let Some(dir) = common::skip::smollm2() else { return };
    let folder = ModelFolder::open(&dir).unwrap();
    let tokenizer = load_tokenizer(&folder.tokenizer).unwrap();
    let prompt = "The gardener cut the hedge back hard in early spring, because";
    let tokens = tokenizer.encode(prompt, true).unwrap().get_ids().to_vec();
    assert!(tokens.len() > 8);
    let mut oracle = theirs(&folder);
    let logits = ours(&folder, std::slice::from_ref(&tokens)).remove(0);
    for (position, got) in logits.iter().enumerate() {
        let want = oracle(&tokens[..=position]);
        let distance = distance(got, &want);
        assert!(distance < 5.0 * TOLERANCE, "position {position}: {distance:e}");
        let top = |row: &[f32]| (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]));
        assert_eq!(top(got), top(&want));
    }
}
