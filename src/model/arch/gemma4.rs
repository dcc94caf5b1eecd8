//! Gemma 4, the text part: Gemma 3 with plain norms, a norm on values, wider heads in full blocks, whose values may be the
//! keys, and a number that every block ends with. Some models have a mixture of experts beside the MLP. In others the last
//! blocks take keys and values of earlier ones, and every block has an input of its own.

use serde_json::{Value, json};

use super::attention::{AttentionSettings, QueryKeyNorms, ValueHeads};
use super::common::{Common, Defaults, window_or};
use super::gemma2::{SECOND, softcap};
use super::gemma4_block::{BlockParts, Carried, FULL, Gemma4Block, LendingRole, SLIDING};
use super::mixture::{ExpertLayers, MixtureNames, MixtureSettings};
use super::mlp::MlpSettings;
use crate::error::Result;
use crate::kernels::attention::AttentionShape;
use crate::model::architecture::Architecture;
use crate::model::config::{BlockInputsDef, ModelConfig, NormKind};
use crate::model::json::JsonFile;
use crate::model::rope::{Rope, RopeId, RopeScaling, RotaryEmbedding};

/// `Gemma4ForCausalLM`
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gemma4;

const DEFAULTS: Defaults = Defaults {
    norm: NormKind::Rms,
    heads: Some(8),
    kv_heads: Some(4),
    head_dim: Some(256),
    intermediate: Some(9216),
    vocabulary: Some(262_144),
    max_positions: 131_072,
    own_ropes: true,
    ..SECOND
};

const EXPERTS: MixtureNames = MixtureNames {
    router: "router.proj.weight",
    router_bias: None,
    experts: "experts",
    layers: ExpertLayers::Halves { gate_up: "gate_up_proj", down: "down_proj" },
};

impl Architecture for Gemma4 {
    fn name(&self) -> &'static str {
        "Gemma4ForCausalLM"
    }

    fn model_type(&self) -> &'static str {
        "gemma4_text"
    }

    fn read(&self, json: &JsonFile<'_>) -> Result<ModelConfig> {
        // Pictures alone see what is behind them: texts are read as ever.
        if let Some(value) = json.get("use_bidirectional_attention").filter(|value| *value != "vision") {
            return Err(json.unexpected("use_bidirectional_attention", value, "only null or vision"));
        }
        let mut common = Common::read(json, DEFAULTS)?;
        let slides = kinds(&mut common)?;
        let heads = KindsOfHeads::read(&common)?;
        read_ropes(&mut common, heads.full.shape.dim)?;
        let width = window_or(json, 512)?;
        let mixture = mixture(&common)?;
        let shared = SharedParts::read(&common, &slides)?;
        let carried = shared.carried(&slides, &heads);
        let mut config = common.model(self.name(), |block, layout| {
            let attention = if slides[block] { heads.sliding.with_window(width) } else { heads.full };
            let parts = BlockParts {
                attention,
                mlp: shared.mlp(common.mlp(), block),
                mixture,
                kind: if slides[block] { SLIDING } else { FULL },
                role: shared.roles[block],
                input: shared.input,
                before: carried[block],
                after: carried[block + 1],
            };
            Gemma4Block::new(layout, &parts)
        })?;
        if shared.hands_on() {
            config.needs_all_blocks =
                Some("its blocks hand keys and values, or inputs of later blocks, on to others");
        }
        config.embedding.block_inputs = shared.inputs(&common)?;
        config.embedding.factor = (common.hidden as f64).sqrt();
        config.head.softcap = softcap(json, "final_logit_softcapping", None)?;
        Ok(config)
    }

    fn example(&self) -> Value {
        json!({
            "tie_word_embeddings": true, "sliding_window": 16, "final_logit_softcapping": 6.0,
            "global_head_dim": 32, "num_global_key_value_heads": 1, "attention_k_eq_v": true,
            "hidden_size_per_layer_input": 0, "enable_moe_block": true, "num_experts": 4, "top_k_experts": 2,
            "moe_intermediate_size": 64,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "rope_parameters": {
                "full_attention": { "rope_type": "proportional", "partial_rotary_factor": 0.25, "rope_theta": 1000.0 },
                "sliding_attention": { "rope_type": "default", "rope_theta": 100.0 },
            },
        })
    }
}

