//! Tasks as prompts: by the model's chat template, in the Alpaca form, or by a study's own template.

use std::collections::BTreeMap;
use std::path::PathBuf;

use minijinja::context;
use serde_json::Value;
use tokenizers::Tokenizer;

use super::folder::ModelFolder;
use super::json::JsonFile;
use super::template::ChatTemplate;
use crate::alpaca;
use crate::error::{Error, Result};

/// Special tokens that a chat template can name.
const SPECIAL_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// How a task's instruction and input become a prompt.
#[derive(Debug, Clone)]
pub struct PromptFormat(PromptKind);

#[derive(Debug, Clone)]
enum PromptKind {
    /// The model's chat template, and its special tokens by name.
    Chat(ChatTemplate, BTreeMap<String, String>),
    Alpaca,
    /// A study's own template.
    Own(String),
}

impl PromptFormat {
    /// A study's own template where it has one, else the model's chat template where it has one, else the Alpaca form.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the study's template has no `{instruction}`, or the model's chat template or its
    /// tokenizer config cannot be understood.
    pub fn for_model(folder: &ModelFolder, study_prompt: Option<&str>) -> Result<Self> {
        if let Some(template) = study_prompt {
            return Self::own(template);
        }
        let Some((template, file)) = chat_template(folder)? else { return Ok(Self(PromptKind::Alpaca)) };
        Ok(Self(PromptKind::Chat(ChatTemplate::new(&template, &file)?, special_tokens(folder)?)))
    }

    /// A template with `{instruction}` and `{input}`.
    ///
    /// # Errors
    /// [`Error::Mistake`] when it has no `{instruction}`.
    pub fn own(template: &str) -> Result<Self> {
        if template.contains("{instruction}") {
            Ok(Self(PromptKind::Own(template.to_string())))
        } else {
            Err(Error::mistake(format!(
                "the prompt template `{template}` has no {{instruction}}: accepted is a text with {{instruction}} and, \
                 where tasks have one, {{input}}"
            )))
        }
    }

    /// What it is, for people: `chat template`, `Alpaca`, `own template`.
    pub fn name(&self) -> &'static str {
        match self.0 {
            PromptKind::Chat(..) => "chat template",
            PromptKind::Alpaca => "Alpaca",
            PromptKind::Own(_) => "own template",
        }
    }

    /// The prompt of a task.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the model's chat template refuses the conversation, or does not come to an end.
    pub fn render(&self, instruction: &str, input: &str) -> Result<String> {
        match &self.0 {
            PromptKind::Alpaca => Ok(alpaca::prompt(instruction, input)),
            PromptKind::Own(template) => Ok(fill(template, instruction, input)),
            PromptKind::Chat(template, special) => {
                let content = if input.is_empty() {
                    instruction.to_string()
                } else {
                    format!("{instruction}\n\n{input}")
                };
                chat_prompt(template, special, &[("user", &content)])
            }
        }
    }

    /// The prompt of a conversation, given as roles and what each says. Only a chat template has a form for it; to the
    /// others it is an instruction, its `transcript`.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_conversation(&self, messages: &[(&str, &str)], transcript: &str) -> Result<String> {
        match &self.0 {
            PromptKind::Chat(template, special) => chat_prompt(template, special, messages),
            PromptKind::Alpaca | PromptKind::Own(_) => self.render(transcript, ""),
        }
    }

    /// A prompt as tokens. A chat template writes its special tokens itself; to the other forms the tokenizer adds its
    /// own.
    ///
    /// # Errors
    /// [`Error::Failure`] when the tokenizer fails.
    pub fn encode(&self, tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
        let add_special = !matches!(self.0, PromptKind::Chat(..));
        let tokens = tokenizer
            .encode_fast(prompt, add_special)
            .map_err(|e| Error::failure(format!("the tokenizer failed on a prompt: {e}")))?;
        Ok(tokens.get_ids().to_vec())
    }
}

