//! What an architecture has to say of itself.

use serde_json::Value;

use super::config::ModelConfig;
use super::json::JsonFile;
use crate::error::Result;

/// A model family. A new one is a file in `arch/` and a line in its registry.
pub trait Architecture: Send + Sync {
    /// The class in `transformers`, as the `architectures` list of `config.json` has it: `LlamaForCausalLM`.
    fn name(&self) -> &'static str;

    /// Other names for the same in that list. The decoder's own class, `LlamaModel`, need not be among them.
    fn other_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The `model_type` of `config.json`.
    fn model_type(&self) -> &'static str;

    /// Reads `config.json`. Absent keys mean what they mean to `transformers`; what would silently change the model's
    /// output is refused by name.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming file and key.
    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig>;

    /// What a small random model of the family has in its `config.json` beside the sizes, for tests: everything that is
    /// special about the family is in use.
    fn example(&self) -> Value;
}

impl std::fmt::Debug for dyn Architecture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for dyn Architecture {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}