/// Which blocks have a window. As with the class, the last one is a full block, whatever the list says.
fn kinds(common: &mut Common<'_>) -> Result<Vec<bool>> {
    let listed = common.sliding_types()?;
    if listed.as_ref().and_then(|slides| slides.last()) == Some(&true) {
        common.warnings.push(common.json.note(
            "the last entry of `layer_types` is `sliding_attention`: the last block is a full one, as with transformers",
        ));
    }
    let every_sixth = || (1..=common.blocks).map(|number| !number.is_multiple_of(6)).collect();
    let mut slides: Vec<bool> = listed.unwrap_or_else(every_sixth);
    if let Some(last) = slides.last_mut() {
        *last = false;
    }
    Ok(slides)
}

/// What blocks have of each other, and what comes to them beside the residual.
struct SharedParts {
    roles: Vec<LendingRole>,
    /// Features of the input that every block has of its own; 0 is none.
    input: usize,
    /// Whether the MLP of a block that borrows is twice as wide.
    double_wide: bool,
}

impl SharedParts {
    fn read(common: &Common<'_>, slides: &[bool]) -> Result<Self> {
        const KEY: &str = "num_kv_shared_layers";
        let json = common.json;
        let borrowers = json.count_or(KEY, 0)?;
        let first = slides.len().saturating_sub(borrowers);
        let mut roles = vec![LendingRole::Own; slides.len()];
        for (block, role) in roles.iter_mut().enumerate().skip(first) {
            *role = LendingRole::Borrows;
            if !slides[..first].contains(&slides[block]) {
                return Err(json.wrong(&format!(
                    "`{KEY}` is {borrowers}: block {block} has no block of its kind before these to take keys and values from"
                )));
            }
        }
        for kind in [true, false].into_iter().filter(|kind| slides[first..].contains(kind)) {
            if let Some(lender) = slides[..first].iter().rposition(|slides| *slides == kind) {
                roles[lender] = LendingRole::Lends;
            }
        }
        let input = json.count_or("hidden_size_per_layer_input", 256)?;
        Ok(Self { roles, input, double_wide: json.bool_or("use_double_wide_mlp", false)? })
    }

    fn hands_on(&self) -> bool {
        self.input > 0 || self.roles.contains(&LendingRole::Borrows)
    }

    fn mlp(&self, mlp: MlpSettings, block: usize) -> MlpSettings {
        let times = if self.double_wide && self.roles[block] == LendingRole::Borrows { 2 } else { 1 };
        MlpSettings { intermediate: times * mlp.intermediate, ..mlp }
    }

    /// What rows of hidden states have behind the residual before every block, and behind the last: nothing.
    fn carried(&self, slides: &[bool], heads: &KindsOfHeads) -> Vec<Carried> {
        let mut now = Carried { lent: [0; 2], inputs: slides.len() * self.input };
        let mut all = vec![now];
        for (role, slides) in self.roles.iter().zip(slides) {
            now.inputs -= self.input;
            if *role == LendingRole::Lends {
                let (kind, heads) = if *slides { (SLIDING, heads.sliding) } else { (FULL, heads.full) };
                now.lent[kind] = heads.shape.key * heads.shape.dim;
            }
            all.push(now);
        }
        if let Some(last) = all.last_mut() {
            *last = Carried::default();
        }
        all
    }

    /// Where the inputs of blocks come from.
    fn inputs(&self, common: &Common<'_>) -> Result<Option<BlockInputsDef>> {
        if self.input == 0 {
            return Ok(None);
        }
        Ok(Some(BlockInputsDef {
            table: "model.embed_tokens_per_layer.weight".to_owned(),
            rows: common.json.positive_or("vocab_size_per_layer_input", 262_144)?,
            projection: "model.per_layer_model_projection.weight".to_owned(),
            norm: "model.per_layer_projection_norm.weight".to_owned(),
            norm_eps: common.eps,
            width: self.input,
        }))
    }
}

/// Attention of both kinds of blocks.
struct KindsOfHeads {
    sliding: AttentionSettings,
    full: AttentionSettings,
}

