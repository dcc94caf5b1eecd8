//! What records of multiple-choice sets look like: which fields they have, and the prompt that they make.
//!
//! [`CHOICE_FORMATS`] is the one table of them. Prompts are those of lm-evaluation-harness 0.4, to which
//! [`few_shot`](super::few_shot) adds examples; a file that has them filled in already is the first format.

use super::choice_record::{ChoiceForm, ChoiceRecord};
use super::field_names::FieldNames;
use super::omissions::Omission;
use super::records::Record;
use super::value::FieldValue;
use crate::error::Result;

/// A set of fields that a record has, and what becomes of them.
#[derive(Debug)]
pub(super) struct ChoiceFormat {
    /// The set that is published so; `None` for prompts that are filled in.
    pub set: Option<&'static str>,
    /// Every field has to be there.
    pub fields: &'static [&'static str],
    read: fn(&ChoiceFields<'_>) -> Read,
}

/// What a record gives, or why it is left out.
type Read = Result<std::result::Result<ChoiceRecord, Omission>>;

/// Every format that is known, in the order in which they are tried.
pub(super) static CHOICE_FORMATS: [ChoiceFormat; 11] = [
    // Prompts that are filled in.
    ChoiceFormat {
        set: None,
        fields: &["query", "choices", "gold"],
        read: |f| continuations(f.text("query")?, f.texts("choices")?, f.number("gold")?),
    },
    ChoiceFormat {
        set: None,
        fields: &["context_options", "continuation", "gold"],
        read: |f| {
            let form = ChoiceForm::Contexts {
                contexts: f.texts("context_options")?,
                continuation: f.text("continuation")?,
            };
            Ok(checked(form, f.number("gold")?))
        },
    },
    ChoiceFormat {
        set: None,
        fields: &["context", "continuation"],
        read: |f| {
            let form = ChoiceForm::LastWord { context: f.text("context")?, word: f.text("continuation")? };
            Ok(checked(form, Some(0)))
        },
    },
    ChoiceFormat {
        set: Some("ARC"),
        fields: &["question", "choices", "answerKey"],
        read: |f| {
            continuations(question_and_answer(&f.text("question")?), f.texts("choices.text")?, f.labelled()?)
        },
    },
    ChoiceFormat {
        set: Some("OpenBookQA"),
        fields: &["question_stem", "choices", "answerKey"],
        read: |f| continuations(f.text("question_stem")?, f.texts("choices.text")?, f.labelled()?),
    },
    // The letters are the choices.
    ChoiceFormat { set: Some("MMLU"), fields: &["question", "subject", "choices", "answer"], read: mmlu },
    ChoiceFormat {
        set: Some("HellaSwag"),
        fields: &["activity_label", "ctx_a", "ctx_b", "endings", "label"],
        read: hellaswag,
    },
    ChoiceFormat {
        set: Some("PIQA"),
        fields: &["goal", "sol1", "sol2", "label"],
        read: |f| {
            let choices = vec![f.text("sol1")?, f.text("sol2")?];
            continuations(question_and_answer(&f.text("goal")?), choices, f.number("label")?)
        },
    },
    ChoiceFormat {
        set: Some("WinoGrande"),
        fields: &["sentence", "option1", "option2", "answer"],
        read: winogrande,
    },
    // As SuperGLUE has it.
    ChoiceFormat {
        set: Some("BoolQ"),
        fields: &["passage", "question", "label"],
        read: |f| {
            let context = format!("{}\nQuestion: {}?\nAnswer:", f.text("passage")?, f.text("question")?);
            continuations(context, vec!["no".into(), "yes".into()], f.number("label")?)
        },
    },
    ChoiceFormat {
        set: Some("COPA"),
        fields: &["premise", "choice1", "choice2", "question", "label"],
        read: copa,
    },
];

impl ChoiceFormat {
    /// The question that a record is, or why it is left out.
    ///
    /// # Errors
    /// A field that is not what it has to be.
    pub fn read(&self, record: &Record, names: &FieldNames) -> Read {
        (self.read)(&ChoiceFields { record, names })
    }
}

/// A text and its last word, of records that have only the text (LAMBADA as it is published).
pub(super) fn last_word(text: &str) -> std::result::Result<ChoiceRecord, Omission> {
    let Some((context, word)) = text.trim_end().rsplit_once(' ') else { return Err(Omission::NoText) };
    checked(ChoiceForm::LastWord { context: context.to_owned(), word: word.to_owned() }, Some(0))
}

#[expect(clippy::unnecessary_wraps, reason = "what all formats give")]
fn continuations(context: String, choices: Vec<String>, gold: Option<usize>) -> Read {
    Ok(checked(ChoiceForm::Continuations { context, choices }, gold))
}

/// Test sets whose answers are not published have labels that are no choice.
fn checked(form: ChoiceForm, gold: Option<usize>) -> std::result::Result<ChoiceRecord, Omission> {
    let count = match &form {
        ChoiceForm::Continuations { choices, .. } => choices.len(),
        ChoiceForm::Contexts { contexts, .. } => contexts.len(),
        ChoiceForm::LastWord { .. } => 1,
    };
    match gold {
        Some(gold) if gold < count => Ok(ChoiceRecord::new(form, gold)),
        Some(_) => Err(Omission::NoSuchChoice),
        None => Err(Omission::Unanswered),
    }
}

