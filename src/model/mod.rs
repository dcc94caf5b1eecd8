//! From a Hugging Face folder to tensors: configuration, weights, tokenizer, prompts.

pub mod arch;
pub(crate) mod architecture;
pub(crate) mod batch;
pub(crate) mod block;
pub(crate) mod cache;
pub(crate) mod config;
pub(crate) mod convert;
mod edits;
pub(crate) mod folder;
mod forward;
pub(crate) mod generate;
pub mod head;
mod header;
mod json;
pub(crate) mod layout;
pub(crate) mod narrow;
pub(crate) mod ops;
mod prompt;
mod reconcile;
mod removed;
pub(crate) mod renumber;
mod rope;
mod rope_settings;
#[cfg(test)]
#[path = "../../tests/common/synthetic.rs"]
pub(crate) mod synthetic;
mod template;
mod tokenizer;
pub mod weights;
mod widths;

pub use arch::{ARCHITECTURES, read_config};
pub use architecture::Architecture;
pub use batch::Batch;
pub(crate) use batch::{Sequence, Tree};
pub use block::{Block, ExpertWeights};
pub(crate) use cache::BlockCache;
pub use config::ModelConfig;
pub(crate) use config::NormKind;
pub use folder::ModelFolder;
pub(crate) use forward::WeightReader;
pub use forward::{ActivationObserver, ExpertObserver, Onlookers};
pub use generate::Generator;
pub use head::LmHead;
pub(crate) use header::TensorInfo;
pub(crate) use layout::{BlockLayout, ModuleDef, ModuleId};
pub use layout::{ExpertPlace, InputSite};
pub use ops::Activations;
pub use prompt::PromptFormat;
pub(crate) use prompt::{chat_template, empty_text_token, special_tokens};
pub use removed::RemovedParts;
pub use rope::{Rope, RopeScaling, RopeTables};
#[cfg(test)]
pub(crate) use synthetic::Synthetic;
pub use tokenizer::load_tokenizer;
pub use weights::Weights;
pub(crate) use widths::WidthPart;

#[cfg(test)]
mod tests;
