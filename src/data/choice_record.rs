//! One question whose answer is judged by how likely the model finds it: multiple choice, or a last word.

use std::collections::BTreeSet;

/// What stands between a context and its continuation, as lm-evaluation-harness has it.
const DELIMITER: &str = " ";

/// What stands behind an example, as lm-evaluation-harness has it.
const EXAMPLE_DELIMITER: &str = "\n\n";

/// One question with texts that may follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceRecord {
    /// What is said once, before examples and question, with the blanks behind it; often nothing.
    pub description: String,
    /// Examples with their answers, each with the delimiter behind it; nothing unless they were asked for.
    pub examples: String,
    /// What is read and what may follow.
    pub form: ChoiceForm,
    /// Place of the right choice among them, from 0. Forms have that many.
    pub gold: usize,
}

/// What the choices of a question have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChoiceForm {
    /// One context; each choice is a continuation.
    Continuations {
        /// What is read first.
        context: String,
        /// The choices, without the delimiter.
        choices: Vec<String>,
    },
    /// One continuation; each choice is a context that ends in another way, as in `WinoGrande`.
    Contexts {
        /// The contexts, each up to the end of its option.
        contexts: Vec<String>,
        /// What follows each, without the delimiter.
        continuation: String,
    },
    /// One context and the one word that follows it, as in LAMBADA.
    LastWord {
        /// The text without its last word.
        context: String,
        /// The word, without the delimiter.
        word: String,
    },
}

impl ChoiceRecord {
    /// A question without description and examples.
    pub fn new(form: ChoiceForm, gold: usize) -> Self {
        Self { description: String::new(), examples: String::new(), form, gold }
    }

    /// What the model is shown: pairs of a context and its continuation, delimiter included, a pair for each choice.
    pub fn requests(&self) -> Vec<(String, String)> {
        let pair = |context: &str, continuation: &str| {
            request(&format!("{}{}{context}", self.description, self.examples), continuation)
        };
        match &self.form {
            ChoiceForm::Continuations { context, choices } => {
                choices.iter().map(|choice| pair(context, choice)).collect()
            }
            ChoiceForm::Contexts { contexts, continuation } => {
                contexts.iter().map(|context| pair(context, continuation)).collect()
            }
            ChoiceForm::LastWord { context, word } => vec![pair(context, word)],
        }
    }

    /// Puts examples before the question, in this order, each with its right answer.
    pub fn set_examples<'a>(&mut self, examples: impl IntoIterator<Item = &'a Self>) {
        self.examples = examples.into_iter().map(|record| record.answered() + EXAMPLE_DELIMITER).collect();
    }

    /// Whether another record has the same question, whatever its choices are.
    pub(crate) fn asks_the_same(&self, other: &Self) -> bool {
        fn contexts(form: &ChoiceForm) -> BTreeSet<&str> {
            match form {
                ChoiceForm::Continuations { context, .. } | ChoiceForm::LastWord { context, .. } => {
                    [context.as_str()].into()
                }
                ChoiceForm::Contexts { contexts, .. } => contexts.iter().map(String::as_str).collect(),
            }
        }
        contexts(&self.form) == contexts(&other.form)
    }

    /// The question with its right answer.
    fn answered(&self) -> String {
        match &self.form {
            ChoiceForm::Continuations { context, choices } => {
                format!("{context}{DELIMITER}{}", choices[self.gold])
            }
            ChoiceForm::Contexts { contexts, continuation } => {
                format!("{}{DELIMITER}{continuation}", contexts[self.gold])
            }
            // The word of an example has a blank of its own in the harness, beside the delimiter.
            ChoiceForm::LastWord { context, word } => format!("{context}{DELIMITER} {word}"),
        }
    }

    /// What people read: the question with its description, without examples.
    pub fn prompt(&self) -> String {
        let question = match &self.form {
            ChoiceForm::Continuations { context, .. } | ChoiceForm::LastWord { context, .. } => context,
            ChoiceForm::Contexts { contexts, .. } => shared_beginning(contexts),
        };
        format!("{}{question}", self.description)
    }

    /// The choices as people read them.
    pub fn choices(&self) -> Vec<String> {
        match &self.form {
            ChoiceForm::Continuations { choices, .. } => choices.clone(),
            ChoiceForm::Contexts { contexts, continuation } => {
                let shared = shared_beginning(contexts).len();
                contexts
                    .iter()
                    .map(|context| format!("{}{DELIMITER}{continuation}", &context[shared..]))
                    .collect()
            }
            ChoiceForm::LastWord { word, .. } => vec![word.clone()],
        }
    }

    /// Length of every choice in characters (Unicode scalar values), where longer ones are less likely for their length
    /// alone: `acc_norm` divides by it. `None` where all choices have one continuation.
    pub fn characters(&self) -> Option<Vec<usize>> {
        match &self.form {
            ChoiceForm::Continuations { choices, .. } => {
                Some(choices.iter().map(|choice| choice.chars().count()).collect())
            }
            ChoiceForm::Contexts { .. } | ChoiceForm::LastWord { .. } => None,
        }
    }

    /// Whether there is nothing to choose from: the word is right where greedy decoding gives it.
    pub fn is_last_word(&self) -> bool {
        matches!(self.form, ChoiceForm::LastWord { .. })
    }
}

