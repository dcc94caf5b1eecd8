//! A tokenizer as llama.cpp wants it: tokens, their types, merges, and the name of the rule that cuts texts into words.
//!
//! llama.cpp knows such rules by name only (`tokenizer.ggml.pre`). What a `tokenizer.json` says of its own rule is
//! looked up here; a rule that is not in the list is refused, since a near one gives other tokens.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;

use super::container::{KeyValue, Keys};
use crate::error::{Error, Result};
use crate::model::{ModelFolder, load_tokenizer, special_tokens};

/// Types of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// Contractions, words, up to three digits, punctuation, line ends, spaces.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits.
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How texts are cut and joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    /// Byte-level BPE, with llama.cpp's name of its rule.
    ByteLevel(&'static str),
    /// As `SentencePiece` does it: spaces are `▁`, unknown characters are bytes. `prefix`: a text gets a space before it.
    Pieces { prefix: bool },
}

/// The parts of a `tokenizer.json` that count.
#[derive(Debug)]
struct TokenizerJson {
    model: Value,
    normalizer: Value,
    pre_tokenizer: Value,
    added: Vec<Value>,
}

impl TokenizerJson {
    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(|e| Error::io("cannot read", path, e))?;
        let mut json: Value =
            serde_json::from_slice(&bytes).map_err(|e| Error::mistake(format!("{}: {e}", path.display())))?;
        let added = match json["added_tokens"].take() {
            Value::Array(tokens) => tokens,
            _ => Vec::new(),
        };
        Ok(Self {
            model: json["model"].take(),
            normalizer: json["normalizer"].take(),
            pre_tokenizer: json["pre_tokenizer"].take(),
            added,
        })
    }

    fn scheme(&self) -> Result<Scheme, String> {
        let kind = self.model["type"].as_str().unwrap_or("unnamed");
        if kind != "BPE" {
            return Err(format!("its tokenizer is a {kind} model: only BPE is written"));
        }
        if self.model["byte_fallback"] == true {
            return self.pieces();
        }
        if let Some(kind) = parts(&self.normalizer, "normalizers").iter().find(|part| part["type"] != "NFC") {
            return Err(format!(
                "its tokenizer changes texts first ({}), which llama.cpp does not",
                kind["type"].as_str().unwrap_or("unnamed")
            ));
        }
        self.rule().map(Scheme::ByteLevel)
    }

    /// llama.cpp's name of the rule that cuts texts into words.
    fn rule(&self) -> Result<&'static str, String> {
        let unknown = || {
            let text = self.pre_tokenizer.to_string();
            let text: String = text.chars().take(300).collect();
            format!(
                "its tokenizer cuts texts by a rule that has no name in llama.cpp as far as secateur knows: {text}"
            )
        };
        let parts = parts(&self.pre_tokenizer, "pretokenizers");
        let is_byte_level = |part: &Value, regex: bool| {
            part["type"] == "ByteLevel"
                && part["add_prefix_space"] != true
                && part["use_regex"].as_bool().unwrap_or(true) == regex
        };
        match parts.as_slice() {
            // Where nothing is merged, it does not matter where texts are cut.
            [last]
                if last["type"] == "ByteLevel"
                    && last["add_prefix_space"] != true
                    && self.model["merges"].as_array().is_some_and(Vec::is_empty) =>
            {
                Ok("gpt-2")
            }
            [last] if is_byte_level(last, true) => Ok("gpt-2"),
            [digits, last]
                if digits["type"] == "Digits"
                    && digits["individual_digits"] == true
                    && is_byte_level(last, true) =>
            {
                Ok("smollm")
            }
            [split, last]
                if split["type"] == "Split"
                    && split["behavior"] == "Isolated"
                    && split["invert"] != true
                    && is_byte_level(last, false) =>
            {
                match split["pattern"]["Regex"].as_str() {
                    Some(LLAMA_3) if self.model["ignore_merges"] == true => Ok("llama-bpe"),
                    Some(LLAMA_3) => Ok("dbrx"),
                    Some(QWEN_2) => Ok("qwen2"),
                    _ => Err(unknown()),
                }
            }
            _ => Err(unknown()),
        }
    }

    /// The scheme of Llama 2: spaces become `▁` by the normalizer or by the pre-tokenizer.
    fn pieces(&self) -> Result<Scheme, String> {
        let mut prefix = false;
        let steps =
            [parts(&self.normalizer, "normalizers"), parts(&self.pre_tokenizer, "pretokenizers")].concat();
        for step in &steps {
            match step["type"].as_str() {
                Some("Prepend") if step["prepend"] == "▁" => prefix = true,
                Some("Replace") if step["pattern"]["String"] == " " && step["content"] == "▁" => {}
                Some("Metaspace") if step["replacement"] == "▁" => {
                    prefix |= step["prepend_scheme"] != "never" && step["add_prefix_space"] != false;
                }
                other => {
                    return Err(format!(
                        "its tokenizer has a step that llama.cpp does not have: {}",
                        other.unwrap_or("unnamed")
                    ));
                }
            }
        }
        Ok(Scheme::Pieces { prefix })
    }

    /// The vocabulary by id: `None` where there is a hole.
    fn tokens(&self, size: usize) -> Result<Vec<Option<(String, i32)>>, String> {
        let mut tokens = vec![None; size];
        let mut put = |id: Option<u64>, text: &str, kind: i32| {
            let place = id.and_then(|id| tokens.get_mut(usize::try_from(id).ok()?));
            let place = place.ok_or_else(|| format!("its token `{text}` has no row in the embedding"))?;
            *place = Some((text.to_owned(), kind));
            Ok::<(), String>(())
        };
        let vocabulary = self.model["vocab"].as_object().ok_or("its tokenizer has no vocabulary")?;
        let unknown = self.model["unk_token"].as_str();
        let has_bytes = self.model["byte_fallback"] == true;
        for (text, id) in vocabulary {
            let kind = match text.as_str() {
                text if has_bytes && Some(text) == unknown => UNKNOWN,
                text if has_bytes && text.len() == 6 && text.starts_with("<0x") => BYTE,
                _ => NORMAL,
            };
            put(id.as_u64(), text, kind)?;
        }
        for token in &self.added {
            let text = token["content"].as_str().unwrap_or_default();
            let kind = match token["special"] == true {
                true if has_bytes && Some(text) == unknown => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
            put(token["id"].as_u64(), text, kind)?;
        }
        Ok(tokens)
    }

    /// The merges, the two parts of each.
    fn merges(&self) -> Result<Vec<[&str; 2]>, String> {
        let merges = self.model["merges"].as_array().ok_or("its tokenizer has no merges")?;
        merges
            .iter()
            .map(|merge| match merge {
                // Spaces are no characters of tokens.
                Value::String(both) => both.split_once(' ').map(|(a, b)| [a, b]),
                Value::Array(both) => match both.as_slice() {
                    [Value::String(a), Value::String(b)] => Some([a.as_str(), b.as_str()]),
                    _ => None,
                },
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or_else(|| "its tokenizer has a merge that is none".to_owned())
    }
}

/// The parts of a sequence, a single part, or nothing.
fn parts(step: &Value, list: &str) -> Vec<Value> {
    match step {
        Value::Null => Vec::new(),
        step if step["type"] == "Sequence" => step[list].as_array().cloned().unwrap_or_default(),
        step => vec![step.clone()],
    }
}

/// Why a tokenizer cannot be written; `None` is nothing.
pub(super) fn refuses(folder: &ModelFolder) -> Option<String> {
    match TokenizerJson::read(&folder.tokenizer) {
        Ok(json) => json.scheme().and_then(|_| json.tokens(folder.config.vocabulary)).err(),
        Err(error) => Some(error.to_string()),
    }
}

/// The keys of a tokenizer.
///
/// # Errors
/// [`Error::Mistake`] for one that cannot be written.
pub(super) fn keys(folder: &ModelFolder) -> Result<Keys> {
    let json = TokenizerJson::read(&folder.tokenizer)?;
    let wrong = |why: String| Error::mistake(format!("{}: {why}", folder.tokenizer.display()));
    let scheme = json.scheme().map_err(wrong)?;
    let tokens = json.tokens(folder.config.vocabulary).map_err(wrong)?;
    let merges = json.merges().map_err(wrong)?;
    let (mut texts, mut types) = (Vec::with_capacity(tokens.len()), Vec::with_capacity(tokens.len()));
    for (id, token) in tokens.into_iter().enumerate() {
        let (text, kind) = token.unwrap_or_else(|| (format!("[PAD{id}]"), UNUSED));
        texts.push(text);
        types.push(kind);
    }
    let mut keys = Keys::new();
    let mut put = |key: &str, value: KeyValue| keys.push((format!("tokenizer.ggml.{key}"), value));
    match scheme {
        Scheme::ByteLevel(rule) => {
            put("model", "gpt2".into());
            put("pre", rule.into());
            put("merges", KeyValue::Texts(merges.iter().map(|[a, b]| format!("{a} {b}")).collect()));
            put("add_space_prefix", false.into());
        }
        Scheme::Pieces { prefix } => {
            put("model", "llama".into());
            put("pre", "default".into());
            put("scores", KeyValue::Floats(scores(&texts, &merges)));
            put("add_space_prefix", prefix.into());
        }
    }
    let ids: HashMap<&str, u32> = texts.iter().map(String::as_str).zip(0..).collect();
    for (key, value) in special_ids(folder, &json, &ids)? {
        put(key, value);
    }
    put("tokens", KeyValue::Texts(texts));
    put("token_type", KeyValue::Ints(types));
    Ok(keys)
}

/// Scores by which `SentencePiece`'s way of merging comes to the same tokens as the merges in their order: a token that is
/// made earlier has the higher one. What is never made of others has the lowest.
fn scores(tokens: &[String], merges: &[[&str; 2]]) -> Vec<f32> {
    let mut ranks: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (rank, [a, b]) in merges.iter().enumerate() {
        ranks.entry(format!("{a}{b}")).or_insert(rank);
    }
    tokens.iter().map(|token| -(ranks.get(token).copied().unwrap_or(merges.len()) as f32)).collect()
}

/// Tokens that begin and end a text, and whether a text gets them by itself.
fn special_ids(
    folder: &ModelFolder,
    json: &TokenizerJson,
    ids: &HashMap<&str, u32>,
) -> Result<Vec<(&'static str, KeyValue)>> {
    let named = special_tokens(folder)?;
    let of = |name: &str| named.get(name).and_then(|token| ids.get(token.as_str())).copied();
    let bos = folder.config.bos.or_else(|| of("bos_token"));
    // Names in the tokenizer's files are sometimes those of another turn; what generation ends with is said elsewhere.
    let eos =
        generation_eos(folder).or_else(|| folder.config.eos.first().copied()).or_else(|| of("eos_token"));
    let unknown = json.model["unk_token"]
        .as_str()
        .and_then(|token| ids.get(token))
        .copied()
        .or_else(|| of("unk_token"));
    let found = [
        ("bos_token_id", bos),
        ("eos_token_id", eos),
        ("unknown_token_id", unknown),
        ("padding_token_id", of("pad_token")),
    ];
    let size = folder.config.vocabulary;
    let mut keys: Vec<(&'static str, KeyValue)> = found
        .into_iter()
        .filter_map(|(key, id)| Some((key, id.filter(|id| (*id as usize) < size)?.into())))
        .collect();
    let tokenizer = load_tokenizer(&folder.tokenizer)?;
    let encode = |special: bool| {
        let encoding = tokenizer.encode("a", special);
        encoding.map(|e| e.get_ids().to_vec()).map_err(|e| Error::failure(format!("cannot tokenise: {e}")))
    };
    let (whole, bare) = (encode(true)?, encode(false)?);
    let begins = whole.len() > bare.len() && whole.first().copied() == bos;
    let ends = whole.len() > bare.len() && whole.last().copied() == eos;
    keys.push(("add_bos_token", begins.into()));
    keys.push(("add_eos_token", ends.into()));
    Ok(keys)
}

/// The first end token of `generation_config.json`.
fn generation_eos(folder: &ModelFolder) -> Option<u32> {
    let bytes = std::fs::read(folder.root.join("generation_config.json")).ok()?;
    let json: Value = serde_json::from_slice(&bytes).ok()?;
    let eos = &json["eos_token_id"];
    let first = eos.as_array().and_then(|all| all.first()).unwrap_or(eos);
    first.as_u64().and_then(|id| u32::try_from(id).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bpe(pre_tokenizer: Value, normalizer: Value) -> TokenizerJson {
        let model = json!({
            "type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "abb": 3}, "merges": [["a", "b"], "ab b"],
        });
        let added =
            vec![json!({"id": 4, "content": "<s>", "special": true}), json!({"id": 6, "content": "<x>"})];
        TokenizerJson { model, normalizer, pre_tokenizer, added }
    }

    #[test]
    fn rules_are_known_by_what_they_say() {
        let bytes = |regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": regex});
        let split = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        let sequence =
            |first: Value, regex| json!({"type": "Sequence", "pretokenizers": [first, bytes(regex)]});
        let digits = json!({"type": "Digits", "individual_digits": true});
        let rule = |step: Value| bpe(step, Value::Null).scheme();
        assert_eq!(rule(bytes(true)), Ok(Scheme::ByteLevel("gpt-2")));
        assert_eq!(rule(sequence(digits, true)), Ok(Scheme::ByteLevel("smollm")));
        assert_eq!(rule(sequence(split(QWEN_2), false)), Ok(Scheme::ByteLevel("qwen2")));
        assert_eq!(rule(sequence(split(LLAMA_3), false)), Ok(Scheme::ByteLevel("dbrx")));
        let mut llama = bpe(sequence(split(LLAMA_3), false), json!({"type": "NFC"}));
        llama.model["ignore_merges"] = true.into();
        assert_eq!(llama.scheme(), Ok(Scheme::ByteLevel("llama-bpe")));
        for other in [
            sequence(split("x+"), false),
            json!({"type": "ByteLevel", "add_prefix_space": true}),
            Value::Null,
        ] {
            assert!(rule(other).unwrap_err().contains("no name in llama.cpp"));
        }
        let why = bpe(bytes(true), json!({"type": "Lowercase"})).scheme().unwrap_err();
        assert!(why.contains("Lowercase"), "{why}");
    }

    #[test]
    fn tokens_have_types_and_holes_are_unused() {
        let json = bpe(Value::Null, Value::Null);
        let tokens = json.tokens(7).unwrap();
        let kinds: Vec<Option<i32>> =
            tokens.iter().map(|token| token.as_ref().map(|(_, kind)| *kind)).collect();
        let normal = Some(NORMAL);
        assert_eq!(kinds, [normal, normal, normal, normal, Some(CONTROL), None, Some(USER_DEFINED)]);
        assert!(json.tokens(6).unwrap_err().contains("<x>"), "a token without a row");
        assert_eq!(json.merges().unwrap(), [["a", "b"], ["ab", "b"]]);
    }

    #[test]
    fn pieces_have_scores_in_the_order_of_their_merges() {
        let mut json = bpe(
            Value::Null,
            json!({"type": "Sequence", "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ]}),
        );
        json.model["byte_fallback"] = true.into();
        assert_eq!(json.scheme(), Ok(Scheme::Pieces { prefix: true }));
        let tokens = ["a", "b", "ab", "abb"].map(str::to_owned);
        assert_eq!(scores(&tokens, &json.merges().unwrap()), [-2.0, -2.0, 0.0, -1.0]);
    }
}
