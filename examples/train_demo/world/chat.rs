//! The form that instructions have for the model.

use super::questions::Question;

/// Begins every conversation and every text.
pub const BEGIN: &str = "<|begin|>";
/// Stands before an instruction.
pub const USER: &str = "<|user|>";
/// Stands before an answer.
pub const ASSISTANT: &str = "<|assistant|>";
/// Ends an answer.
pub const END: &str = "<|end|>";

/// The chat template, in Jinja. A task's message is its instruction, an empty line and its input; the input is the story,
/// which this model reads before the instruction.
pub const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{% if message.role == 'assistant' %}\
    {{ '<|assistant|> ' + message.content + '<|end|>' }}{% else %}{% set parts = message.content.split('\\n\\n', 1) %}\
    {{ (parts[1] if parts|length > 1 else '') + '<|user|> ' + parts[0] }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}";

/// What the model is given to answer a question about a story.
pub fn prompt(story: &str, question: &str) -> String {
    format!("{BEGIN}{story}{USER} {question}{ASSISTANT}")
}

/// A story with questions and their answers, as the model is trained on it.
pub fn conversation(story: &str, questions: &[Question]) -> String {
    let mut parts = vec![BEGIN, story];
    for question in questions {
        parts.extend([USER, " ", &question.text, ASSISTANT, " ", &question.answer, END]);
    }
    parts.concat()
}
