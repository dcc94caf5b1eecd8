//! Shapes of records: which fields make a text, or a question with its accepted answers.
//!
//! [`SHAPES`] is the one table of them, and [`CHOICE_FORMATS`] that of multiple-choice sets, which are tried before. Of a
//! record the first shape counts that fits it; a new one is an entry there.

use std::cell::Cell;

use super::answers::accepted;
use super::chat::{self, ChatTurn};
use super::choice_formats::{self, CHOICE_FORMATS, ChoiceFormat};
use super::choice_record::ChoiceRecord;
use super::field_names::FieldNames;
use super::omissions::Omission;
use super::records::Record;
use super::source::Purpose;
use super::task_record::TaskRecord;
use super::value::FieldValue;
use crate::error::{Error, Result};

/// A set of fields that records have, and what they make.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// The field is a text. No task.
    Text(&'static str),
    /// A question with its answers.
    Pair {
        /// What is asked, or the conversation up to the answer.
        question: &'static str,
        /// What it is asked about; may be absent.
        context: Option<&'static str>,
        /// Fields with accepted answers, of which only the last has to be there. Tasks take the first that has some,
        /// texts the last.
        answers: &'static [&'static str],
        /// Answers stand within a structure, which tables hold as its JSON text. Of others no text is taken apart: what
        /// is accepted may well begin with a bracket.
        nested: bool,
    },
    /// A list of messages: the last one of the assistant is the answer to those before it.
    Chat(&'static str),
    /// A question with choices. No text.
    Choice(&'static ChoiceFormat),
    /// A text whose last word is asked for: the field is a text. Only of sets that are known to be meant so.
    LastWord(&'static str),
}

/// Every shape that is known, in the order in which they are tried.
pub(super) const SHAPES: [Shape; 7] = [
    Shape::Text("text"),
    // Alpaca, Self-Instruct and what was made after them; `references` are several accepted answers.
    Shape::Pair {
        question: "instruction",
        context: Some("input"),
        answers: &["references", "output"],
        nested: false,
    },
    // SQuAD: `answers` is {text: [...], answer_start: [...]}, with nothing in it for questions that the passage does not
    // answer (version 2). Others have a list of texts there, or of objects with a `text`.
    Shape::Pair { question: "question", context: Some("context"), answers: &["answers"], nested: true },
    // GSM8K and many more.
    Shape::Pair { question: "question", context: Some("context"), answers: &["answer"], nested: false },
    // As fine-tuning tools take it; either side may also be a list of messages.
    Shape::Pair { question: "prompt", context: None, answers: &["completion"], nested: false },
    // As chat templates take it.
    Shape::Chat("messages"),
    // ShareGPT: {from, value} instead of {role, content}.
    Shape::Chat("conversations"),
];

/// What is read of a record.
enum RecordContent {
    Text(String),
    Pair(TaskRecord),
    Choice(ChoiceRecord),
}

/// One record of a task.
#[derive(Debug)]
pub(super) enum TaskContent {
    /// A question that is answered in words.
    Question(TaskRecord),
    /// A question whose choices are compared.
    Choice(ChoiceRecord),
}

/// What a shape makes of a record.
enum Attempt {
    Fits(RecordContent),
    Omitted(Omission),
    /// The field that is missing, and whether the record has others of the shape.
    Lacks(String, bool),
}

/// The shapes that records of a file may have.
#[derive(Debug)]
pub(super) struct RecordShapes {
    purpose: Purpose,
    /// Each with the names that its fields have.
    shapes: Vec<(Shape, FieldNames)>,
    /// A record was read by names that the user gave.
    names_used: Cell<bool>,
}

impl RecordShapes {
    /// The shapes of texts or of tasks; those with fields that the user named come first.
    pub fn new(purpose: Purpose, names: &FieldNames) -> Self {
        let choices = CHOICE_FORMATS.iter().map(Shape::Choice);
        let usable = || match purpose {
            Purpose::Text => SHAPES.to_vec(),
            Purpose::LastWord => vec![Shape::LastWord("text")],
            Purpose::Task => choices.clone().chain(SHAPES.into_iter().filter(Shape::is_task)).collect(),
        };
        let named = usable().into_iter().filter(|shape| shape.fields().iter().any(|field| names.has(field)));
        let named = named.map(|shape| (shape, names.clone()));
        let shapes = named.chain(usable().into_iter().map(|shape| (shape, FieldNames::default()))).collect();
        Self { purpose, shapes, names_used: Cell::new(false) }
    }

    /// Whether a record was read by names that the user gave.
    pub fn names_used(&self) -> bool {
        self.names_used.get()
    }

    /// What is read of a record, or why it is left out.
    ///
    /// # Errors
    /// A mistake for a record that has no shape, or a field that is not what it has to be.
    fn read(&self, record: &Record) -> Result<Result<RecordContent, Omission>> {
        let (mut omission, mut lacking, mut lacking_of_choices) = (None, None, None);
        for (shape, names) in &self.shapes {
            match shape.read(record, names, self.purpose)? {
                Attempt::Fits(content) => {
                    self.names_used.set(self.names_used.get() || *names != FieldNames::default());
                    return Ok(Ok(content));
                }
                Attempt::Omitted(why) => omission = omission.or(Some(why)),
                Attempt::Lacks(field, near) if matches!(shape, Shape::Choice(_)) => {
                    nearest(&mut lacking_of_choices, field, near);
                }
                Attempt::Lacks(field, near) => nearest(&mut lacking, field, near),
            }
        }
        if let Some(why) = omission {
            return Ok(Err(why));
        }
        // Sets of choices have common names among their fields: a question in words is meant rather.
        let (near, near_choices) = (is_near(lacking.as_ref()), is_near(lacking_of_choices.as_ref()));
        let lacking = if near || !near_choices { lacking } else { lacking_of_choices };
        Err(self.no_shape(&record.location.to_string(), lacking, &record.names()))
    }

    /// The task that a record is, or why it is left out.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn task(&self, record: &Record) -> Result<Result<TaskContent, Omission>> {
        Ok(self.read(record)?.and_then(|content| match content {
            RecordContent::Pair(task) => Ok(TaskContent::Question(task)),
            RecordContent::Choice(choice) => Ok(TaskContent::Choice(choice)),
            // No shape of tasks makes a text.
            RecordContent::Text(_) => Err(Omission::Unanswered),
        }))
    }

    /// The document that a record is, or why it is left out.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn document(&self, record: &Record) -> Result<Result<String, Omission>> {
        Ok(self.read(record)?.and_then(|content| match content {
            RecordContent::Text(text) => Ok(text),
            RecordContent::Pair(task) => Ok(task.document()),
            // No shape of texts makes a choice.
            RecordContent::Choice(_) => Err(Omission::NoText),
        }))
    }

    /// The columns of a table to read: of all shapes that fit its names.
    ///
    /// # Errors
    /// A mistake where no shape fits.
    pub fn columns(&self, found: &[&str], label: &str) -> Result<Vec<String>> {
        let (mut columns, mut lacking) = (Vec::new(), None);
        for (shape, names) in &self.shapes {
            let there = |field: &str| column(found, &names.of(field));
            let required = shape.required(names);
            let missing = required.iter().find(|any| !any.iter().any(|field| there(field).is_some()));
            if let Some(field) = missing.and_then(|any| any.last()) {
                // Sets of choices have common names among their fields: a question in words is meant rather.
                if matches!(shape, Shape::Choice(_)) {
                    continue;
                }
                let near = required.iter().flatten().any(|field| there(field).is_some());
                nearest(&mut lacking, names.of(field), near);
            } else {
                columns.extend(shape.fields().into_iter().filter_map(there));
            }
        }
        if columns.is_empty() {
            return Err(self.no_shape(&format!("`{label}`"), lacking, found));
        }
        Ok(columns)
    }

    fn no_shape(&self, place: &str, lacking: Option<(String, bool)>, found: &[&str]) -> Error {
        /// Names that a message lists.
        const MOST_NAMES: usize = 20;
        let lacks = lacking.map_or_else(|| "every field".to_owned(), |(field, _)| format!("`{field}`"));
        let has = match found.len() {
            0 => "no field".to_owned(),
            n if n > MOST_NAMES => format!("{} and {} more", found[..MOST_NAMES].join(", "), n - MOST_NAMES),
            _ => found.join(", "),
        };
        let told = self.shapes.iter().filter(|(shape, _)| shape.set().is_none());
        let (choices, others): (Vec<_>, Vec<_>) =
            told.partition(|(shape, _)| matches!(shape, Shape::Choice(_)));
        let all = others.into_iter().chain(choices);
        let mut accepted: Vec<String> = all.map(|(shape, names)| shape.describe(names)).collect();
        let sets: Vec<&str> = self.shapes.iter().filter_map(|(shape, _)| shape.set()).collect();
        if !sets.is_empty() {
            accepted.push(format!("the fields of {} as they are published", sets.join(", ")));
        }
        let example = match self.purpose {
            Purpose::Text | Purpose::LastWord => "text=body",
            Purpose::Task => "instruction=q,output=a",
        };
        Error::mistake(format!(
            "{place} lacks {lacks}; it has {has}; a {} record has one of these: {}; --fields says what they are called \
             here: --fields {example}",
            self.purpose.noun(),
            accepted.join("; "),
        ))
    }
}

