//! Makes the built-in study: its tokenizer and data, and the model, trained from nothing.
//!
//! `cargo run --release --example train_demo -- data` writes tokenizer, configuration and data into `assets/demo`;
//! `… -- train` (with `RAYON_NUM_THREADS=1`, see [`training`]) trains the model and goes on from the last checkpoint;
//! `… -- baseline` measures a 5-gram model on the same stories; `… -- finish` writes the trained weights into
//! `assets/demo`, with features of different scale (see [`scale`]).

mod adamw;
mod data;
mod evaluate;
mod muon;
mod network;
mod ngram;
mod ops;
mod scale;
#[cfg(test)]
mod tests;
mod tokenizer;
mod training;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use candle_core::Device;
use clap::{Parser, Subcommand};
use secateur::model::{load_tokenizer, read_config};
use secateur::{Error, Result};

use network::Network;
use scale::scale_features;
use training::Training;

/// Makes the built-in study and its model.
#[derive(Debug, Parser)]
struct Args {
    /// Folder of the built-in study.
    #[arg(long, default_value = "assets/demo", global = true)]
    assets: PathBuf,
    /// Folder of checkpoints.
    #[arg(long, default_value = "target/train-demo", global = true)]
    out: PathBuf,
    /// Seed of weights and texts.
    #[arg(long, default_value_t = 1, global = true)]
    seed: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write tokenizer, configuration and data.
    Data,
    /// Train the model, from the last checkpoint where there is one.
    Train(TrainArgs),
    /// Measure a 5-gram model on held-out stories.
    Baseline {
        /// Training stories that are counted.
        #[arg(long, default_value_t = 30_000)]
        stories: usize,
    },
    /// Write the weights of the last checkpoint into the study's folder, with features of different scale.
    Finish,
}

/// How to train.
#[derive(Debug, Clone, clap::Args)]
pub struct TrainArgs {
    /// Steps in all.
    #[arg(long, default_value_t = 5000)]
    steps: u64,
    /// Tokens of a step.
    #[arg(long, default_value_t = 4096)]
    batch: usize,
    /// Tokens that one thread takes at a time.
    #[arg(long, default_value_t = 512)]
    part: usize,
    /// Highest learning rate of the embedding and the norms.
    #[arg(long, default_value_t = 3e-3)]
    rate: f32,
    /// Highest learning rate of the matrices of the blocks.
    #[arg(long, default_value_t = 2e-2)]
    matrix_rate: f32,
    /// Steps until they are reached.
    #[arg(long, default_value_t = 100)]
    warm_up: u64,
    /// Share of the steps, the last ones, in which they fall to nothing.
    #[arg(long, default_value_t = 0.5)]
    fall: f32,
    /// Weight decay.
    #[arg(long, default_value_t = 0.05)]
    decay: f32,
    /// Longest gradient.
    #[arg(long, default_value_t = 1.0)]
    clip: f32,
    /// Threads; 0 is one a core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Steps between checkpoints, each with held-out scores.
    #[arg(long, default_value_t = 250)]
    every: u64,
    /// Held-out questions of a kind.
    #[arg(long, default_value_t = 20)]
    questions: usize,
    /// Stop after this many steps, as an interruption would.
    #[arg(long)]
    stop: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let model = args.assets.join("model");
    match &args.command {
        Command::Data => {
            tokenizer::write(&tokenizer::train(args.seed)?, &model)?;
            data::write_study(&args.assets.join("data"))
        }
        Command::Train(how) => {
            // Asked here, since rayon's own default is `RAYON_NUM_THREADS`, which is for candle.
            let cores = || std::thread::available_parallelism().map_or(1, usize::from);
            let threads = if how.threads == 0 { cores() } else { how.threads };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            let pool = pool.map_err(|e| Error::failure(format!("cannot start threads: {e}")))?;
            pool.install(|| {
                Training::open(&model, &args.out, args.seed, how.clone())?.run(&mut std::io::stderr())
            })
        }
        Command::Baseline { stories } => {
            let tokenizer = load_tokenizer(&model.join("tokenizer.json"))?;
            let config = read_config(&model.join("config.json"))?;
            let ngrams = ngram::NGrams::count(&tokenizer, *stories, args.seed)?;
            let text = secateur::data::load_text(
                &args.assets.join("data/held_out.txt").display().to_string(),
                &secateur::data::FieldNames::default(),
                &mut secateur::data::NoFetch,
            )?;
            let windows = secateur::data::evaluation_windows(&text, &tokenizer, evaluate::WINDOW, None)?;
            println!(
                "5-gram perplexity {:.3} on {} windows of {} tokens ({} pieces)",
                ngrams.perplexity(&windows),
                windows.len(),
                evaluate::WINDOW,
                config.vocabulary
            );
            Ok(())
        }
        Command::Finish => {
            let from = args.out.join("model/model.safetensors");
            let tensors = candle_core::safetensors::load(&from, &Device::Cpu)?;
            let network = Network::load(read_config(&model.join("config.json"))?, &tensors)?;
            scale_features(&network.weights, network.config.blocks, args.seed)?;
            network.save_bf16(&model.join("model.safetensors"))
        }
    }
}
