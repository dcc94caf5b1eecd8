//! What keys do on the study screen.

use crossterm::event::KeyEvent;

use crate::methods::Family;
use crate::methods::{USUAL_BITS, usual_format};
use crate::study::{Level, Sparsity};
use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::state::{
    Dialog, Field, FieldKind, Focus, GridSection, LevelDialog, Line, State, Typed, Wanted,
};

pub(crate) fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match state.form.focus {
        Focus::Fields => fields(state, action),
        Focus::Grid => grid(state, action),
    }
    Vec::new()
}

/// Keys that go into the field that is being edited; `None` when none is.
pub(crate) fn typing(state: &mut State, event: &KeyEvent) -> Option<Vec<Effect>> {
    let form = &mut state.form;
    let line = form.editing.as_mut()?;
    match line.key(event) {
        Typed::Keep => {
            let text = line.text().trim().to_owned();
            form.editing = None;
            form.set(form.current(), &text);
        }
        Typed::Drop => form.editing = None,
        Typed::Changed | Typed::Ignored => {}
    }
    Some(Vec::new())
}

fn fields(state: &mut State, action: Action) {
    let form = &mut state.form;
    let last = Field::ALL.len() - 1;
    match action {
        Action::Up => form.field = form.field.saturating_sub(1),
        Action::Down => form.field = (form.field + 1).min(last),
        Action::First => form.field = 0,
        Action::Last => form.field = last,
        Action::Left => {
            form.step(-1);
        }
        // A field without choices leads on to the grid.
        Action::Right if form.step(1) => {}
        Action::Right | Action::NextPane => form.focus = Focus::Grid,
        Action::Confirm => match form.current().kind() {
            FieldKind::Choice(_) => {
                form.step(1);
            }
            FieldKind::Text => form.editing = Some(Line::new(form.get(form.current()))),
        },
        _ => {}
    }
}

fn grid(state: &mut State, action: Action) {
    let form = &mut state.form;
    let (rows, columns) = (form.rows().len(), form.columns().len());
    let cursor = &mut form.grid.cursor;
    match action {
        Action::Up => {
            cursor.0 = cursor.0.saturating_sub(1);
            form.keep_column();
        }
        Action::Down => {
            cursor.0 = (cursor.0 + 1).min(rows.saturating_sub(1));
            form.keep_column();
        }
        Action::Left if cursor.1 == 0 => form.focus = Focus::Fields,
        Action::Left => cursor.1 -= 1,
        Action::Right => cursor.1 = (cursor.1 + 1).min(columns.saturating_sub(1)),
        Action::First => cursor.1 = 0,
        Action::Last => cursor.1 = columns.saturating_sub(1),
        Action::Toggle => form.toggle_cell(),
        Action::ToggleRow => form.toggle_row(),
        Action::ToggleColumn => form.toggle_column(),
        Action::ToggleAll => form.toggle_all(),
        Action::DropLevel => form.drop_level(),
        Action::AddLevel => {
            let here = form.columns().get(form.grid.cursor.1).copied().flatten();
            let sparsity = here.and_then(Level::sparsity).map_or(0.45, Sparsity::fraction);
            let percent = ((sparsity * 100.0).round() as u16 + 5).min(99);
            let family = match form.section() {
                GridSection::Family(family) => family,
                GridSection::Recipes => Family::Prune,
            };
            let seed = form.seed();
            state.dialogs.push(Dialog::Level(LevelDialog {
                wanted: Wanted::Column,
                family,
                percent,
                bits: USUAL_BITS,
                format: usual_format(),
                line: Line::default(),
                rows: Vec::new(),
                row: 0,
                seed,
                fault: None,
            }));
        }
        Action::NextPane => form.focus = Focus::Fields,
        _ => {}
    }
}
