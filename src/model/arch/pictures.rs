//! Models that see pictures, too: their text part is one of the known families, and the rest is left as it is.

use serde_json::Value;

use super::common::refuse_quantised;
use crate::error::Result;
use crate::model::architecture::Architecture;
use crate::model::config::ModelConfig;
use crate::model::json::JsonFile;

/// A class of models around a text model.
#[derive(Debug, Clone, Copy)]
pub(super) struct PictureModel {
    /// Its name in `transformers`.
    pub class: &'static str,
    /// The `model_type` of `config.json`.
    model_type: &'static str,
    names: OuterNames,
}

/// What the text model's tensors are called in the files of the model around it.
#[derive(Debug, Clone, Copy)]
enum OuterNames {
    /// Their own names behind this.
    Behind(&'static str),
    /// This in the place of `model.`, and the head as it is.
    Within(&'static str),
}

impl OuterNames {
    fn change(self, name: &mut String) {
        match self {
            Self::Behind(prefix) => name.insert_str(0, prefix),
            Self::Within(prefix) => {
                if let Some(rest) = name.strip_prefix("model.") {
                    *name = format!("{prefix}{rest}");
                }
            }
        }
    }
}

/// Every known class.
pub(super) const PICTURE_MODELS: &[PictureModel] = &[
    PictureModel {
        class: "Gemma3ForConditionalGeneration",
        model_type: "gemma3",
        names: OuterNames::Behind("language_model."),
    },
    PictureModel {
        class: "Mistral3ForConditionalGeneration",
        model_type: "mistral3",
        names: OuterNames::Behind("language_model."),
    },
    PictureModel {
        class: "Gemma4ForConditionalGeneration",
        model_type: "gemma4",
        names: OuterNames::Within("model.language_model."),
    },
    PictureModel {
        class: "Qwen3_5ForConditionalGeneration",
        model_type: "qwen3_5",
        names: OuterNames::Within("model.language_model."),
    },
    PictureModel {
        class: "Qwen3_5MoeForConditionalGeneration",
        model_type: "qwen3_5_moe",
        names: OuterNames::Within("model.language_model."),
    },
];

/// The configuration of the text model.
const TEXT: &str = "text_config";

const TIED: &str = "tie_word_embeddings";

impl PictureModel {
    /// The class that a `config.json` names; `None` where it names none of these.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] where the list of names is none.
    pub fn find(json: &JsonFile<'_>) -> Result<Option<Self>> {
        let named = json.names("architectures")?;
        let kind = json.get("model_type").and_then(Value::as_str);
        let is_meant = |outer: &&Self| {
            named.contains(&outer.class) || (named.is_empty() && kind == Some(outer.model_type))
        };
        Ok(PICTURE_MODELS.iter().find(is_meant).copied())
    }

    /// Reads the text model, of one of the families.
    ///
    /// # Errors
    /// [`crate::Error::Mistake`] naming the key that makes no sense.
    pub fn read(self, json: &JsonFile<'_>, families: &[&dyn Architecture]) -> Result<ModelConfig> {
        let mut text = json.object(TEXT)?.ok_or_else(|| {
            json.wrong(&format!("the key `{TEXT}` is missing: a {} has its text model there", self.class))
        })?;
        refuse_quantised(json)?;
        refuse_quantised(&text)?;
        // Whether the head is the embedding may be said of the whole model.
        if let Some(tied) = json.get(TIED).filter(|_| text.get(TIED).is_none()) {
            text.map.insert(TIED.to_owned(), tied.clone());
        }
        let types = families.iter().map(|family| family.model_type()).collect::<Vec<_>>().join(", ");
        let accepted = format!("one of {types}");
        let kind = text.required("model_type", &accepted)?;
        let family = families.iter().find(|family| Some(family.model_type()) == kind.as_str());
        let family = family.ok_or_else(|| text.unexpected("model_type", kind, &accepted))?;
        let mut config = family.read(&text)?.renamed(&|name| self.names.change(name));
        config.inside = Some(self.class);
        for token in json.tokens("eos_token_id")? {
            if !config.eos.contains(&token) {
                config.eos.push(token);
            }
        }
        config.bos = config.bos.or(json.tokens("bos_token_id")?.first().copied());
        Ok(config)
    }
}
