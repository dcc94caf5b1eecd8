//! OLMo 3: OLMo 2 with a window in three blocks of four, and a stretched rotary embedding in the others.

use serde_json::{Value, json};

use super::attention::AttentionSettings;
use super::common::{Common, Defaults, window_width};
use super::olmo2::{PostNormBlock, attention};
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;
use crate::model::rope::{Rope, RopeId, RopeScaling};

/// `Olmo3ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Olmo3;

impl Architecture for Olmo3 {
    fn name(&self) -> &'static str {
        "Olmo3ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "olmo3"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults =
            Defaults { norm_eps: 1e-5, rope_theta: 500_000.0, own_ropes: true, ..Defaults::default() };
        let mut common = Common::read(json, defaults)?;
        read_ropes(&mut common)?;
        let slides: Vec<bool> = match common.sliding_types()? {
            Some(types) => types,
            None => (1..=common.blocks).map(|number| !number.is_multiple_of(4)).collect(),
        };
        let width = window_width(json)?;
        let attention = attention(&common)?;
        common.model(self.name(), |block, layout| {
            let rope = if slides[block] { RopeId::SECOND } else { RopeId::ONLY };
            let attention = AttentionSettings { rope: Some(rope), ..attention };
            let window = width.filter(|_| slides[block]);
            PostNormBlock::new(layout, attention.with_window(window), common.mlp())
        })
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": false, "sliding_window": 16,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
            "rope_scaling": {
                "rope_type": "yarn", "factor": 8.0, "beta_fast": 32.0, "beta_slow": 1.0,
                "original_max_position_embeddings": 32, "attention_factor": 1.2,
            },
        })
    }
}

/// The rotary embedding of full blocks, which alone may be stretched, and that of blocks with a window.
fn read_ropes(common: &mut Common<'_>) -> Result<()> {
    let (json, reader) = (common.json, common.rotary_reader()?);
    let full = match reader.settings.read_kind(json, "full_attention", &mut common.warnings)? {
        Some(rope) => rope,
        None => reader.settings.read(json, &mut common.warnings)?,
    };
    let sliding = match reader.settings.read_kind(json, "sliding_attention", &mut common.warnings)? {
        Some(rope) => rope,
        None => Rope { scaling: RopeScaling::None, theta: full.theta },
    };
    common.ropes = vec![reader.of(full), reader.of(sliding)];
    Ok(())
}
