//! From a Hugging Face folder to tensors: configuration, weights, tokenizer, prompts.

pub mod config;
mod json;

pub use config::{Architecture, ModelConfig, Rope, RopeScaling};