/// Blanks at the end of the context go to the continuation, as tokenizers join them to the word behind.
fn request(context: &str, continuation: &str) -> (String, String) {
    let kept = context.trim_end();
    (kept.to_owned(), format!("{}{DELIMITER}{continuation}", &context[kept.len()..]))
}

/// What all texts begin with, up to the end of a word.
fn shared_beginning(texts: &[String]) -> &str {
    let Some((first, others)) = texts.split_first() else { return "" };
    let same = |other: &String| -> usize {
        first.chars().zip(other.chars()).take_while(|(a, b)| a == b).map(|(c, _)| c.len_utf8()).sum()
    };
    let shared = others.iter().map(same).min().unwrap_or(first.len());
    first[..shared].rfind(' ').map_or("", |blank| &first[..=blank])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_a_continuation_behind_the_delimiter() {
        let form = ChoiceForm::Continuations {
            context: "Question: Why?\nAnswer:".into(),
            choices: vec!["So.".into(), "né ".into()],
        };
        let record = ChoiceRecord::new(form, 0);
        let asked = "Question: Why?\nAnswer:".to_owned();
        assert_eq!(record.requests(), [(asked.clone(), " So.".into()), (asked, " né ".into())]);
        assert_eq!(record.characters(), Some(vec![3, 3]));
    }

    #[test]
    fn contexts_that_differ_have_one_continuation_and_no_lengths() {
        let contexts =
            vec!["Ann thanked Bob because Ann".to_owned(), "Ann thanked Bob because Bob".to_owned()];
        let form = ChoiceForm::Contexts { contexts, continuation: "had helped.".into() };
        let record = ChoiceRecord::new(form, 1);
        assert_eq!(record.requests()[1], ("Ann thanked Bob because Bob".into(), " had helped.".into()));
        assert_eq!(record.prompt(), "Ann thanked Bob because ");
        assert_eq!(record.choices(), ["Ann had helped.", "Bob had helped."]);
        assert_eq!(record.characters(), None);
    }

    #[test]
    fn blanks_at_the_end_of_a_context_are_continued() {
        let form = ChoiceForm::LastWord { context: "the end \n".into(), word: "now".into() };
        let record = ChoiceRecord::new(form, 0);
        assert_eq!(record.requests(), [("the end".into(), " \n now".into())]);
        assert!(record.is_last_word());
    }

    #[test]
    fn a_question_with_other_choices_is_the_same_question() {
        let question = |context: &str, choices: [&str; 2]| {
            let choices = choices.map(str::to_owned).into();
            ChoiceRecord::new(ChoiceForm::Continuations { context: context.into(), choices }, 0)
        };
        assert!(question("Why?", ["So.", "No."]).asks_the_same(&question("Why?", ["No.", "So."])));
        assert!(!question("Why?", ["So.", "No."]).asks_the_same(&question("When?", ["So.", "No."])));
        let gap = |contexts: [&str; 2]| {
            let contexts = contexts.map(str::to_owned).into();
            ChoiceRecord::new(ChoiceForm::Contexts { contexts, continuation: "fell.".into() }, 0)
        };
        assert!(
            gap(["It was A that", "It was B that"]).asks_the_same(&gap(["It was B that", "It was A that"]))
        );
    }

    #[test]
    fn examples_stand_between_description_and_question() {
        let question = |context: &str, gold: usize| {
            let choices = vec!["A".to_owned(), "B".to_owned()];
            let form = ChoiceForm::Continuations { context: context.into(), choices };
            ChoiceRecord { description: "About ice.\n\n".into(), ..ChoiceRecord::new(form, gold) }
        };
        let mut asked = question("Q3:", 0);
        assert_eq!(asked.requests()[1], ("About ice.\n\nQ3:".into(), " B".into()));
        asked.set_examples([&question("Q1:", 1), &question("Q2:", 0)]);
        let context = "About ice.\n\nQ1: B\n\nQ2: A\n\nQ3:";
        assert_eq!(asked.requests()[1], (context.into(), " B".into()));
        assert_eq!(asked.prompt(), "About ice.\n\nQ3:");
        // An empty question leaves blanks at the end of the examples, which go to the continuation as all do.
        let mut empty = question("", 0);
        empty.set_examples([&question("Q1:", 1)]);
        assert_eq!(empty.requests()[0], ("About ice.\n\nQ1: B".into(), "\n\n A".into()));
    }
}
