//! What keys do to the comparison.

use crossterm::event::{KeyCode, KeyEvent};

use super::axis::XAxis;
use super::charted::of_tasks;
use super::data::{Comparison, comparison};
use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::screens::{show, toast_error};
use crate::tui::state::{CompareView, Dialog, Line, Panel, RowKey, Screen, SortBy, State, Typed};

const PAGE: isize = 10;

pub(crate) fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::Confirm => return confirm(state),
        Action::Pin => return pin(state),
        Action::NextCorpus => return next_corpus(state),
        Action::NextAxis => return next_axis(state),
        Action::CompareTwo => return compare_two(state),
        Action::RankCorrelations if state.study_view.is_some() => {
            state.dialogs.push(Dialog::RankCorrelations(0));
            return Vec::new();
        }
        Action::ChooseColumns if state.study_view.is_some() => {
            state.dialogs.push(Dialog::Columns(0));
            return Vec::new();
        }
        _ => {}
    }
    // Only some of the state's fields are borrowed, so that the view can change beside them.
    let Some(study_view) = &state.study_view else { return Vec::new() };
    let found = Comparison::new(study_view, &state.overlays, &state.compare);
    let view = &mut state.compare;
    match action {
        Action::Left => step(&found, view, false),
        Action::Right => step(&found, view, true),
        Action::Up => choose(&found, view, |at| at.saturating_sub(1)),
        Action::Down => choose(&found, view, |at| at + 1),
        Action::PageUp => choose(&found, view, |at| at.saturating_add_signed(-PAGE)),
        Action::PageDown => choose(&found, view, |at| at.saturating_add_signed(PAGE)),
        Action::First => choose(&found, view, |_| 0),
        Action::Last => choose(&found, view, |_| usize::MAX),
        Action::NextScore => view.score = view.score.next(&of_tasks(&found.scores)),
        Action::Relative => view.relative = !view.relative,
        Action::NextPanel => {
            view.panel = match view.panel {
                Panel::Perplexity => Panel::Divergence,
                Panel::Divergence => Panel::Scores,
                Panel::Scores => Panel::Table,
                _ => Panel::Perplexity,
            }
        }
        Action::ZoomIn => zoom(&found, view, 0.5),
        Action::ZoomOut => zoom(&found, view, 2.0),
        Action::ZoomReset => view.zoom = None,
        Action::Sort => {
            view.sort = next_column(&found, view);
            view.descending = false;
        }
        Action::SortReverse => view.descending = !view.descending,
        Action::Filter => view.typing = Some(Line::new(&view.kept)),
        Action::ClearFilter => view.kept.clear(),
        _ => {}
    }
    Vec::new()
}

/// Keys that go into the filter; `None` when none is being typed.
pub(crate) fn typing(state: &mut State, event: &KeyEvent) -> Option<Vec<Effect>> {
    let view = &mut state.compare;
    let line = view.typing.as_mut()?;
    match line.key(event) {
        Typed::Keep => {
            view.kept = line.text().trim().to_owned();
            view.typing = None;
        }
        Typed::Drop => {
            view.kept.clear();
            view.typing = None;
        }
        Typed::Changed => {}
        // The table can be walked while its filter is typed.
        Typed::Ignored => match event.code {
            KeyCode::Up => return Some(act(state, Action::Up)),
            KeyCode::Down => return Some(act(state, Action::Down)),
            _ => {}
        },
    }
    Some(Vec::new())
}

/// The column after this one; behind the last comes the order of the grid.
fn next_column(found: &Comparison<'_>, view: &CompareView) -> Option<SortBy> {
    let columns = view.columns(&found.scores);
    let Some(sort) = view.sort else { return columns.first().copied() };
    let at = columns.iter().position(|column| *column == sort)?;
    columns.get(at + 1).copied()
}

/// Moves the cursor to the next place that there is. The selection follows along its series, to the cell that has the
/// place for itself, or to the best cell up to a size.
fn step(found: &Comparison<'_>, view: &mut CompareView, right: bool) {
    let Some(at) = found.cursor(view.cursor) else { return };
    let next =
        if right { found.xs.iter().find(|x| **x > at) } else { found.xs.iter().rev().find(|x| **x < at) };
    let Some(&x) = next else { return };
    put_cursor(found, view, x);
    let (order, _) = found.table(view);
    let there = |i: &usize| found.rows[*i].x == Some(x) && order.contains(i);
    let beside = match found.axis {
        XAxis::Cells { .. } => (0..found.rows.len()).find(there),
        XAxis::Sparsity => {
            let chosen = view.selected.as_ref().and_then(|key| found.row(key)).and_then(|row| row.series);
            let series = chosen.and_then(|series| found.series.get(series));
            series.and_then(|series| series.rows.iter().copied().find(there))
        }
        XAxis::BitsPerWeight | XAxis::Size { .. } => found.best(view, x, |i| order.contains(&i)),
    };
    if let Some(i) = beside {
        view.selected = Some(found.rows[i].key.clone());
    }
}

/// Puts the cursor on a place of the x axis; a zoom that does not show it moves along.
fn put_cursor(found: &Comparison<'_>, view: &mut CompareView, x: f64) {
    view.cursor = Some(x);
    let Some((low, high)) = view.zoom else { return };
    if (low..=high).contains(&x) {
        return;
    }
    // A little of what lies beyond is shown too.
    let room = (high - low) * 0.15;
    let by = if x < low { x - room - low } else { x + room - high };
    view.zoom = Some(within(found.range(), (low + by, high + by)));
}

