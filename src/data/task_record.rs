//! One question of a task.

use super::chat::ChatTurn;
use crate::alpaca;

/// One question with its accepted answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRecord {
    /// What is to be done. Of a conversation it is all of it, as people read it.
    pub instruction: String,
    /// What it is to be done with; often empty.
    pub input: String,
    /// The conversation that is to be continued, where the record is one; else empty.
    pub conversation: Vec<ChatTurn>,
    /// Accepted answers, at least one.
    pub references: Vec<String>,
}

impl TaskRecord {
    /// As a document: its Alpaca prompt with the first accepted answer behind it.
    pub(super) fn document(&self) -> String {
        let answer = self.references.first().map_or("", String::as_str);
        alpaca::document(&self.instruction, &self.input, answer)
    }
}
