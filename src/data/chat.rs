//! Conversations: lists of messages, each with who says it.

use std::collections::BTreeMap;

use super::records::Record;
use super::value::FieldValue;
use crate::error::Result;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatTurn {
    /// Who says it, as chat templates call them: `system`, `user`, `assistant` or another.
    pub role: String,
    pub(crate) content: String,
}

const ASSISTANT: &str = "assistant";

/// What `from` says in ShareGPT's files, and who that is for a chat template.
const SPEAKERS: [(&str, &str); 4] =
    [("human", "user"), ("gpt", ASSISTANT), ("chatgpt", ASSISTANT), ("bot", ASSISTANT)];

/// Whether a value has the fields of a message.
pub(super) fn is_message(value: &FieldValue) -> bool {
    matches!(value, FieldValue::Object(fields) if fields.contains_key("role") || fields.contains_key("from"))
}

/// The messages of a field; `None` where one of them has no text, as one that calls a tool.
///
/// # Errors
/// A mistake for what is not a list of messages.
pub(super) fn turns(record: &Record, field: &str, value: FieldValue) -> Result<Option<Vec<ChatTurn>>> {
    let items = match value {
        FieldValue::List(items) => items,
        other => return Err(record.wrong_type(field, "a list of messages", &other)),
    };
    let mut turns = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        let wrong = |why: &str| {
            record.wrong(
                field,
                &format!("message {}: {why}; a message is {{role, content}} or {{from, value}}", index + 1),
            )
        };
        let FieldValue::Object(mut message) = item else {
            return Err(wrong(&format!("found {}", item.kind())));
        };
        let role = match take(&mut message, ["role", "from"]) {
            Some(FieldValue::Text(role)) => role,
            Some(other) => {
                return Err(wrong(&format!("who says it must be a string, found {}", other.kind())));
            }
            None => return Err(wrong("there is no role")),
        };
        let content = match take(&mut message, ["content", "value"]) {
            None | Some(FieldValue::Null) => return Ok(None),
            Some(FieldValue::Text(content) | FieldValue::Number(content)) => content,
            Some(FieldValue::List(parts)) => match parts_of_text(parts) {
                Some(content) => content,
                None => return Ok(None),
            },
            Some(other) => {
                return Err(wrong(&format!("what is said must be a string, found {}", other.kind())));
            }
        };
        let known = SPEAKERS.iter().find(|(speaker, _)| *speaker == role);
        turns.push(ChatTurn { role: known.map_or(role, |(_, role)| (*role).to_owned()), content });
    }
    Ok(Some(turns))
}

fn take(message: &mut BTreeMap<String, FieldValue>, names: [&str; 2]) -> Option<FieldValue> {
    names.into_iter().find_map(|name| message.remove(name))
}

/// The text of a message that comes in parts; `None` where one is a picture or the like.
fn parts_of_text(parts: Vec<FieldValue>) -> Option<String> {
    let text = |part| match part {
        FieldValue::Text(text) => Some(text),
        FieldValue::Object(mut part) => match part.remove("text") {
            Some(FieldValue::Text(text)) => Some(text),
            _ => None,
        },
        _ => None,
    };
    parts.into_iter().map(text).collect()
}

/// What comes before the assistant's last message, and that message.
pub(super) fn split(mut turns: Vec<ChatTurn>) -> (Vec<ChatTurn>, Option<String>) {
    let Some(last) = turns.iter().rposition(|turn| turn.role == ASSISTANT) else { return (turns, None) };
    let answer = turns.swap_remove(last).content;
    turns.truncate(last);
    (turns, Some(answer))
}

/// A conversation as one text: a single question as it is, under what the system says; more than one message with who
/// says each.
pub(super) fn transcript(turns: &[ChatTurn]) -> String {
    let is_system = |turn: &&ChatTurn| turn.role == "system";
    let said = turns.iter().filter(|turn| !is_system(turn)).count();
    let line = |turn: &ChatTurn| {
        if said < 2 || turn.role == "system" {
            return turn.content.clone();
        }
        let mut role = turn.role.chars();
        let first = role.next().map(char::to_uppercase).into_iter().flatten();
        format!("{}{}: {}", first.collect::<String>(), role.as_str(), turn.content)
    };
    turns.iter().map(line).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(said: &[(&str, &str)]) -> Vec<ChatTurn> {
        said.iter()
            .map(|(role, content)| ChatTurn { role: (*role).into(), content: (*content).into() })
            .collect()
    }

    #[test]
    fn the_last_answer_is_the_reference_and_what_follows_it_is_dropped() {
        let chat = [("user", "A?"), ("assistant", "a"), ("user", "B?"), ("assistant", "b"), ("user", "C?")];
        let (before, answer) = split(turns(&chat));
        assert_eq!(before, turns(&chat[..3]));
        assert_eq!(answer.as_deref(), Some("b"));
        assert_eq!(split(turns(&chat[..1])), (turns(&chat[..1]), None));
    }

    #[test]
    fn a_transcript_says_who_speaks_only_where_it_is_not_plain() {
        assert_eq!(transcript(&turns(&[("user", "A?")])), "A?");
        assert_eq!(transcript(&turns(&[("system", "Be brief."), ("user", "A?")])), "Be brief.\n\nA?");
        assert_eq!(
            transcript(&turns(&[("system", "S"), ("user", "A?"), ("assistant", "a"), ("user", "B?")])),
            "S\n\nUser: A?\n\nAssistant: a\n\nUser: B?"
        );
    }
}
