//! From a Hugging Face folder to tensors: configuration, weights, tokenizer, prompts.

pub mod config;
mod convert;
pub mod folder;
mod header;
mod json;
pub mod synthetic;
pub mod tokenizer;
pub mod weights;

pub use config::{Architecture, ModelConfig, Rope, RopeScaling};
pub use folder::{ModelFolder, module_name, weight_name};
pub use synthetic::Synthetic;
pub use tokenizer::{PromptFormat, load_tokenizer};
pub use weights::{TensorInfo, Weights};