fn is_near(lacking: Option<&(String, bool)>) -> bool {
    lacking.is_some_and(|(_, near)| *near)
}

/// Keeps the field that is missing of the first shape that the record has other fields of, else of the first of all.
fn nearest(lacking: &mut Option<(String, bool)>, field: String, near: bool) {
    if !matches!(lacking, Some((_, known)) if *known || !near) {
        *lacking = Some((field, near));
    }
}

/// The column that a field is in: `answers.text` may be a part of `answers`.
fn column(found: &[&str], name: &str) -> Option<String> {
    let outer = name.split_once('.').map_or(name, |(outer, _)| outer);
    [name, outer].into_iter().find(|name| found.contains(name)).map(str::to_owned)
}

impl Shape {
    pub fn is_task(&self) -> bool {
        !matches!(self, Self::Text(_))
    }

    /// The set whose records alone look so, as it is published.
    fn set(&self) -> Option<&'static str> {
        match self {
            Self::Choice(format) => format.set,
            _ => None,
        }
    }

    /// Fields that must be there: of every list, one.
    fn required(&self, names: &FieldNames) -> Vec<Vec<&'static str>> {
        match *self {
            Self::Text(field) | Self::Chat(field) | Self::LastWord(field) => vec![vec![field]],
            Self::Choice(format) => format.fields.iter().map(|field| vec![*field]).collect(),
            Self::Pair { question, answers, .. } => vec![vec![question], answers_of(answers, names)],
        }
    }

    /// Every field that is looked at.
    pub fn fields(&self) -> Vec<&'static str> {
        match *self {
            Self::Text(field) | Self::Chat(field) | Self::LastWord(field) => vec![field],
            Self::Choice(format) => format.fields.to_vec(),
            Self::Pair { question, context, answers, .. } => {
                [question].into_iter().chain(context).chain(answers.iter().copied()).collect()
            }
        }
    }

    /// The fields for a message: `instruction, input (optional), references or output`.
    fn describe(&self, names: &FieldNames) -> String {
        match *self {
            Self::Text(field) | Self::Chat(field) | Self::LastWord(field) => names.of(field),
            Self::Choice(format) => format.fields.join(", "),
            Self::Pair { question, context, answers, .. } => {
                let context = context.map(|field| format!(", {} (optional)", names.of(field)));
                let answers: Vec<_> =
                    answers_of(answers, names).into_iter().map(|field| names.of(field)).collect();
                format!("{}{}, {}", names.of(question), context.unwrap_or_default(), answers.join(" or "))
            }
        }
    }

    fn read(&self, record: &Record, names: &FieldNames, purpose: Purpose) -> Result<Attempt> {
        match *self {
            Self::Text(field) => {
                let field = names.of(field);
                Ok(match record.get(&field)? {
                    None => Attempt::Lacks(field, false),
                    Some(FieldValue::Null) => Attempt::Omitted(Omission::Null(field)),
                    Some(FieldValue::Text(text)) => Attempt::Fits(RecordContent::Text(text)),
                    Some(other) => return Err(record.wrong_type(&field, "a string", &other)),
                })
            }
            Self::Chat(field) => read_chat(record, names.of(field)),
            Self::Choice(format) => read_choice(record, format, names),
            Self::LastWord(field) => {
                let field = names.of(field);
                Ok(match record.get(&field)? {
                    None => Attempt::Lacks(field, false),
                    Some(FieldValue::Text(text)) => attempt(choice_formats::last_word(&text)),
                    Some(FieldValue::Null) => Attempt::Omitted(Omission::Null(field)),
                    Some(other) => return Err(record.wrong_type(&field, "a string", &other)),
                })
            }
            Self::Pair { question, context, answers, nested } => {
                let answers = answers_of(answers, names).into_iter().map(|field| names.of(field));
                let pair = Pair {
                    question: names.of(question),
                    context: context.map(|field| names.of(field)),
                    answers: answers.collect(),
                    nested,
                };
                pair.read(record, purpose)
            }
        }
    }
}

