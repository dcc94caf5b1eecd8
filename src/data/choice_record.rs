//! One question whose answer is judged by how likely the model finds it: multiple choice, or a last word.

/// What stands between a context and its continuation, as lm-evaluation-harness has it.
const DELIMITER: &str = " ";

/// One question with texts that may follow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChoiceRecord {
    /// What is read and what may follow.
    pub form: ChoiceForm,
    /// Place of the right choice among them, from 0.
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
    /// What the model is shown: pairs of a context and its continuation, delimiter included, a pair for each choice.
    pub fn requests(&self) -> Vec<(String, String)> {
        match &self.form {
            ChoiceForm::Continuations { context, choices } => {
                choices.iter().map(|choice| request(context, choice)).collect()
            }
            ChoiceForm::Contexts { contexts, continuation } => {
                contexts.iter().map(|context| request(context, continuation)).collect()
            }
            ChoiceForm::LastWord { context, word } => vec![request(context, word)],
        }
    }

    /// What people read: the question.
    pub fn prompt(&self) -> &str {
        match &self.form {
            ChoiceForm::Continuations { context, .. } | ChoiceForm::LastWord { context, .. } => context,
            ChoiceForm::Contexts { contexts, .. } => shared_beginning(contexts),
        }
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
        let record = ChoiceRecord {
            form: ChoiceForm::Continuations {
                context: "Question: Why?\nAnswer:".into(),
                choices: vec!["So.".into(), "né ".into()],
            },
            gold: 0,
        };
        let asked = "Question: Why?\nAnswer:".to_owned();
        assert_eq!(record.requests(), [(asked.clone(), " So.".into()), (asked, " né ".into())]);
        assert_eq!(record.characters(), Some(vec![3, 3]));
    }

    #[test]
    fn contexts_that_differ_have_one_continuation_and_no_lengths() {
        let contexts =
            vec!["Ann thanked Bob because Ann".to_owned(), "Ann thanked Bob because Bob".to_owned()];
        let form = ChoiceForm::Contexts { contexts, continuation: "had helped.".into() };
        let record = ChoiceRecord { form, gold: 1 };
        assert_eq!(record.requests()[1], ("Ann thanked Bob because Bob".into(), " had helped.".into()));
        assert_eq!(record.prompt(), "Ann thanked Bob because ");
        assert_eq!(record.choices(), ["Ann had helped.", "Bob had helped."]);
        assert_eq!(record.characters(), None);
    }

    #[test]
    fn blanks_at_the_end_of_a_context_are_continued() {
        let form = ChoiceForm::LastWord { context: "the end \n".into(), word: "now".into() };
        let record = ChoiceRecord { form, gold: 0 };
        assert_eq!(record.requests(), [("the end".into(), " \n now".into())]);
        assert!(record.is_last_word());
    }
}
