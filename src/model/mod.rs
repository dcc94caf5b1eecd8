//! From a Hugging Face folder to tensors: configuration, weights, tokenizer, prompts.

pub mod arch;
pub mod architecture;
pub mod batch;
pub mod block;
pub mod cache;
pub mod config;
pub(crate) mod convert;
pub mod folder;
mod forward;
pub mod generate;
pub mod head;
mod header;
mod json;
pub mod layout;
pub mod ops;
mod prompt;
mod reconcile;
mod rope;
#[cfg(test)]
#[path = "../../tests/common/synthetic.rs"]
pub(crate) mod synthetic;
mod template;
mod tokenizer;
pub mod weights;

pub use arch::{ARCHITECTURES, read_config};
pub use architecture::Architecture;
pub use batch::{Batch, Sequence};
pub use block::Block;
pub use cache::BlockCache;
pub use config::ModelConfig;
pub use folder::ModelFolder;
pub use forward::{ActivationObserver, Linear};
pub use generate::{Generation, Generator};
pub use head::LmHead;
pub use header::TensorInfo;
pub use layout::{BlockLayout, InputSite, ModuleDef, ModuleId};
pub use ops::Activations;
pub use prompt::PromptFormat;
pub use rope::{Rope, RopeScaling, RopeTables};
#[cfg(test)]
pub(crate) use synthetic::Synthetic;
pub use tokenizer::load_tokenizer;
pub use weights::Weights;

#[cfg(test)]
mod tests;