/// The fields with answers; where the user named some of them, only those.
fn answers_of(fields: &[&'static str], names: &FieldNames) -> Vec<&'static str> {
    let named: Vec<_> = fields.iter().copied().filter(|field| names.has(field)).collect();
    if named.is_empty() { fields.to_vec() } else { named }
}

/// [`Shape::Pair`] with the names that its fields have in a file.
struct Pair {
    question: String,
    context: Option<String>,
    answers: Vec<String>,
    nested: bool,
}

/// What the fields with answers hold.
enum Answers {
    Some(Vec<String>),
    Omitted(Omission),
    Absent,
}

impl Pair {
    fn read(&self, record: &Record, purpose: Purpose) -> Result<Attempt> {
        let question = record.get(&self.question)?;
        let answers = self.references(record, purpose)?;
        let (question, references) = match (question, answers) {
            (None, answers) => {
                return Ok(Attempt::Lacks(self.question.clone(), !matches!(answers, Answers::Absent)));
            }
            (Some(_), Answers::Absent) => {
                return Ok(Attempt::Lacks(self.answers.last().cloned().unwrap_or_default(), true));
            }
            (Some(FieldValue::Null), _) => {
                return Ok(Attempt::Omitted(Omission::Null(self.question.clone())));
            }
            (Some(_), Answers::Omitted(why)) => return Ok(Attempt::Omitted(why)),
            (Some(question), Answers::Some(references)) => (question, references),
        };
        let input = match &self.context {
            None => String::new(),
            Some(field) => match record.get(field)? {
                None | Some(FieldValue::Null) => String::new(),
                Some(FieldValue::Text(text) | FieldValue::Number(text)) => text,
                Some(other) => return Err(record.wrong_type(field, "a string or a number", &other)),
            },
        };
        let conversation = match question {
            FieldValue::Text(instruction) | FieldValue::Number(instruction) => {
                return Ok(Attempt::Fits(RecordContent::Pair(TaskRecord {
                    instruction,
                    input,
                    conversation: Vec::new(),
                    references,
                })));
            }
            list @ FieldValue::List(_) if self.context.is_none() => {
                chat::turns(record, &self.question, list)?
            }
            other => return Err(record.wrong_type(&self.question, "a string or a number", &other)),
        };
        Ok(match conversation {
            Some(turns) => {
                Attempt::Fits(RecordContent::Pair(TaskRecord { input, ..asked(turns, references) }))
            }
            None => Attempt::Omitted(Omission::NoText),
        })
    }

    /// The answers of the first field that has some, or of the last.
    fn references(&self, record: &Record, purpose: Purpose) -> Result<Answers> {
        let mut read = Vec::with_capacity(self.answers.len());
        for field in &self.answers {
            let mut value = record.get(field)?;
            if self.nested && record.is_of_table {
                value = value.map(|value| record.unpacked(field, value)).transpose()?;
            }
            read.push(match value {
                None => Answers::Absent,
                Some(FieldValue::Null) => Answers::Omitted(Omission::Null(field.clone())),
                Some(value) => match accepted(record, field, value)? {
                    none if none.is_empty() => Answers::Omitted(Omission::Unanswered),
                    some => Answers::Some(some),
                },
            });
        }
        let has_some = |answers: &Answers| matches!(answers, Answers::Some(_));
        let some = match purpose {
            Purpose::Task | Purpose::LastWord => read.iter().position(has_some),
            Purpose::Text => read.iter().rposition(has_some),
        };
        // Without any, the last field that is there tells: null or empty.
        let is_there = |answers: &Answers| !matches!(answers, Answers::Absent);
        let place = some.or_else(|| read.iter().rposition(is_there)).or(read.len().checked_sub(1));
        Ok(place.map_or(Answers::Absent, |place| read.swap_remove(place)))
    }
}

fn read_choice(record: &Record, format: &ChoiceFormat, names: &FieldNames) -> Result<Attempt> {
    let found = record.names();
    let is_there = |field: &&&str| found.contains(*field);
    if let Some(missing) = format.fields.iter().find(|field| !is_there(field)) {
        let near = 2 * format.fields.iter().filter(is_there).count() > format.fields.len();
        return Ok(Attempt::Lacks((*missing).to_owned(), near));
    }
    Ok(attempt(format.read(record, names)?))
}

fn attempt(read: std::result::Result<ChoiceRecord, Omission>) -> Attempt {
    match read {
        Ok(choice) => Attempt::Fits(RecordContent::Choice(choice)),
        Err(why) => Attempt::Omitted(why),
    }
}

fn read_chat(record: &Record, field: String) -> Result<Attempt> {
    let Some(value) = record.get(&field)? else { return Ok(Attempt::Lacks(field, false)) };
    let value = record.unpacked(&field, value)?;
    if value == FieldValue::Null {
        return Ok(Attempt::Omitted(Omission::Null(field)));
    }
    let Some(turns) = chat::turns(record, &field, value)? else {
        return Ok(Attempt::Omitted(Omission::NoText));
    };
    Ok(match chat::split(turns) {
        (before, Some(answer)) if !before.is_empty() => {
            Attempt::Fits(RecordContent::Pair(asked(before, vec![answer])))
        }
        _ => Attempt::Omitted(Omission::Unanswered),
    })
}

/// The task that a conversation is, with the answers accepted behind it.
fn asked(conversation: Vec<ChatTurn>, references: Vec<String>) -> TaskRecord {
    TaskRecord {
        instruction: chat::transcript(&conversation),
        input: String::new(),
        conversation,
        references,
    }
}