/// A span moved into another, and cut where it is longer.
fn within((least, most): (f64, f64), (low, high): (f64, f64)) -> (f64, f64) {
    let by = (least - low).max(0.0) - (high - most).max(0.0);
    ((low + by).max(least), (high + by).min(most))
}

/// Selects another row of the table; the cursor goes to its place.
fn choose(found: &Comparison<'_>, view: &mut CompareView, to: impl FnOnce(usize) -> usize) {
    let (order, _) = found.table(view);
    let Some(last) = order.len().checked_sub(1) else { return };
    let row = &found.rows[order[to(found.selected(view, &order)).min(last)]];
    view.selected = Some(row.key.clone());
    if let Some(x) = row.x {
        put_cursor(found, view, x);
    }
}

/// Shows `factor` times as much of the x axis; the cursor keeps its place on screen as far as there is something to
/// show.
fn zoom(found: &Comparison<'_>, view: &mut CompareView, factor: f64) {
    let (least, most) = found.range();
    let Some(at) = found.cursor(view.cursor) else { return };
    let (low, high) = found.window(view.zoom);
    let at = at.clamp(low, high);
    let length = (high - low) * factor;
    // Halving and doubling come back to all of it but for rounding.
    if length > (most - least) * 0.999 {
        view.zoom = None;
    } else if length >= found.axis.narrowest((least, most)) {
        view.zoom = Some(within((least, most), (at - (at - low) * factor, at + (high - at) * factor)));
    }
}

/// Shows the cells over the next quantity. The cursor stays on the selected cell; the zoom was one of the old axis.
fn next_axis(state: &mut State) -> Vec<Effect> {
    let view = &mut state.compare;
    view.x = view.x.next();
    (view.cursor, view.zoom) = (None, None);
    let place = comparison(state).and_then(|found| found.row(state.compare.selected.as_ref()?)?.x);
    state.compare.cursor = place;
    Vec::new()
}

fn next_corpus(state: &mut State) -> Vec<Effect> {
    let corpora = comparison(state).map_or(0, |found| found.corpora.len());
    if corpora < 2 {
        return toast_error(state, "the study has only one corpus");
    }
    state.compare.corpus = (state.compare.corpus + 1) % corpora;
    Vec::new()
}

fn pin(state: &mut State) -> Vec<Effect> {
    let Some(found) = comparison(state) else { return Vec::new() };
    let (order, _) = found.table(&state.compare);
    let Some(&row) = order.get(found.selected(&state.compare, &order)) else { return Vec::new() };
    let key = found.rows[row].key.clone();
    if key.cell.is_none() {
        return toast_error(state, "the base is always on top: select a cell to pin");
    }
    let pinned = &mut state.compare.pinned;
    match pinned.iter().position(|pinned| *pinned == key) {
        Some(at) => _ = pinned.remove(at),
        None => pinned.push(key.clone()),
    }
    state.compare.selected = Some(key);
    Vec::new()
}

/// Compares two models record by record: the first two that are pinned; the pinned one and the selected one; the base and
/// the selected one.
fn compare_two(state: &mut State) -> Vec<Effect> {
    const BASE: &str = crate::scores::BASE;
    let Some(found) = comparison(state) else { return toast_error(state, "no study is open") };
    let (order, _) = found.table(&state.compare);
    let selected = order.get(found.selected(&state.compare, &order)).map(|&row| found.rows[row].key.clone());
    let Some(study) = found.rows.first().map(|row| row.key.study) else { return Vec::new() };
    let own = |key: &&RowKey| key.study == study;
    let pinned: Vec<String> =
        state.compare.pinned.iter().filter(own).filter_map(|key| key.cell.clone()).collect();
    let selected = selected.filter(|key| key.study == study).and_then(|key| key.cell);
    let (a, b) = match (&pinned[..], selected) {
        ([a, b, ..], _) => (a.clone(), b.clone()),
        ([a], Some(b)) if *a != b => (a.clone(), b),
        ([a], _) => (BASE.to_owned(), a.clone()),
        ([], Some(b)) => (BASE.to_owned(), b),
        ([], None) => return toast_error(state, "select a cell of this study, or pin two with Space"),
    };
    vec![Effect::CompareTwo { study, a, b }]
}

/// Goes to the answers and modules of the selected cell.
fn confirm(state: &mut State) -> Vec<Effect> {
    let Some(found) = comparison(state) else {
        return toast_error(state, "no study is open: press r to run one, or 5 to open one");
    };
    let (order, _) = found.table(&state.compare);
    let Some(&row) = order.get(found.selected(&state.compare, &order)) else { return Vec::new() };
    let row = &found.rows[row];
    if row.overlay {
        let why = format!("study {} is an overlay: open it on History to inspect its cells", row.key.study);
        return toast_error(state, &why);
    }
    let Some(cell) = row.key.cell.clone() else {
        return toast_error(state, "cells are compared with the base: select a cell to inspect");
    };
    state.inspect.choose(&cell);
    show(state, Screen::Inspect)
}