fn chat_prompt(
    template: &ChatTemplate,
    special: &BTreeMap<String, String>,
    messages: &[(&str, &str)],
) -> Result<String> {
    let messages: Vec<_> =
        messages.iter().map(|(role, content)| context! { role => *role, content => *content }).collect();
    template.render(context! {
        messages,
        add_generation_prompt => true,
        // Templates ask `is not none`, which an undefined value would answer with yes.
        tools => (),
        documents => (),
        ..minijinja::Value::from(special.clone())
    })
}

/// Fills a study's template in one pass, so that braces in a task's text stay what they are.
fn fill(template: &str, instruction: &str, input: &str) -> String {
    let mut prompt = String::with_capacity(template.len() + instruction.len() + input.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        let (before, from) = rest.split_at(at);
        prompt.push_str(before);
        rest = if let Some(after) = from.strip_prefix("{instruction}") {
            prompt.push_str(instruction);
            after
        } else if let Some(after) = from.strip_prefix("{input}") {
            prompt.push_str(input);
            after
        } else {
            prompt.push('{');
            &from[1..]
        };
    }
    prompt + rest
}

/// The model's chat template and its file: a file of its own goes before a key of the tokenizer's config.
pub(crate) fn chat_template(folder: &ModelFolder) -> Result<Option<(String, PathBuf)>> {
    if let Some(path) = &folder.chat_template {
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::mistake(format!("{}: cannot be read as text: {e}", path.display())))?;
        return Ok(Some((text, path.clone())));
    }
    let Some(path) = &folder.tokenizer_config else { return Ok(None) };
    let json = JsonFile::read(path)?;
    let template = match json.get("chat_template") {
        None => return Ok(None),
        Some(Value::String(template)) => Some(template.as_str()),
        Some(Value::Array(named)) => {
            let default = named.iter().find(|entry| entry["name"] == "default");
            default.and_then(|entry| entry["template"].as_str())
        }
        Some(_) => None,
    };
    match template {
        Some(template) => Ok(Some((template.to_string(), path.clone()))),
        None => {
            Err(json
                .wrong("`chat_template` holds no template: accepted is a text, or a list of {name, template} of which one is \
                        named `default`"))
        }
    }
}

/// `bos_token`, `eos_token` and the like, as the tokenizer's files spell them. Of two files with a token the newer kind of
/// tokenizer config, which lists its tokens, is believed; next to an older one the map of special tokens.
pub(crate) fn special_tokens(folder: &ModelFolder) -> Result<BTreeMap<String, String>> {
    let mut tokens = BTreeMap::new();
    let mut read = |json: &JsonFile| {
        for name in SPECIAL_TOKENS.into_iter().filter(|name| json.has(name)) {
            let token = json.get(name).and_then(|v| v.as_str().or_else(|| v["content"].as_str()));
            match token {
                Some(token) => tokens.insert(name.to_string(), token.to_string()),
                // What is null in the later file is not there.
                None => tokens.remove(name),
            };
        }
    };
    let mut lists_tokens = false;
    if let Some(path) = &folder.tokenizer_config {
        let config = JsonFile::read(path)?;
        lists_tokens = config.get("added_tokens_decoder").is_some();
        read(&config);
    }
    if let Some(path) = folder.special_tokens_map.as_ref().filter(|_| !lists_tokens) {
        read(&JsonFile::read(path)?);
    }
    Ok(tokens)
}

