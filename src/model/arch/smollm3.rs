//! SmolLM 3: Llama without a rotary embedding in every fourth block.

use serde_json::{Value, json};

use super::common::{Common, Defaults, window_if_given};
use super::llama::LlamaBlock;
use super::mlp::MlpSettings;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// `SmolLM3ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub struct SmolLm3;

impl Architecture for SmolLm3 {
    fn name(&self) -> &'static str {
        "SmolLM3ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "smollm3"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        let defaults = Defaults {
            kv_heads: Some(4),
            max_positions: 32_768,
            rope_theta: 2e6,
            tied_head: true,
            ..Defaults::default()
        };
        let mut common = Common::read(json, defaults)?;
        let rotated = rotated_blocks(&mut common)?;
        let windows = windows(&mut common, &rotated)?;
        let bias = json.bool_or("attention_bias", false)?;
        let mlp = MlpSettings { bias: json.bool_or("mlp_bias", false)?, ..common.mlp() };
        common.model(self.name(), |block, layout| {
            let mut attention = common.attention().with_bias(bias);
            attention.rope = attention.rope.filter(|_| rotated[block]);
            LlamaBlock::new(layout, attention.with_window(windows[block]), mlp)
        })
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": true, "no_rope_layers": [1, 0, 1], "use_sliding_window": true, "sliding_window": 16,
        })
    }
}

/// Which blocks have a rotary embedding: those of a 1 in `no_rope_layers`, or without that key all but every fourth.
fn rotated_blocks(common: &mut Common<'_>) -> Result<Vec<bool>> {
    const LIST: &str = "no_rope_layers";
    const INTERVAL: &str = "no_rope_layer_interval";
    let (json, blocks) = (common.json, common.blocks);
    let every = json.positive_or(INTERVAL, 4)?;
    let by_interval: Vec<bool> = (1..=blocks).map(|number| !number.is_multiple_of(every)).collect();
    let Some(list) = json.get(LIST) else { return Ok(by_interval) };
    let flags = list.as_array().map(|flags| flags.iter().map(Value::as_u64).collect::<Vec<_>>());
    let rotated: Vec<bool> = match flags {
        Some(flags) if flags.len() == blocks && flags.iter().all(|f| matches!(f, Some(0 | 1))) => {
            flags.into_iter().map(|flag| flag == Some(1)).collect()
        }
        _ => {
            let accepted = format!("a list of {blocks} times 0 or 1, one for each block");
            return Err(json.unexpected(LIST, list, &accepted));
        }
    };
    if json.get(INTERVAL).is_some() && rotated != by_interval {
        common.warnings.push(json.note(&format!(
            "`{LIST}` and `{INTERVAL}`, {every}, contradict each other: the first is used, as transformers does"
        )));
    }
    Ok(rotated)
}

/// The windows, which only blocks without a rotary embedding have unless `layer_types` says otherwise.
fn windows(common: &mut Common<'_>, rotated: &[bool]) -> Result<Vec<Option<usize>>> {
    let json = common.json;
    let width = if json.bool_or("use_sliding_window", false)? { window_if_given(json)? } else { None };
    common.windows(width, |block| !rotated[block])
}
