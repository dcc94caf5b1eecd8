//! The training itself: steps, checkpoints, held-out scores.
//!
//! Every thread has its own part of a batch. candle adds larger tensors on threads of its own, which spin while they wait and
//! so take the cores from the others; `RAYON_NUM_THREADS=1` in the environment leaves candle one. That made a step 2.7
//! times as fast on two cores.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use candle_core::{Device, Tensor, Var};
use rayon::prelude::*;
use secateur::model::{load_tokenizer, read_config};
use secateur::{Error, Result};
use serde_json::json;
use tokenizers::Tokenizer;

use super::TrainArgs;
use super::adamw::{AdamW, Gradients};
use super::data;
use super::evaluate::evaluate;
use super::muon::Muon;
use super::network::Network;
use super::ops::read;

/// Steps between two words on progress.
const WORD: u64 = 20;

/// A run, new or taken up again.
pub struct Training {
    how: TrainArgs,
    seed: u64,
    out: PathBuf,
    tokenizer: Tokenizer,
    network: Network,
    /// Moves the embedding and the norms.
    optimiser: AdamW,
    /// Moves the matrices of the blocks.
    muon: Muon,
}

impl Training {
    /// Takes up the checkpoint in `out`, or begins with random weights. `model` has tokenizer and configuration.
    pub fn open(model: &Path, out: &Path, seed: u64, how: TrainArgs) -> Result<Self> {
        let tokenizer = load_tokenizer(&model.join("tokenizer.json"))?;
        let config = read_config(&model.join("config.json"))?;
        let ready = out.join("model");
        fs::create_dir_all(&ready).map_err(|e| Error::io("cannot make", &ready, e))?;
        for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            let from = model.join(name);
            fs::copy(&from, ready.join(name)).map_err(|e| Error::io("cannot copy", &from, e))?;
        }
        let checkpoint = out.join("checkpoint.safetensors");
        let (network, optimiser, muon) = if checkpoint.exists() {
            let tensors = candle_core::safetensors::load(&checkpoint, &Device::Cpu)?;
            let steps = tensors.get("steps").ok_or_else(|| Error::mistake("the checkpoint lacks `steps`"))?;
            let steps = steps.to_vec1::<i64>()?.first().copied().unwrap_or(0) as u64;
            let network = Network::load(config, &tensors)?;
            let others = network.weights.iter().filter(|(name, var)| !Muon::takes(name, var));
            let optimiser = AdamW::restore(how.decay, steps, others.map(|(name, _)| name), &tensors)?;
            let muon = Muon::restore(how.decay, &network.weights, &tensors)?;
            (network, optimiser, muon)
        } else {
            (Network::random(config, seed)?, AdamW::new(how.decay), Muon::new(how.decay))
        };
        Ok(Self { how, seed, out: out.to_path_buf(), tokenizer, network, optimiser, muon })
    }

    /// Trains until the last step, and tells how it goes.
    pub fn run(&mut self, log: &mut dyn Write) -> Result<()> {
        let end = self.how.stop.unwrap_or(self.how.steps).min(self.how.steps);
        say(
            log,
            &format!("{} parameters, step {} of {}", self.network.parameters(), self.optimiser.steps, end),
        );
        if candle_core::utils::get_num_threads() > 1 {
            say(log, "candle's threads are in the way of the trainer's: RAYON_NUM_THREADS=1 makes it faster");
        }
        let (mut started, mut tokens, mut loss) = (Instant::now(), 0, 0.0);
        while self.optimiser.steps < end {
            let (step_loss, step_tokens, norm) = self.step()?;
            tokens += step_tokens;
            loss += step_loss;
            let step = self.optimiser.steps;
            if step.is_multiple_of(WORD) || step == end {
                let seconds = started.elapsed().as_secs_f64();
                let speed = tokens as f64 / seconds;
                let left = (end - step) as f64 * self.how.batch as f64 / speed / 60.0;
                say(
                    log,
                    &format!(
                        "step {step}/{end}  loss {:.4}  norm {norm:.2}  rate {:.5}  {speed:.0} tokens/s  {left:.0} min left",
                        loss / tokens as f64,
                        self.how.rate * self.share(step),
                    ),
                );
                (started, tokens, loss) = (Instant::now(), 0, 0.0);
            }
            if step.is_multiple_of(self.how.every) || step == end {
                self.save()?;
                let folder = self.out.join("model");
                let scores = evaluate(&self.network, &self.tokenizer, &folder, self.how.questions, 7)?;
                say(log, &format!("held out after {step}: {scores}"));
                started = Instant::now();
            }
        }
        Ok(())
    }

    /// The share of the highest learning rate at a step: up along a line, level, down to nothing along a line.
    fn share(&self, step: u64) -> f32 {
        let (how, step) = (&self.how, step as f32);
        let up = (step + 1.0) / how.warm_up.max(1) as f32;
        let left = (how.steps as f32 - step) / (how.steps as f32 * how.fall).max(1.0);
        up.min(left).clamp(0.0, 1.0)
    }

    /// One step; the sum of losses, the tokens that they are of, and the gradient's norm.
    pub fn step(&mut self) -> Result<(f64, usize, f32)> {
        let step = self.optimiser.steps;
        let seen = step * self.how.batch as u64;
        let parts = self.how.batch.div_ceil(self.how.part);
        let results: Vec<(f64, usize, Gradients)> = (0..parts)
            .into_par_iter()
            .with_max_len(1)
            .map(|part| {
                let sequences =
                    data::part(&self.tokenizer, self.seed, (step, part as u64), self.how.part, seen)?;
                self.gradients(&sequences)
            })
            .collect::<Result<_>>()?;
        let (mut loss, mut tokens, mut sum) = (0.0, 0, Gradients::new());
        for (part_loss, part_tokens, gradients) in results {
            loss += part_loss;
            tokens += part_tokens;
            for (name, gradient) in gradients {
                match sum.entry(name) {
                    std::collections::btree_map::Entry::Vacant(entry) => {
                        entry.insert(gradient);
                    }
                    std::collections::btree_map::Entry::Occupied(mut entry) => {
                        entry.get_mut().iter_mut().zip(gradient).for_each(|(sum, g)| *sum += g);
                    }
                }
            }
        }
        let scale = 1.0 / tokens as f32;
        let squares: f64 = sum.values().flatten().map(|&g| f64::from(g * scale).powi(2)).sum();
        let norm = squares.sqrt() as f32;
        let scale = scale * (self.how.clip / norm.max(self.how.clip));
        let (weights, share) = (&self.network.weights, self.share(step));
        let others = |name: &str, var: &Var| !Muon::takes(name, var);
        self.optimiser.step(weights, &sum, others, self.how.rate * share, scale)?;
        self.muon.step(weights, &sum, self.how.matrix_rate * share, scale)?;
        Ok((loss, tokens, norm))
    }

    fn gradients(&self, sequences: &[Vec<u32>]) -> Result<(f64, usize, Gradients)> {
        let loss = self.network.loss(sequences)?;
        let store = loss.backward()?;
        let mut gradients = Gradients::new();
        for (name, var) in &self.network.weights {
            let gradient =
                store.get(var).ok_or_else(|| Error::failure(format!("no gradient of `{name}`")))?;
            gradients.insert(name.clone(), read(gradient, <[f32]>::to_vec)?);
        }
        let tokens = sequences.iter().map(|sequence| sequence.len() - 1).sum();
        Ok((f64::from(loss.to_scalar::<f32>()?), tokens, gradients))
    }

    /// Writes the checkpoint and the model, each in one move.
    fn save(&self) -> Result<()> {
        let mut tensors: HashMap<String, Tensor> = self.optimiser.tensors()?;
        tensors.extend(self.muon.tensors()?);
        for (name, var) in &self.network.weights {
            tensors.insert(name.clone(), var.as_tensor().clone());
        }
        let steps = vec![self.optimiser.steps as i64];
        tensors.insert("steps".into(), Tensor::from_vec(steps, 1, &Device::Cpu)?);
        let place =
            |from: &Path, to: &Path| fs::rename(from, to).map_err(|e| Error::io("cannot rename", from, e));
        let part = self.out.join("checkpoint.part");
        candle_core::safetensors::save(&tensors, &part)?;
        place(&part, &self.out.join("checkpoint.safetensors"))?;
        let part = self.out.join("model.part");
        self.network.save_bf16(&part)?;
        place(&part, &self.out.join("model/model.safetensors"))?;
        let how = json!({ "steps": self.optimiser.steps, "seed": self.seed, "arguments": format!("{:?}", self.how) });
        let path = self.out.join("run.json");
        fs::write(&path, how.to_string()).map_err(|e| Error::io("cannot write", &path, e))
    }
}

/// A line of progress. That nobody listens is no reason to stop.
fn say(log: &mut dyn Write, text: &str) {
    let _ = writeln!(log, "{text}").and_then(|()| log.flush());
}