impl KindsOfHeads {
    fn read(common: &Common<'_>) -> Result<Self> {
        let json = common.json;
        let mut plain = common.attention().with_bias(json.bool_or("attention_bias", false)?);
        plain.shape.scale = Some(1.0);
        plain.values = ValueHeads::Normed;
        let of = |shape: AttentionShape, rope| AttentionSettings {
            shape,
            query_key_norms: Some(QueryKeyNorms::Widths([shape.dim; 2])),
            rope: Some(rope),
            ..plain
        };
        let dim = json.positive_or("global_head_dim", 512)?;
        let keys_are_values = json.bool_or("attention_k_eq_v", false)?;
        let key = if keys_are_values {
            json.positive_or("num_global_key_value_heads", plain.shape.key)?
        } else {
            plain.shape.key
        };
        if !plain.shape.query.is_multiple_of(key) || !dim.is_multiple_of(2) {
            return Err(json.wrong(&format!(
                "`num_attention_heads` is {}, `num_global_key_value_heads` {key} and `global_head_dim` {dim}: the first has \
                 to be a multiple of the second, and the last even",
                plain.shape.query
            )));
        }
        let values = if keys_are_values { ValueHeads::NormedKeys } else { ValueHeads::Normed };
        let full = of(AttentionShape { key, dim, ..plain.shape }, RopeId::ONLY);
        Ok(Self { sliding: of(plain.shape, RopeId::SECOND), full: AttentionSettings { values, ..full } })
    }
}

/// The rotary embedding of full blocks and that of blocks with a window.
fn read_ropes(common: &mut Common<'_>, full_dim: usize) -> Result<()> {
    const KEY: &str = "rope_parameters";
    let (json, reader) = (common.json, common.rotary_reader()?);
    if json.get(KEY).is_none() {
        let full = Rope { theta: 1e6, scaling: RopeScaling::Proportional { part: 0.25, factor: 1.0 } };
        let sliding = Rope { theta: 10_000.0, scaling: RopeScaling::None };
        common.ropes =
            vec![RotaryEmbedding { rope: full, dim: full_dim, neighbours: false }, reader.of(sliding)];
        return Ok(());
    }
    let mut read = |kind: &str, dim: usize| -> Result<RotaryEmbedding> {
        let mut settings = reader.settings;
        (settings.pairs, settings.proportional) = (dim / 2, true);
        let rope = settings.read_kind(json, kind, &mut common.warnings)?.ok_or_else(|| {
            json.wrong(&format!(
                "`{KEY}` is one for all blocks: accepted is an object for each kind of block"
            ))
        })?;
        let settings = json.object(KEY)?.map(|both| both.object(kind)).transpose()?.flatten();
        let part = settings.map_or(Ok(1.0), |settings| {
            settings.number_or("partial_rotary_factor", 1.0, "a number above 0", |v| v > 0.0)
        })?;
        if part < 1.0 && !matches!(rope.scaling, RopeScaling::Proportional { .. }) {
            return Err(json.wrong(&format!(
                "`{KEY}.{kind}.partial_rotary_factor` is {part}: accepted is only 1 unless `rope_type` is proportional"
            )));
        }
        Ok(RotaryEmbedding { rope, dim, neighbours: false })
    };
    let full = read("full_attention", full_dim)?;
    let sliding = read("sliding_attention", 2 * reader.settings.pairs)?;
    common.ropes = vec![full, sliding];
    Ok(())
}

/// The mixture beside the MLP, where there is one.
fn mixture(common: &Common<'_>) -> Result<Option<MixtureSettings>> {
    let json = common.json;
    if !json.bool_or("enable_moe_block", false)? {
        return Ok(None);
    }
    let MlpSettings { hidden, activation, .. } = common.mlp();
    let (experts, chosen) = (json.positive("num_experts")?, json.positive("top_k_experts")?);
    if chosen > experts {
        return Err(json.wrong(&format!(
            "`top_k_experts` is {chosen} and `num_experts` is {experts}: a token cannot go through more experts than there are"
        )));
    }
    Ok(Some(MixtureSettings {
        names: &EXPERTS,
        hidden,
        intermediate: json.positive("moe_intermediate_size")?,
        experts,
        chosen,
        renormalise: true,
        activation,
        bias: false,
        clamp: None,
        expert_scale: Some("router.per_expert_scale"),
        shared: None,
    }))
}
