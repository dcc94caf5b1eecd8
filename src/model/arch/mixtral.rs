//! Mixtral: Mistral with eight MLPs in the place of one, of which every token goes through two.

use serde_json::{Value, json};

use super::common::{Common, Defaults, window_if_given};
use super::mixture::{ExpertLayers, MixtureBlock, MixtureDefaults, MixtureNames, MixtureSettings};
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `MixtralForCausalLM`
#[derive(Debug, Clone, Copy)]
pub struct Mixtral;

const NAMES: MixtureNames = MixtureNames {
    router: "block_sparse_moe.gate.weight",
    router_bias: None,
    experts: "block_sparse_moe.experts",
    layers: ExpertLayers::Separate(["w1", "w3", "w2"]),
};

impl Architecture for Mixtral {
    fn name(&self) -> &'static str {
        "MixtralForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "mixtral"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults {
            kv_heads: Some(8),
            max_positions: 131_072,
            norm_eps: 1e-5,
            rope_theta: 1e6,
            ..Defaults::default()
        };
        let common = Common::read(json, defaults)?;
        let attention = common.attention().with_window(window_if_given(json)?);
        let mixture = MixtureSettings::read(&common, MixtureDefaults { experts: 8, chosen: 2 })?;
        // The class always does it, and has no key that says so.
        let mixture = MixtureSettings { names: &NAMES, renormalise: true, ..mixture };
        common.model(self.name(), |_, layout| MixtureBlock::new(layout, attention, mixture))
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16,
        })
    }
}
