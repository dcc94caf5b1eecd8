//! Texts to tokens, and tasks to prompts: by the model's chat template, in the Alpaca form, or by a study's own template.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value as Jinja;
use minijinja::{Environment, ErrorKind, context};
use serde_json::Value;
use tokenizers::Tokenizer;

use super::folder::ModelFolder;
use super::json::JsonFile;
use crate::error::{Error, Result};

/// Loads a model's `tokenizer.json`. What it says of truncation and padding is dropped: texts are tokenised whole.
///
/// # Errors
/// [`Error::Mistake`] when the file is not a tokenizer.
pub fn load_tokenizer(path: &Path) -> Result<Tokenizer> {
    let broken = |why: &str| {
        Error::mistake(format!(
            "{}: not a usable tokenizer ({why}): accepted is the file that a fast Hugging Face tokenizer saves",
            path.display()
        ))
    };
    let mut tokenizer = Tokenizer::from_file(path).map_err(|e| broken(&e.to_string()))?;
    tokenizer.with_truncation(None).map_err(|e| broken(&e.to_string()))?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

/// How a task's instruction and input become a prompt.
#[derive(Debug, Clone)]
pub struct PromptFormat(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// The model's chat template, compiled, and where it was found.
    Chat {
        environment: Box<Environment<'static>>,
        special: BTreeMap<String, String>,
        file: PathBuf,
    },
    Alpaca,
    /// A study's own template.
    Own(String),
}

/// The name of the only template of a chat environment.
const CHAT: &str = "chat";

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
        let Some((template, file)) = chat_template(folder)? else { return Ok(Self(Kind::Alpaca)) };
        let environment = environment(plain_blocks(&template)).map_err(|e| {
            Error::mistake(format!("{}: the chat template cannot be understood: {e:#}", file.display()))
        })?;
        Ok(Self(Kind::Chat { environment: Box::new(environment), special: special_tokens(folder)?, file }))
    }

    /// A template with `{instruction}` and `{input}`.
    ///
    /// # Errors
    /// [`Error::Mistake`] when it has no `{instruction}`.
    pub fn own(template: &str) -> Result<Self> {
        if template.contains("{instruction}") {
            Ok(Self(Kind::Own(template.to_string())))
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
            Kind::Chat { .. } => "chat template",
            Kind::Alpaca => "Alpaca",
            Kind::Own(_) => "own template",
        }
    }

    /// The prompt of a task.
    ///
    /// # Errors
    /// [`Error::Mistake`] when the model's chat template refuses the conversation.
    pub fn render(&self, instruction: &str, input: &str) -> Result<String> {
        match &self.0 {
            Kind::Alpaca => Ok(alpaca(instruction, input)),
            Kind::Own(template) => Ok(fill(template, instruction, input)),
            Kind::Chat { environment, special, file } => {
                let content = if input.is_empty() {
                    instruction.to_string()
                } else {
                    format!("{instruction}\n\n{input}")
                };
                let special = Jinja::from(special.clone());
                let context = context! {
                    messages => [context! { role => "user", content }],
                    add_generation_prompt => true,
                    // Templates ask `is not none`, which an undefined value would answer with yes.
                    tools => (),
                    documents => (),
                    ..special
                };
                environment.get_template(CHAT).and_then(|template| template.render(context)).map_err(|e| {
                    Error::mistake(format!("{}: the chat template fails on a task: {e:#}", file.display()))
                })
            }
        }
    }

    /// The prompt of a task, as tokens. A chat template writes its special tokens itself; to the other forms the
    /// tokenizer adds its own.
    ///
    /// # Errors
    /// As [`Self::render`]; [`Error::Failure`] when the tokenizer fails.
    pub fn encode(&self, tokenizer: &Tokenizer, instruction: &str, input: &str) -> Result<Vec<u32>> {
        let add_special = !matches!(self.0, Kind::Chat { .. });
        let prompt = self.render(instruction, input)?;
        let tokens = tokenizer
            .encode_fast(prompt, add_special)
            .map_err(|e| Error::failure(format!("the tokenizer failed on a prompt: {e}")))?;
        Ok(tokens.get_ids().to_vec())
    }
}

/// The form that the Alpaca models were tuned on.
fn alpaca(instruction: &str, input: &str) -> String {
    if input.is_empty() {
        format!(
            "Below is an instruction that describes a task. Write a response that appropriately completes the \
             request.\n\n### Instruction:\n{instruction}\n\n### Response:"
        )
    } else {
        format!(
            "Below is an instruction that describes a task, paired with an input that provides further context. Write \
             a response that appropriately completes the request.\n\n### Instruction:\n{instruction}\n\n### \
             Input:\n{input}\n\n### Response:"
        )
    }
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
fn chat_template(folder: &ModelFolder) -> Result<Option<(String, PathBuf)>> {
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
            let default = named.iter().find(|entry| entry["name"] == "default").or_else(|| named.first());
            default.and_then(|entry| entry["template"].as_str())
        }
        Some(_) => None,
    };
    match template {
        Some(template) => Ok(Some((template.to_string(), path.clone()))),
        None => {
            Err(json
                .wrong("`chat_template` holds no template: accepted is a text or a list of {name, template}"))
        }
    }
}

/// `bos_token`, `eos_token` and the like, as the tokenizer's files spell them.
fn special_tokens(folder: &ModelFolder) -> Result<BTreeMap<String, String>> {
    let mut tokens = BTreeMap::new();
    for path in [&folder.tokenizer_config, &folder.special_tokens_map].into_iter().flatten() {
        let json = JsonFile::read(path)?;
        for name in
            ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"]
        {
            let token = json.get(name).and_then(|v| v.as_str().or_else(|| v["content"].as_str()));
            if let Some(token) = token {
                tokens.entry(name.to_string()).or_insert_with(|| token.to_string());
            }
        }
    }
    Ok(tokens)
}

