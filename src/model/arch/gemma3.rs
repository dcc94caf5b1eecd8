//! Gemma 3, the text part: Gemma 2 without caps, with norms on queries and keys, a full block behind every five with
//! a window, and another rotary embedding in each kind.

use serde_json::{Value, json};

use super::attention::{AttentionSettings, QueryKeyNorms};
use super::common::{Common, Defaults, only, window_width};
use super::gemma2::{NAMES, SECOND, attention, softcap};
use super::sandwich::SandwichBlock;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;
use crate::model::rope::RopeId;

/// `Gemma3ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemma3;

impl Architecture for Gemma3 {
    fn name(&self) -> &'static str {
        "Gemma3ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "gemma3_text"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        only(json, "use_bidirectional_attention", false)?;
        let mut common = Common::read(json, DEFAULTS)?;
        read_ropes(&mut common)?;
        let pattern = json.positive_or("_sliding_window_pattern", 6)?;
        let pattern = json.positive_or("sliding_window_pattern", pattern)?;
        let slides: Vec<bool> = match common.sliding_types()? {
            Some(types) => types,
            None => (1..=common.blocks).map(|number| !number.is_multiple_of(pattern)).collect(),
        };
        let width = window_width(json)?;
        let attention = attention(&common, None)?;
        let norms = QueryKeyNorms::Widths([attention.shape.dim; 2]);
        let mut config = common.model(self.name(), |block, layout| {
            let rope = if slides[block] { RopeId::SECOND } else { RopeId::ONLY };
            let attention = AttentionSettings { query_key_norms: Some(norms), rope: Some(rope), ..attention };
            let window = width.filter(|_| slides[block]);
            SandwichBlock::new(layout, NAMES, attention.with_window(window), common.mlp())
        })?;
        config.embedding.factor = (common.hidden as f64).sqrt();
        config.head.softcap = softcap(json, "final_logit_softcapping", None)?;
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": true, "sliding_window": 16, "query_pre_attn_scalar": 24,
            "rope_local_base_freq": 100.0, "rope_scaling": { "rope_type": "linear", "factor": 8.0 },
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        })
    }
}

/// The configuration inside a model that sees pictures leaves out whatever is the class' own.
const DEFAULTS: Defaults = Defaults {
    heads: Some(8),
    kv_heads: Some(4),
    vocabulary: Some(262_208),
    max_positions: 131_072,
    rope_theta: 1e6,
    own_ropes: true,
    ..SECOND
};

/// The rotary embedding of full blocks, which alone may be stretched, and that of blocks with a window.
fn read_ropes(common: &mut Common<'_>) -> Result<()> {
    let (json, reader) = (common.json, common.rotary_reader()?);
    let mut local = reader.settings;
    (local.theta_key, local.theta) = ("rope_local_base_freq", 10_000.0);
    let full = match reader.settings.read_kind(json, "full_attention", &mut common.warnings)? {
        Some(rope) => rope,
        None => reader.settings.read(json, &mut common.warnings)?,
    };
    let sliding = match local.read_kind(json, "sliding_attention", &mut common.warnings)? {
        Some(rope) => rope,
        None => local.plain(json)?,
    };
    common.ropes = vec![reader.of(full), reader.of(sliding)];
    Ok(())
}
