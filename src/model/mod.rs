//! From a Hugging Face folder to tensors: configuration, weights, tokenizer, prompts.

pub mod batch;
pub mod block;
pub mod config;
pub(crate) mod convert;
pub mod folder;
pub mod generate;
pub mod head;
mod header;
mod json;
pub mod ops;
mod prompt;
pub mod synthetic;
mod template;
mod tokenizer;
pub mod weights;

pub use batch::{Batch, BlockCache, Sequence};
pub use block::{Block, NoTap, Site, Tap};
pub use config::{Architecture, ModelConfig, Rope, RopeScaling};
pub use folder::{ModelFolder, module_name, weight_name};
pub use generate::{Generator, Said};
pub use head::Head;
pub use ops::{RopeTable, Rows};
pub use prompt::PromptFormat;
pub use synthetic::Synthetic;
pub use tokenizer::load_tokenizer;
pub use weights::{TensorInfo, Weights};