/// A chat template, compiled, with Jinja as it expects it: whitespace as `transformers` sets it, Python's string
/// methods, two functions.
fn environment(template: String) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function("raise_exception", |message: String| -> Result<Jinja, minijinja::Error> {
        Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", |format: &str| strftime(format));
    environment.add_template_owned(CHAT, template)?;
    Ok(environment)
}

/// The date that templates get when they ask for today's: always the same, the one that Llama 3's template falls back
/// to, since a measurement must not depend on the day it is made, nor on a resume after midnight.
fn strftime(format: &str) -> Result<String, minijinja::Error> {
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(c) = characters.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        let field = characters.next();
        text.push_str(match field {
            Some('Y') => "2024",
            Some('y') => "24",
            Some('m') => "07",
            Some('B') => "July",
            Some('b') => "Jul",
            Some('d') => "26",
            Some('j') => "208",
            Some('A') => "Friday",
            Some('a') => "Fri",
            Some('H' | 'M' | 'S') => "00",
            Some('%') => "%",
            _ => {
                let message = format!("strftime_now does not know the field %{}", field.unwrap_or(' '));
                return Err(minijinja::Error::new(ErrorKind::InvalidOperation, message));
            }
        });
    }
    Ok(text)
}

/// `transformers` has a block of its own, `generation`, which marks text and changes none: made a block that Jinja knows.
fn plain_blocks(template: &str) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{%") {
        let (before, from) = rest.split_at(start + 2);
        let Some(end) = from.find("%}") else { break };
        let inside = &from[..end];
        text.push_str(before);
        match inside.trim_matches(['-', ' ', '\t', '\n']) {
            "generation" => text.push_str(&inside.replace("generation", " if true ")),
            "endgeneration" => text.push_str(&inside.replace("endgeneration", " endif ")),
            _ => text.push_str(inside),
        }
        rest = &from[end..];
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::model::Synthetic;

    fn folder(change: impl FnOnce(&Path)) -> (tempfile::TempDir, ModelFolder) {
        let dir = tempfile::tempdir().unwrap();
        Synthetic::default().write(dir.path()).unwrap();
        change(dir.path());
        let folder = ModelFolder::open(dir.path()).unwrap();
        (dir, folder)
    }

    fn with_config(chat_template: &Value) -> Result<String> {
        let (_dir, folder) = folder(|dir| {
            let config = json!({"bos_token": {"content": "<s>"}, "chat_template": chat_template});
            std::fs::write(dir.join("tokenizer_config.json"), config.to_string()).unwrap();
            std::fs::write(dir.join("special_tokens_map.json"), r#"{"eos_token": "</s>", "bos_token": "x"}"#)
                .unwrap();
        });
        PromptFormat::for_model(&folder, None)?.render("Do", "it")
    }

    #[test]
    fn the_smollm2_prompts_are_those_of_transformers() {
        let root = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        let root = root.join(".cache/secateur-test-models/smollm2-135m-instruct");
        let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
        let golden = shared.join("golden/tasks.json");
        let tasks = shared.join("data/tasks/squad_short.jsonl");
        for needed in [&root, &golden, &tasks] {
            if !needed.exists() {
                eprintln!("skipped the comparison with transformers' prompts: no {}", needed.display());
                return;
            }
        }
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
            let tokens = format.encode(&tokenizer, instruction, input).unwrap();
            assert_eq!(tokens.len() as u64, item["prompt_tokens"].as_u64().unwrap(), "{line}");
            let prompt = format.render(instruction, input).unwrap();
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
    fn chat_templates_that_fail_name_their_file_and_say_why() {
        for (template, why) in [
            (json!("{{ raise_exception('no system role') }}"), "no system role"),
            (json!("{% if %}"), "cannot be understood"),
            (json!(7), "holds no template"),
            (json!([]), "holds no template"),
            (json!("{{ strftime_now('%Q') }}"), "%Q"),
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
        let tokens = format.encode(&tokenizer, "Add.", "1 2").unwrap();
        assert_eq!((tokens[0], tokens.len()), (0, prompt.len() + 1));
    }

    #[test]
    fn chat_prompts_get_no_second_bos() {
        let chat_template = Some("{{ bos_token }}{{ messages[0].content }}".to_string());
        let dir = tempfile::tempdir().unwrap();
        Synthetic { chat_template, ..Synthetic::default() }.write(dir.path()).unwrap();
        let folder = ModelFolder::open(dir.path()).unwrap();
        let tokenizer = load_tokenizer(&folder.tokenizer).unwrap();
        let tokens = PromptFormat::for_model(&folder, None).unwrap().encode(&tokenizer, "ab", "").unwrap();
        assert_eq!((tokens[0], tokens.len()), (0, 3));
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
        fn any_chat_template_is_used_or_refused_but_never_a_panic(template in "(\\{%|%\\}|\\{\\{|\\}\\}|-| |generation|if|é|end|x){0,12}") {
            let _ = environment(plain_blocks(&template));
        }

        #[test]
        fn a_template_without_placeholders_within_stays_as_it_is(text in "[a-z{}é]{0,20}") {
            prop_assume!(!text.contains("{instruction}") && !text.contains("{input}"));
            prop_assert_eq!(fill(&format!("{text}{{instruction}}"), "X", "Y"), format!("{text}X"));
        }
    }
}
