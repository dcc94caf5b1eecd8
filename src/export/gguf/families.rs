//! Families of models as llama.cpp knows them: what it calls their tensors, which of a model's settings it reads, and from
//! which keys.
//!
//! Every entry was compared with llama.cpp itself: the same logits for the same tokens. What a family of llama.cpp does
//! not read is refused by name, so that no file predicts something else than the model.

use super::container::KeyValue;
use super::settings::{
    Special, every_fourth_block_is_not_rotated, expert_keys, gemma_2_keys, gemma_3_keys, gemma_scale,
    granite_keys, long_rope_keys, parallel_key, qwen_expert_keys, renormalises, root_of_width, specials,
    strange_rope, window_key, windows_but,
};
use crate::model::{ModelConfig, ModelFolder};

/// A family of models as llama.cpp knows it.
#[derive(Debug, Clone, Copy)]
pub(super) struct GgufFamily {
    /// The class in `transformers`.
    pub class: &'static str,
    /// `general.architecture`.
    pub name: &'static str,
    /// Paths within a block with llama.cpp's names. Layers of an expert are without its number.
    names: &'static [&'static [(&'static str, &'static str)]],
    pub rows: RowRule,
    pub biases: Biases,
    /// Settings that it reads beside those of every model.
    reads: &'static [Special],
    /// Whether it computes with windows: else a file is good for texts that fit into one.
    pub has_windows: bool,
    /// Keys of its own.
    pub keys: fn(&ModelFolder) -> Vec<(&'static str, KeyValue)>,
    /// What else a model must be like.
    expects: fn(&ModelFolder) -> Option<String>,
}

/// In which order llama.cpp wants the rows of queries and keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RowRule {
    AsStored,
    /// Halves of every head in turns.
    Halves,
    /// All queries, all keys, all values, where the source has them by head.
    ByPart,
}

/// Which biases of linear layers llama.cpp reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Biases {
    None,
    /// Those of queries, keys and values.
    Inputs,
    All,
    /// All, and it wants all of them to be there.
    Always,
}

const ATTENTION: &[(&str, &str)] = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
];
const GATED: &[(&str, &str)] =
    &[("mlp.gate_proj", "ffn_gate"), ("mlp.up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")];
/// Gate and its fellow in one matrix.
const FUSED: &[(&str, &str)] = &[("mlp.gate_up_proj", "ffn_up"), ("mlp.down_proj", "ffn_down")];
const NORMS: &[(&str, &str)] = &[("input_layernorm", "attn_norm"), ("post_attention_layernorm", "ffn_norm")];
const QUERY_KEY_NORMS: &[(&str, &str)] =
    &[("self_attn.q_norm", "attn_q_norm"), ("self_attn.k_norm", "attn_k_norm")];
/// A norm before and one behind both parts of a block.
const SANDWICH: &[(&str, &str)] = &[
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];
const NORMS_BEHIND: &[(&str, &str)] =
    &[("post_attention_layernorm", "post_attention_norm"), ("post_feedforward_layernorm", "post_ffw_norm")];
const EXPERTS: &[(&str, &str)] = &[
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.experts.gate_proj", "ffn_gate_exps"),
    ("mlp.experts.up_proj", "ffn_up_exps"),
    ("mlp.experts.down_proj", "ffn_down_exps"),
];

const LLAMA: GgufFamily = GgufFamily {
    class: "LlamaForCausalLM",
    name: "llama",
    names: &[ATTENTION, GATED, NORMS],
    rows: RowRule::Halves,
    biases: Biases::All,
    reads: &[Special::Llama3Rope],
    has_windows: false,
    keys: |_| Vec::new(),
    expects: |_| None,
};

const QWEN_3: GgufFamily = GgufFamily {
    class: "Qwen3ForCausalLM",
    name: "qwen3",
    names: &[ATTENTION, GATED, NORMS, QUERY_KEY_NORMS],
    rows: RowRule::AsStored,
    biases: Biases::None,
    reads: &[Special::YarnRope],
    ..LLAMA
};

const OLMO_2: GgufFamily = GgufFamily {
    class: "Olmo2ForCausalLM",
    name: "olmo2",
    names: &[ATTENTION, GATED, NORMS_BEHIND, QUERY_KEY_NORMS],
    reads: &[],
    ..QWEN_3
};