/// The token that stands for an empty text: the one that texts begin with, else the one that they end with.
///
/// # Errors
/// Files of the tokenizer that cannot be read.
pub(crate) fn empty_text_token(folder: &ModelFolder, tokenizer: &Tokenizer) -> Result<Option<u32>> {
    let tokens = special_tokens(folder)?;
    let id = |name: &str| tokens.get(name).and_then(|token| tokenizer.token_to_id(token));
    Ok(id("bos_token").or_else(|| id("eos_token")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::{Synthetic, load_tokenizer};
    use crate::skip::{shared, smollm2};

    fn folder(change: impl FnOnce(&Path)) -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::default().write(dir.path()).unwrap();
        change(dir.path());
        let folder = ModelFolder::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn with_config(chat_template: &Value) -> Result<String> {
        let (_dir, folder) = folder(|dir| {
            let config = json!({
                "bos_token": {"content": "<s>"},
                "eos_token": "</s>",
                "added_tokens_decoder": {},
                "chat_template": chat_template,
            });
            std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
            std::fs::write(dir.join("special_tokens_map.json"), r#"{"eos_token": "x", "bos_token": "x"}"#)
                .unwrap();
        });
        PromptFormat::for_model(&folder, None)?.render("Do", "it")
    }

    #[test]
    fn the_smollm2_prompts_are_those_of_transformers() {
        let (Some(root), Some(golden), Some(tasks)) =
            (smollm2(), shared("golden/tasks.json"), shared("data/tasks/squad_short.jsonl"))
        else {
            return;
        };
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(golden).unwrap()).unwrap();
        let folder = ModelFolder::open(&root).unwrap();
        let tokenizer = load_tokenizer(&folder.tokenizer).unwrap();
        let format = PromptFormat::for_model(&folder, None).unwrap();
        let items = golden["cells"]["dense"]["items"].as_array().unwrap();
        let tasks = std::fs::read_to_string(tasks).unwrap();
        let mut examples = 0;
        for (item, line) in items.iter().zip(tasks.lines()) {
            let task: Value = serde_json::from_str(line).unwrap();
            let (instruction, input) =
                (task["instruction"].as_str().unwrap(), task["input"].as_str().unwrap());
            let prompt = format.render(instruction, input).unwrap();
            let tokens = format.encode(&tokenizer, &prompt).unwrap();
            assert_eq!(tokens.len() as u64, item["prompt_tokens"].as_u64().unwrap(), "{line}");
            examples += usize::from(golden["prompt_example"].as_str() == Some(prompt.as_str()));
        }
        assert!(items.len() >= 64);
        assert_eq!(examples, 1, "the golden prompt is among them, to the letter");
    }

    #[test]
    fn chat_templates_are_found_in_every_place_and_get_what_they_ask_for() {
        let template = "{{ bos_token }}{% for m in messages %}[{{ m['role'].upper() }}] {{ m.content.strip() }}\n\
                        {% endfor %}{% if tools is not none %}tools{% endif %}\
                        {% if add_generation_prompt %}{% generation %}answer{% endgeneration %}{{ eos_token }}{% endif %}";
        let expected = "<s>[USER] Do\n\nit\nanswer</s>";
        assert_eq!(with_config(&json!(template)).unwrap(), expected);
        let list = json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": template}]);
        assert_eq!(with_config(&list).unwrap(), expected);
        let (_dir, folder) = folder(|dir| {
            std::fs::write(dir.join("chat_template.jinja"), "  {% if true %}\nfile wins{% endif %}\n")
                .unwrap();
            std::fs::write(dir.join("tokenizer_config.json"), r#"{"chat_template": "loses"}"#).unwrap();
        });
        let format = PromptFormat::for_model(&folder, None).unwrap();
        assert_eq!(format.render("Do", "").unwrap(), "file wins");
        assert_eq!(with_config(&json!("{{ strftime_now('%d %b %Y') }}")).unwrap(), "26 Jul 2024");
    }

    #[test]
    fn the_map_of_special_tokens_counts_next_to_an_older_tokenizer_config_only() {
        let prompt = |config: Value| {
            let (_dir, folder) = folder(|dir| {
                std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
                let map = r#"{"bos_token": "<map>", "eos_token": null}"#;
                std::fs::write(dir.join("special_tokens_map.json"), map).unwrap();
            });
            PromptFormat::for_model(&folder, None).unwrap().render("Do", "").unwrap()
        };
        let template = "{{ bos_token }}{{ eos_token }}{{ pad_token }}.";
        let mut config = json!({"bos_token": "<config>", "eos_token": "<end>", "pad_token": "<pad>"});
        config["chat_template"] = template.into();
        assert_eq!(prompt(config.clone()), "<map><pad>.");
        config["added_tokens_decoder"] = json!({"0": {"content": "<config>"}});
        assert_eq!(prompt(config), "<config><end><pad>.");
    }

    #[test]
    fn chat_templates_that_fail_name_their_file_and_say_why() {
        for (template, why) in [
            (json!("{{ raise_exception('no system role') }}"), "no system role"),
            (json!("{% if %}"), "cannot be understood"),
            (json!(7), "holds no template"),
            (json!([]), "holds no template"),
            (json!([{"name": "tool_use", "template": "x"}]), "one is named `default`"),
            (
                json!("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"),
                "1000000 steps",
            ),
        ] {
            let error = with_config(&template).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let message = error.to_string();
            assert!(message.contains("tokenizer_config.json") && message.contains(why), "{message}");
        }
    }

    #[test]
    fn without_a_chat_template_prompts_have_the_alpaca_form_and_begin_with_bos() {
        let (_dir, folder) = folder(|_| ());
        let tokenizer = load_tokenizer(&folder.tokenizer).unwrap();
        let format = PromptFormat::for_model(&folder, None).unwrap();
        let prompt = format.render("Add.", "1 2").unwrap();
        assert!(prompt.ends_with("### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:"), "{prompt}");
        assert!(!format.render("Add.", "").unwrap().contains("Input"));
        let tokens = format.encode(&tokenizer, &prompt).unwrap();
        assert_eq!((tokens[0], tokens.len()), (0, prompt.len() + 1));
    }

    #[test]
    fn chat_prompts_get_no_second_bos() {
        let chat_template = Some("{{ bos_token }}{{ messages[0].content }}".to_string());
        let dir = tempfile::tempdir().unwrap();
        Synthetic { chat_template, ..Synthetic::default() }.write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let tokenizer = load_tokenizer(&folder.tokenizer).unwrap();
        let format = PromptFormat::for_model(&folder, None).unwrap();
        let tokens = format.encode(&tokenizer, &format.render("ab", "").unwrap()).unwrap();
        assert_eq!((tokens[0], tokens.len()), (0, 3));
    }

    #[test]
    fn conversations_go_through_the_chat_template_and_are_a_transcript_elsewhere() {
        let messages = [("system", "Be brief."), ("user", "A?"), ("assistant", "a"), ("user", "B?")];
        let (_dir, folder) = folder(|dir| {
            let template = "{% for m in messages %}<{{ m.role }}>{{ m['content'] }}{% endfor %}\
                            {% if add_generation_prompt %}<assistant>{% endif %}";
            std::fs::write(dir.join("chat_template.jinja"), template).unwrap();
        });
        let format = PromptFormat::for_model(&folder, None).unwrap();
        let prompt = format.render_conversation(&messages, "unused").unwrap();
        assert_eq!(prompt, "<system>Be brief.<user>A?<assistant>a<user>B?<assistant>");
        let own = PromptFormat::own("Q: {instruction}\nA:").unwrap();
        assert_eq!(own.render_conversation(&messages, "the text").unwrap(), "Q: the text\nA:");
    }

    #[test]
    fn a_template_of_ones_own_wins_and_needs_an_instruction() {
        let (_dir, folder) = folder(|_| ());
        let format = PromptFormat::for_model(&folder, Some("Q: {instruction} {{x}} ({input})\nA:")).unwrap();
        assert_eq!(format.render("why {input}?", "so").unwrap(), "Q: why {input}? {{x}} (so)\nA:");
        let error = PromptFormat::for_model(&folder, Some("Q: {question}")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("{instruction}"), "{error}");
    }

    proptest! {
        #[test]
        fn a_template_without_placeholders_within_stays_as_it_is(text in "[a-z{}é]{0,20}") {
            prop_assume!(!text.contains("{instruction}") && !text.contains("{input}"));
            prop_assert_eq!(fill(&format!("{text}{{instruction}}"), "X", "Y"), format!("{text}X"));
        }
    }
}
