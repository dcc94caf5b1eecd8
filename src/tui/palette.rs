//! The commands of the palette: the key table, by name.

use crate::tui::keymap::{Action, BINDINGS, Context};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PaletteCommand {
    pub context: Context,
    pub name: &'static str,
    pub action: Action,
}

/// Every command that makes sense by name: all but moves and typing.
pub(crate) fn commands() -> Vec<PaletteCommand> {
    let moves = |action: Action| {
        matches!(
            action,
            Action::Up
                | Action::Down
                | Action::Left
                | Action::Right
                | Action::PageUp
                | Action::PageDown
                | Action::First
                | Action::Last
                | Action::Confirm
                | Action::Palette
        )
    };
    let mut found: Vec<PaletteCommand> = Vec::new();
    for binding in BINDINGS.iter().filter(|binding| !moves(binding.action)) {
        let known = found.iter().any(|command| command.action == binding.action);
        if !known {
            found.push(PaletteCommand {
                context: binding.context,
                name: binding.help,
                action: binding.action,
            });
        }
    }
    found
}

/// The commands that contain all the typed words, those that begin with the first word in front.
pub(crate) fn matching(typed: &str) -> Vec<PaletteCommand> {
    let words: Vec<String> = typed.split_whitespace().map(str::to_lowercase).collect();
    let mut found: Vec<PaletteCommand> = commands()
        .into_iter()
        .filter(|command| {
            let text = format!("{} {}", command.context.title(), command.name).to_lowercase();
            words.iter().all(|word| text.contains(word.as_str()))
        })
        .collect();
    if let Some(first) = words.first() {
        found.sort_by_key(|command| !command.name.to_lowercase().starts_with(first.as_str()));
    }
    found
}
