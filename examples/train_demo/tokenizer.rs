//! The model's tokenizer and configuration files.

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use secateur::{Error, Result};
use serde_json::{Value, json};
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer};

use super::world::{self, ASSISTANT, BEGIN, END, Split, StoryLevel, TEMPLATE, USER};

/// Pieces at most.
const PIECES: usize = 1024;
/// Stories and conversations that it is trained on.
const SAMPLES: usize = 4000;

fn failed(error: impl std::fmt::Display) -> Error {
    Error::failure(format!("cannot make the tokenizer: {error}"))
}

/// Trains a byte-level BPE on training stories. Words begin with their blank wherever they stand, so that a name is the
/// same piece at the start of a line and within it.
pub fn train(seed: u64) -> Result<Tokenizer> {
    let mut tokenizer = Tokenizer::new(BPE::default());
    let lines = ReplacePattern::Regex(r"\s*\n\s*".into());
    tokenizer.with_normalizer(Some(Replace::new(lines, "\n\n ").map_err(failed)?)).map_err(failed)?;
    tokenizer.with_pre_tokenizer(Some(ByteLevel::new(true, false, true)));
    tokenizer.with_decoder(Some(ByteLevel::new(true, false, true)));
    let special = [BEGIN, USER, ASSISTANT, END];
    let added = |token: &&str| AddedToken::from(token.to_string(), true).lstrip(true);
    let mut trainer = TrainerWrapper::BpeTrainer(
        BpeTrainer::builder()
            .vocab_size(PIECES)
            .show_progress(false)
            .special_tokens(special.iter().map(added).collect())
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build(),
    );
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut texts = world::stories(Split::Train, SAMPLES, seed);
    texts.extend((0..SAMPLES).map(|_| {
        let text = world::draw_conversation(&mut rng, Split::Train, StoryLevel::Full);
        special.iter().fold(text, |text, token| text.replace(token, world::BETWEEN))
    }));
    tokenizer.train(&mut trainer, texts.into_iter()).map_err(failed)?;
    let begin = tokenizer.token_to_id(BEGIN).ok_or_else(|| failed("no begin token"))?;
    let processor = TemplateProcessing::builder()
        .try_single(format!("{BEGIN} $A"))
        .map_err(failed)?
        .special_tokens(vec![(BEGIN.to_string(), begin)])
        .build()
        .map_err(failed)?;
    tokenizer.with_post_processor(Some(processor));
    Ok(tokenizer)
}

/// Writes tokenizer and configuration into a model's folder.
pub fn write(tokenizer: &Tokenizer, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|e| Error::io("cannot make", folder, e))?;
    tokenizer.save(folder.join("tokenizer.json"), true).map_err(failed)?;
    let id = |token: &str| tokenizer.token_to_id(token);
    let config = json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 5,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "vocab_size": tokenizer.get_vocab_size(true),
        "max_position_embeddings": 512,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "attention_bias": false,
        "mlp_bias": false,
        "bos_token_id": id(BEGIN),
        "eos_token_id": id(END),
        "torch_dtype": "bfloat16",
    });
    let generation = json!({ "bos_token_id": id(BEGIN), "eos_token_id": id(END), "do_sample": false });
    let tokenizer_config = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 512,
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": false,
        "chat_template": TEMPLATE,
    });
    for (name, value) in [
        ("config.json", config),
        ("generation_config.json", generation),
        ("tokenizer_config.json", tokenizer_config),
    ] {
        write_json(&folder.join(name), &value)?;
    }
    Ok(())
}

fn write_json(path: &Path, value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(failed)? + "\n";
    std::fs::write(path, text).map_err(|e| Error::io("cannot write", path, e))
}