fn question_and_answer(question: &str) -> String {
    format!("Question: {question}\nAnswer:")
}

fn mmlu(fields: &ChoiceFields<'_>) -> Read {
    const LETTERS: [&str; 10] = ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"];
    let subject = fields.text("subject")?.replace('_', " ");
    let description =
        format!("The following are multiple choice questions (with answers) about {subject}.\n\n");
    let mut context = format!("{}\n", fields.text("question")?.trim());
    let choices = fields.texts("choices")?;
    for (letter, choice) in LETTERS.iter().zip(&choices) {
        context += &format!("{letter}. {choice}\n");
    }
    context += "Answer:";
    let letters = LETTERS.iter().take(choices.len()).map(ToString::to_string).collect();
    let read = continuations(context, letters, fields.number("answer")?)?;
    Ok(read.map(|record| ChoiceRecord { description, ..record }))
}

fn hellaswag(fields: &ChoiceFields<'_>) -> Read {
    let context = format!(
        "{}: {} {}",
        fields.text("activity_label")?,
        fields.text("ctx_a")?,
        capitalised(&fields.text("ctx_b")?)
    );
    let endings = fields.texts("endings")?.iter().map(|ending| without_brackets(ending)).collect();
    continuations(without_brackets(&context), endings, fields.number("label")?)
}

/// Python's `capitalize`: the first letter upper case, all others lower case.
fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first: String = chars.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    first + &chars.as_str().to_lowercase()
}

/// `WikiHow`'s marks are taken out of `HellaSwag`'s texts.
fn without_brackets(text: &str) -> String {
    let text = text.trim().replace(" [title]", ". ");
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(open) = rest.find('[') {
        let Some(length) = rest[open..].find(']') else { break };
        kept += &rest[..open];
        rest = &rest[open + length + 1..];
    }
    kept += rest;
    kept.replace("  ", " ")
}

fn winogrande(fields: &ChoiceFields<'_>) -> Read {
    let sentence = fields.text("sentence")?;
    let Some((before, behind)) = sentence.split_once('_') else { return Ok(Err(Omission::NoText)) };
    let contexts = ["option1", "option2"].map(|option| Ok(format!("{before}{}", fields.text(option)?)));
    let form = ChoiceForm::Contexts {
        contexts: contexts.into_iter().collect::<Result<_>>()?,
        continuation: behind.trim().to_owned(),
    };
    // Answers count from 1.
    Ok(checked(form, fields.number("answer")?.and_then(|answer| answer.checked_sub(1))))
}

fn copa(fields: &ChoiceFields<'_>) -> Read {
    let premise = fields.text("premise")?;
    let premise = premise.trim();
    let premise = premise.strip_suffix('.').unwrap_or(premise);
    let connector = if fields.text("question")? == "cause" { "because" } else { "therefore" };
    let choice = |field: &str| -> Result<String> {
        let text = fields.text(field)?;
        let mut chars = text.chars();
        let first: String = chars.next().map(|c| c.to_lowercase().collect()).unwrap_or_default();
        // The harness puts a blank before the choice, beside the delimiter.
        Ok(format!(" {first}{}", chars.as_str()))
    };
    let choices = vec![choice("choice1")?, choice("choice2")?];
    continuations(format!("{premise} {connector}"), choices, fields.number("label")?)
}

/// A record with the names that its fields have in a file.
struct ChoiceFields<'a> {
    record: &'a Record,
    names: &'a FieldNames,
}

impl ChoiceFields<'_> {
    fn value(&self, field: &str) -> Result<FieldValue> {
        Ok(self.record.get(&self.names.of(field))?.unwrap_or(FieldValue::Null))
    }

    fn text(&self, field: &str) -> Result<String> {
        match self.value(field)? {
            FieldValue::Text(text) | FieldValue::Number(text) => Ok(text),
            other => Err(self.record.wrong_type(field, "a string", &other)),
        }
    }

    fn texts(&self, field: &str) -> Result<Vec<String>> {
        let wanted = "a list of strings";
        let value = self.value(field)?;
        let items = match self.record.unpacked(field, value)? {
            FieldValue::List(items) => items,
            other => return Err(self.record.wrong_type(field, wanted, &other)),
        };
        let text = |item| match item {
            FieldValue::Text(text) | FieldValue::Number(text) => Ok(text),
            other => Err(self.record.wrong_type(field, wanted, &other)),
        };
        items.into_iter().map(text).collect()
    }

    /// A number that counts choices; `None` for one that is no such number, as unpublished answers have it.
    fn number(&self, field: &str) -> Result<Option<usize>> {
        match self.value(field)? {
            FieldValue::Number(text) | FieldValue::Text(text) => Ok(text.trim().parse().ok()),
            FieldValue::Bool(yes) => Ok(Some(usize::from(yes))),
            FieldValue::Null => Ok(None),
            other => Err(self.record.wrong_type(field, "a number", &other)),
        }
    }

    /// The place of the label `answerKey` among the labels of the choices.
    fn labelled(&self) -> Result<Option<usize>> {
        let key = self.text("answerKey")?;
        Ok(self.texts("choices.label")?.iter().position(|label| *label == key))
    }
}
