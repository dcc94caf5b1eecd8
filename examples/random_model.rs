//! Writes a random model as a Hugging Face folder, for benches and for trying things out:
//! `cargo run --release --example random_model -- --preset llama2-7b DIR`

#[path = "../tests/common/synthetic.rs"]
mod synthetic;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use secateur::model::ModelFolder;
use secateur::model::arch::{llama::Llama, mistral::Mistral, mixtral::Mixtral, qwen2::Qwen2, qwen3::Qwen3};
use synthetic::Synthetic;

#[derive(Parser)]
#[command(about = "Writes a random model as a Hugging Face folder")]
struct Arguments {
    /// Shape of the model; llama2-7b takes 13.5 GB of disk, mixtral 93 GB, or 24 GB with --blocks 8
    #[arg(long, value_enum, default_value = "tiny")]
    preset: Preset,
    /// Blocks, where not as many as the preset has
    #[arg(long)]
    blocks: Option<usize>,
    /// The same seed gives the same weights
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Folder to write
    dir: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Preset {
    #[value(name = "llama2-7b")]
    Llama2With7b,
    #[value(name = "smollm2-135m")]
    SmolLm2With135m,
    Mixtral,
    Tiny,
    TinyMistral,
    TinyMixtral,
    TinyQwen2,
    TinyQwen3,
    TinyLlama3,
}

impl Preset {
    fn model(self) -> Synthetic {
        match self {
            Self::Llama2With7b => Synthetic::llama2_7b(),
            Self::SmolLm2With135m => Synthetic::smollm2_135m(),
            Self::Mixtral => Synthetic::mixtral(),
            Self::Tiny => Synthetic::default(),
            Self::TinyMistral => Synthetic::tiny(&Mistral),
            Self::TinyMixtral => Synthetic::tiny(&Mixtral),
            Self::TinyQwen2 => Synthetic::tiny(&Qwen2),
            Self::TinyQwen3 => Synthetic::tiny(&Qwen3),
            Self::TinyLlama3 => Synthetic::tiny(&Llama),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let started = Instant::now();
    let preset = arguments.preset.model();
    let model =
        Synthetic { seed: arguments.seed, blocks: arguments.blocks.unwrap_or(preset.blocks), ..preset };
    match model.write(&arguments.dir).and_then(|()| ModelFolder::open(&arguments.dir)) {
        Ok(folder) => {
            let info = folder.info("random", std::iter::empty());
            println!(
                "{}: {}, {} parameters in {}, {:.1} s",
                arguments.dir.display(),
                info.architecture,
                info.parameters,
                info.dtype,
                started.elapsed().as_secs_f64()
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