const QWEN_3_MOE: GgufFamily = GgufFamily {
    class: "Qwen3MoeForCausalLM",
    name: "qwen3moe",
    names: &[ATTENTION, NORMS, QUERY_KEY_NORMS, EXPERTS],
    reads: &[],
    keys: qwen_expert_keys,
    expects: |folder| renormalises(folder, true),
    ..QWEN_3
};

const GEMMA: GgufFamily = GgufFamily {
    class: "GemmaForCausalLM",
    name: "gemma",
    names: &[ATTENTION, GATED, NORMS],
    reads: &[Special::EmbeddingFactor],
    expects: root_of_width,
    ..QWEN_3
};

/// Every family that is written, by its class.
const FAMILIES: &[GgufFamily] = &[
    LLAMA,
    GgufFamily { class: "MistralForCausalLM", ..LLAMA },
    GgufFamily { class: "Qwen2ForCausalLM", name: "qwen2", biases: Biases::Inputs, ..QWEN_3 },
    QWEN_3,
    GgufFamily {
        class: "GraniteForCausalLM",
        name: "granite",
        reads: &[Special::EmbeddingFactor, Special::HeadFactor, Special::ScoreScale],
        keys: granite_keys,
        ..LLAMA
    },
    GgufFamily {
        class: "SmolLM3ForCausalLM",
        name: "smollm3",
        biases: Biases::None,
        reads: &[],
        expects: every_fourth_block_is_not_rotated,
        ..LLAMA
    },
    OLMO_2,
    GgufFamily {
        class: "Olmo3ForCausalLM",
        reads: &[Special::SecondRope, Special::YarnRope],
        has_windows: true,
        keys: window_key,
        expects: |folder| windows_but(folder, 4),
        ..OLMO_2
    },
    GEMMA,
    GgufFamily {
        class: "Gemma2ForCausalLM",
        name: "gemma2",
        names: &[ATTENTION, GATED, SANDWICH],
        reads: &[Special::EmbeddingFactor, Special::HeadSoftcap, Special::ScoreScale, Special::ScoreSoftcap],
        has_windows: true,
        keys: gemma_2_keys,
        expects: |folder| {
            let capped = folder.config.attention(0).softcap.is_some() && folder.config.head.softcap.is_some();
            let no_cap = (!capped).then(|| "llama.cpp's gemma2 caps scores and logits".to_owned());
            no_cap
                .or_else(|| root_of_width(folder))
                .or_else(|| gemma_scale(folder, 46))
                .or_else(|| windows_but(folder, 2))
        },
        ..GEMMA
    },
    GgufFamily {
        class: "Gemma3ForCausalLM",
        name: "gemma3",
        names: &[ATTENTION, GATED, SANDWICH, QUERY_KEY_NORMS],
        reads: &[Special::EmbeddingFactor, Special::ScoreScale, Special::SecondRope],
        has_windows: true,
        keys: gemma_3_keys,
        expects: |folder| {
            root_of_width(folder).or_else(|| gemma_scale(folder, 62)).or_else(|| windows_but(folder, 6))
        },
        ..GEMMA
    },
    GgufFamily {
        class: "Phi3ForCausalLM",
        name: "phi3",
        names: &[&[("self_attn.qkv_proj", "attn_qkv"), ("self_attn.o_proj", "attn_output")], FUSED, NORMS],
        reads: &[Special::LongRope, Special::PartialRotary],
        keys: long_rope_keys,
        ..QWEN_3
    },
    GgufFamily {
        class: "PhiForCausalLM",
        name: "phi2",
        names: &[
            ATTENTION,
            &[
                ("self_attn.dense", "attn_output"),
                ("mlp.fc1", "ffn_up"),
                ("mlp.fc2", "ffn_down"),
                ("input_layernorm", "attn_norm"),
            ],
        ],
        biases: Biases::Always,
        reads: &[Special::HeadBias, Special::PartialRotary],
        expects: |folder| {
            let none = folder.config.head.bias.is_none();
            none.then(|| "llama.cpp's phi2 wants a head with a bias".to_owned())
        },
        ..QWEN_3
    },
    GgufFamily {
        class: "GPTNeoXForCausalLM",
        name: "gptneox",
        names: &[
            NORMS,
            &[
                ("attention.query_key_value", "attn_qkv"),
                ("attention.dense", "attn_output"),
                ("mlp.dense_h_to_4h", "ffn_up"),
                ("mlp.dense_4h_to_h", "ffn_down"),
            ],
        ],
        rows: RowRule::ByPart,
        biases: Biases::Always,
        reads: &[Special::PartialRotary],
        keys: |folder| parallel_key(folder, true),
        ..LLAMA
    },
    GgufFamily {
        class: "GPT2LMHeadModel",
        name: "gpt2",
        names: &[&[
            ("attn.c_attn", "attn_qkv"),
            ("attn.c_proj", "attn_output"),
            ("mlp.c_fc", "ffn_up"),
            ("mlp.c_proj", "ffn_down"),
            ("ln_1", "attn_norm"),
            ("ln_2", "ffn_norm"),
        ]],
        biases: Biases::Always,
        reads: &[Special::Positions],
        ..QWEN_3
    },
    GgufFamily {
        class: "StableLmForCausalLM",
        name: "stablelm",
        names: &[
            ATTENTION,
            GATED,
            NORMS,
            &[("self_attn.q_layernorm", "attn_q_norm"), ("self_attn.k_layernorm", "attn_k_norm")],
        ],
        biases: Biases::Inputs,
        reads: &[Special::PartialRotary],
        keys: |folder| parallel_key(folder, false),
        ..QWEN_3
    },
    GgufFamily {
        class: "Starcoder2ForCausalLM",
        name: "starcoder2",
        names: &[ATTENTION, NORMS, &[("mlp.c_fc", "ffn_up"), ("mlp.c_proj", "ffn_down")]],
        biases: Biases::Always,
        reads: &[],
        ..QWEN_3
    },
    GgufFamily {
        class: "Glm4ForCausalLM",
        name: "glm4",
        names: &[
            ATTENTION,
            FUSED,
            &[
                ("input_layernorm", "attn_norm"),
                ("post_self_attn_layernorm", "post_attention_norm"),
                ("post_attention_layernorm", "ffn_norm"),
                ("post_mlp_layernorm", "post_ffw_norm"),
            ],
        ],
        biases: Biases::Inputs,
        reads: &[Special::Neighbours, Special::PartialRotary],
        ..QWEN_3
    },
    GgufFamily {
        class: "MixtralForCausalLM",
        names: &[
            ATTENTION,
            NORMS,
            &[
                ("block_sparse_moe.gate", "ffn_gate_inp"),
                ("block_sparse_moe.experts.w1", "ffn_gate_exps"),
                ("block_sparse_moe.experts.w3", "ffn_up_exps"),
                ("block_sparse_moe.experts.w2", "ffn_down_exps"),
            ],
        ],
        reads: &[],
        keys: expert_keys,
        ..LLAMA
    },
    QWEN_3_MOE,
    GgufFamily {
        class: "OlmoeForCausalLM",
        name: "olmoe",
        keys: expert_keys,
        expects: |folder| renormalises(folder, false),
        ..QWEN_3_MOE
    },
    GgufFamily {
        class: "Qwen2MoeForCausalLM",
        name: "qwen2moe",
        names: &[
            ATTENTION,
            NORMS,
            EXPERTS,
            &[
                ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
                ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
                ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
                ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
            ],
        ],
        biases: Biases::Inputs,
        expects: |folder| renormalises(folder, false),
        ..QWEN_3_MOE
    },
];

impl GgufFamily {
    /// That of a model.
    pub fn of(config: &ModelConfig) -> Option<&'static Self> {
        FAMILIES.iter().find(|family| family.class == config.architecture)
    }

    /// What llama.cpp calls something of a block.
    pub fn name_of(&self, path: &str) -> Option<&'static str> {
        let mut names = self.names.iter().copied().flatten();
        names.find(|(known, _)| *known == path).map(|(_, name)| *name)
    }

    /// What stands in the way of a model's settings.
    pub fn refuses(&self, folder: &ModelFolder) -> Option<String> {
        let not_read =
            specials(&folder.config).into_iter().find(|(special, _)| !self.reads.contains(special));
        let named = not_read.map(|(_, what)| format!("llama.cpp's {} does not know {what}", self.name));
        named.or_else(|| strange_rope(&folder.config)).or_else(|| (self.expects)(folder))
    }
}

/// Classes that are written, for messages.
pub(super) fn known() -> String {
    FAMILIES.iter().map(|family| family.class).collect::<Vec<_>>().join(", ")
}
