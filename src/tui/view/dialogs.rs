//! What stands in front of the screen.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Flex, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph, Widget};
use unicode_width::UnicodeWidthStr;

use super::parts::{first_shown, framed, typed, typed_with};
use crate::methods::{Family, METHODS, understand};
use crate::report;
use crate::scores::comparison::ModelComparison;
use crate::scores::verdict;
use crate::study::{Level, short_name};
use crate::tui::keymap::{self, Context};
use crate::tui::palette::matching;
use crate::tui::screens::compare::optional_columns;
use crate::tui::state::{
    CommandPalette, Dialog, LevelDialog, Prompt, QuestionDialog, SearchDialog, State, Wanted,
};
use crate::tui::widgets::Slider;
use crate::tui::widgets::text::{self, sanitize, truncate, wrap};

/// Draws a dialog in the middle of the screen.
pub(crate) fn draw(state: &State, dialog: &Dialog, area: Rect, buffer: &mut Buffer) {
    match dialog {
        Dialog::Help(scroll) => help(state, *scroll, area, buffer),
        Dialog::Comparison(found, scroll) => differences(state, found, *scroll, area, buffer),
        Dialog::RankCorrelations(scroll) => rank_correlations(state, *scroll, area, buffer),
        Dialog::Columns(chosen) => columns(state, *chosen, area, buffer),
        Dialog::Palette(palette) => commands(state, palette, area, buffer),
        Dialog::Level(chooser) => level(state, chooser, area, buffer),
        Dialog::Question(asked) => question(state, asked, area, buffer),
        Dialog::Prompt(asked) => prompt(state, asked, area, buffer),
        Dialog::Search(asked) => search(state, asked, area, buffer),
    }
}

/// Clears a place of this size in the middle and frames it; returns what is inside.
fn place(state: &State, title: &str, size: (usize, usize), area: Rect, buffer: &mut Buffer) -> Rect {
    let (width, height) = (size.0 as u16 + 4, size.1 as u16 + 2);
    let width = width.min(area.width);
    let [column] = Layout::horizontal([Constraint::Length(width)]).flex(Flex::Center).areas(area);
    let [place] =
        Layout::vertical([Constraint::Length(height.min(area.height))]).flex(Flex::Center).areas(column);
    Clear.render(place, buffer);
    let inner = framed(&state.theme, title, true, place, buffer);
    Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner }
}

fn help_lines(state: &State) -> Vec<Line<'static>> {
    let theme = &state.theme;
    let names = |b: &keymap::Binding| keymap::names(b, theme.ascii);
    let wide = keymap::BINDINGS.iter().map(|b| names(b).width()).max().unwrap_or(0);
    let mut lines = Vec::new();
    // The keys of the screen in front come first.
    let here = state.context();
    let others = Context::ALL.into_iter().filter(|context| *context != here);
    for context in std::iter::once(here).chain(others) {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        lines.push(Line::styled(context.title(), theme.title()));
        for binding in keymap::of(context) {
            let keys = names(binding);
            let blank = " ".repeat(wide - keys.width() + 2);
            lines.push(Line::from(vec![
                Span::raw("  "),
                Span::styled(keys, theme.key()),
                Span::raw(blank),
                Span::raw(binding.help),
            ]));
        }
    }
    lines
}

fn help(state: &State, scroll: usize, area: Rect, buffer: &mut Buffer) {
    let lines = help_lines(state);
    let wide = lines.iter().map(Line::width).max().unwrap_or(0);
    let height = lines.len().min(usize::from(area.height).saturating_sub(4));
    let inner = place(state, "Keys (arrows scroll, any other key closes)", (wide, height), area, buffer);
    let first = scroll.min(lines.len().saturating_sub(inner.height.into()));
    Paragraph::new(lines).scroll((first as u16, 0)).render(inner, buffer);
}

/// The same text that `secateur compare` prints, as wide as there is room.
fn differences(state: &State, found: &ModelComparison, scroll: usize, area: Rect, buffer: &mut Buffer) {
    let wide = usize::from(area.width).saturating_sub(4);
    let text = report::comparison(found, wide);
    long_text(state, "A against B (arrows scroll, any other key closes)", &text, scroll, area, buffer);
}

/// The same table that a report has, and how to read it.
fn rank_correlations(state: &State, scroll: usize, area: Rect, buffer: &mut Buffer) {
    let Some(study_view) = &state.study_view else { return };
    let wide = usize::from(area.width).saturating_sub(4);
    let (found, ascii) = (&study_view.rank_correlations, state.theme.ascii);
    let mut parts = vec![wrap(&verdict::sentence(found, ascii), wide).join("\n")];
    if let Some(table) = report::rank_correlations::text(found, wide, ascii) {
        parts.push(table.trim_end().to_owned());
        parts.push(wrap(report::rank_correlations::LEGEND, wide).join("\n"));
    }
    let title = "Rank correlations (arrows scroll, any other key closes)";
    long_text(state, title, &parts.join("\n\n"), scroll, area, buffer);
}

/// Lines in a place as wide as the screen, from so many on.
fn long_text(state: &State, title: &str, text: &str, scroll: usize, area: Rect, buffer: &mut Buffer) {
    let wide = usize::from(area.width).saturating_sub(4);
    let lines: Vec<Line<'_>> = text.lines().map(|line| Line::raw(sanitize(line).into_owned())).collect();
    let height = lines.len().min(usize::from(area.height).saturating_sub(2));
    let inner = place(state, title, (wide, height), area, buffer);
    let first = scroll.min(lines.len().saturating_sub(inner.height.into()));
    Paragraph::new(lines).scroll((first as u16, 0)).render(inner, buffer);
}

fn commands(state: &State, palette: &CommandPalette, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let found = matching(palette.line.text());
    let inner = place(state, "Commands", (70, 16), area, buffer);
    let [typing, list] = Layout::vertical([Constraint::Length(2), Constraint::Min(0)]).areas(inner);
    let mut line = typed(state, &palette.line, usize::from(typing.width).saturating_sub(2));
    line.spans.insert(0, Span::styled(format!("{} ", theme.symbols().chevron), theme.accent()));
    line.render(typing, buffer);
    if found.is_empty() {
        Line::styled("no matching command", theme.dim()).render(list, buffer);
        return;
    }
    let rows = usize::from(list.height);
    let first = first_shown(palette.chosen, found.len(), rows);
    for (row, command) in found.iter().skip(first).take(rows).enumerate() {
        let place = Rect { y: list.y + row as u16, height: 1, ..list };
        let keys = keymap::BINDINGS.iter().find(|b| b.action == command.action);
        let key = keys.map_or_else(String::new, |b| b.keys[0].name(theme.ascii));
        let line = Line::from(vec![
            Span::styled(format!("{key:<9} "), theme.key()),
            Span::raw(command.name),
            Span::styled(format!("  {}", command.context.title()), theme.dim()),
        ]);
        line.render(place, buffer);
        if first + row == palette.chosen {
            buffer.set_style(place, theme.selected());
        }
    }
}

/// The columns of the comparison, each with whether the table has it.
fn columns(state: &State, chosen: usize, area: Rect, buffer: &mut Buffer) {
    let (theme, symbols) = (&state.theme, state.theme.symbols());
    let found = optional_columns(state);
    let height = (found.len() + 2).min(usize::from(area.height).saturating_sub(4));
    let inner = place(state, "Columns", (52, height), area, buffer);
    let [list, _, keys] =
        Layout::vertical([Constraint::Min(0), Constraint::Length(1), Constraint::Length(1)]).areas(inner);
    let rows = usize::from(list.height);
    let first = first_shown(chosen, found.len(), rows);
    for (row, column) in found.iter().skip(first).take(rows).enumerate() {
        let place = Rect { y: list.y + row as u16, height: 1, ..list };
        let shown = !state.compare.hidden.contains(column);
        let sign = if shown { symbols.radio_on } else { symbols.radio_off };
        let style = if shown { theme.text() } else { theme.dim() };
        Line::styled(format!("{sign} {}", column.label()), style).render(place, buffer);
        if first + row == chosen {
            buffer.set_style(place, theme.selected());
        }
    }
    let words = "Space shows or hides, A shows all, Esc closes";
    Line::styled(words, theme.dim()).render(keys, buffer);
}

fn level(state: &State, chooser: &LevelDialog, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let (title, rows) = match chooser.wanted {
        Wanted::Column if chooser.recipe().is_some() => ("Add a recipe", 0),
        Wanted::Column if chooser.family() == Family::Quantise => ("Add bits", 0),
        Wanted::Column if chooser.family() == Family::Format => ("Add a format", 0),
        Wanted::Column if chooser.family() == Family::Structure => ("Add a share or a number of blocks", 0),
        Wanted::Column => ("Add a sparsity", 0),
        Wanted::Cell => ("Add a cell", chooser.rows.len().min(6) + 1),
    };
    let inner = place(state, title, (66, 8 + rows), area, buffer);
    let line = |y: usize| Rect {
        y: (inner.y + y as u16).min(inner.bottom()),
        height: u16::from(inner.y + (y as u16) < inner.bottom()),
        ..inner
    };
    if chooser.wanted == Wanted::Cell {
        let shown = rows.saturating_sub(1);
        let first = first_shown(chooser.row, chooser.rows.len(), shown);
        for (i, row) in chooser.rows.iter().enumerate().skip(first).take(shown) {
            let on = i == chooser.row;
            let symbols = theme.symbols();
            let radio = if on { symbols.radio_on } else { symbols.radio_off };
            let text = format!("{radio} {}", row.label());
            let text = truncate(&text, inner.width.into(), symbols.ellipsis).into_owned();
            Line::styled(text, if on { theme.selected() } else { theme.text() })
                .render(line(i - first), buffer);
        }
    }
    let recipe = chooser.recipe().is_some();
    if !recipe {
        let (value, percent) = slider(chooser);
        Slider::new(theme, percent).shown(value).focused(true).render(line(rows), buffer);
    }
    let levels = match chooser.family() {
        Family::Prune => "37.5, 2:4",
        Family::Quantise => "4",
        Family::Format => "q4_k",
        Family::Structure => "25, 8blocks",
    };
    // A recipe is long: it gets the room.
    let hint = if recipe { "recipe: ".to_owned() } else { format!("or type {levels} or a recipe: ") };
    let room = usize::from(inner.width).saturating_sub(hint.len());
    let proposed = chooser.proposed();
    let mut typing = if proposed.is_empty() {
        typed(state, &chooser.line, room)
    } else {
        typed_with(state, &chooser.line, &proposed, room)
    };
    typing.spans.insert(0, Span::styled(hint, theme.dim()));
    typing.render(line(rows + 2), buffer);
    let last = match &chooser.fault {
        Some(fault) => wrapped(fault, theme.bad(), inner.width),
        None => help_of_level(state, chooser, inner.width),
    };
    for (y, text) in last.into_iter().enumerate() {
        text.render(line(rows + 4 + y), buffer);
    }
}

/// A message in as many lines as it takes.
fn wrapped(message: &str, style: Style, width: u16) -> Vec<Line<'static>> {
    let safe = sanitize(message).into_owned();
    wrap(&safe, width.max(1).into()).into_iter().map(|text| Line::styled(text, style)).collect()
}

/// What may be typed next in a recipe, and what the keys do.
fn help_of_level(state: &State, chooser: &LevelDialog, width: u16) -> Vec<Line<'static>> {
    let theme = &state.theme;
    let ends = "Enter adds  Esc cancels";
    let Some(found) = chooser.completion() else {
        let (arrows, up_down) = if theme.ascii { ("Left/Right", "Up/Down") } else { ("←→", "↑↓") };
        let steps = match chooser.family() {
            // The arrows move within what was typed.
            _ if !chooser.line.text().is_empty() => String::new(),
            Family::Prune | Family::Structure => format!("{arrows} 5%  -/+ 1%  "),
            Family::Quantise => format!("{arrows} bits  "),
            Family::Format => format!("{arrows} format  "),
        };
        let method =
            if chooser.wanted == Wanted::Cell { format!("{up_down} method  ") } else { String::new() };
        return vec![Line::styled(format!("{steps}{method}{ends}"), theme.dim())];
    };
    let said = match &found.words[..] {
        [first, others @ ..] if !chooser.proposed().is_empty() => {
            let others = if others.is_empty() { String::new() } else { format!(" or {}", others.join(", ")) };
            format!("{first}{others}")
        }
        _ if !found.next.is_empty() => format!("complete; may go on with {}", found.next.join(" ")),
        _ if understand(chooser.line.text()).is_ok() => "complete".into(),
        _ => found.expected.clone(),
    };
    let mut lines = wrapped(&said, theme.text(), width);
    lines.truncate(3);
    let tab = if chooser.proposed().is_empty() { "" } else { "Tab completes  " };
    lines.push(Line::styled(format!("{tab}{ends}"), theme.dim()));
    lines
}

/// What the slider says, and where it stands in percent.
fn slider(chooser: &LevelDialog) -> (String, f64) {
    match chooser.level() {
        Ok(Level::Sparsity(sparsity)) => {
            let percent = sparsity.fraction() * 100.0;
            (format!("removes {percent:.4}%").replace(".0000%", "%"), percent)
        }
        Ok(Level::Bits(bits)) => (format!("{bits} bits a weight"), 100.0 * (1.0 - f64::from(bits) / 16.0)),
        Ok(level @ Level::Format(name)) => {
            let bits = METHODS.iter().find_map(|method| method.bits(level)).unwrap_or(0.0);
            (format!("{name}: {bits:.2} bits a weight"), 100.0 * (1.0 - bits / 16.0))
        }
        Ok(level @ (Level::Share(_) | Level::Blocks(_))) => {
            (format!("removes {}", level.label().replace("block", " block")), 100.0 * level.zeros())
        }
        Err(_) => ("?".into(), f64::from(chooser.percent)),
    }
}

fn question(state: &State, asked: &QuestionDialog, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let room = usize::from(area.width).saturating_sub(8).clamp(1, 72);
    let safe: Vec<String> = asked.text.iter().map(|line| sanitize(line).into_owned()).collect();
    let mut lines: Vec<Line> = Vec::new();
    for text in &safe {
        lines.extend(wrap(text, room).into_iter().map(Line::raw));
    }
    lines.push(Line::default());
    let labels: Vec<String> = asked.answers.iter().map(|(key, text, _)| format!("[{key}] {text}")).collect();
    let together = labels.iter().map(|label| text::width(label) + 2).sum::<usize>() <= room;
    let answer = |i: usize| {
        let style = if i == asked.chosen { theme.selected() } else { theme.text() };
        Span::styled(format!(" {} ", labels[i]), style)
    };
    if together {
        lines.push(Line::from((0..labels.len()).map(answer).collect::<Vec<_>>()));
    } else {
        lines.extend((0..labels.len()).map(|i| Line::from(answer(i))));
    }
    let wide = lines.iter().map(text::line_width).max().unwrap_or(0).max(text::width(&asked.title) + 2);
    let inner = place(state, &asked.title, (wide, lines.len()), area, buffer);
    // The answers stay in sight, however long the text.
    let skip = lines.len().saturating_sub(inner.height.into()) as u16;
    Paragraph::new(lines).scroll((skip, 0)).render(inner, buffer);
    if asked.bad {
        let title = Rect {
            x: inner.x.saturating_sub(2),
            y: inner.y.saturating_sub(1),
            width: inner.width + 4,
            height: 1,
        };
        buffer.set_style(title.intersection(area), theme.bad());
    }
}

fn prompt(state: &State, asked: &Prompt, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let shown = asked.cells.len().min(8);
    let inner = place(state, &asked.title, (64, shown + 4), area, buffer);
    let first = first_shown(asked.chosen, asked.cells.len(), shown);
    let line = |y: usize| Rect { y: inner.y + y as u16, height: 1, ..inner }.intersection(inner);
    for (i, cell) in asked.cells.iter().enumerate().skip(first).take(shown) {
        let style = if i == asked.chosen { theme.selected() } else { theme.text() };
        let text = truncate(cell, inner.width.into(), theme.symbols().ellipsis).into_owned();
        Line::styled(text, style).render(line(i - first), buffer);
    }
    let mut typing = typed(state, &asked.line, usize::from(inner.width).saturating_sub(8));
    typing.spans.insert(0, Span::styled("folder ", theme.dim()));
    typing.render(line(shown + 1), buffer);
    Line::styled("Enter exports  Esc cancels", theme.dim()).render(line(shown + 3), buffer);
}

fn search(state: &State, asked: &SearchDialog, area: Rect, buffer: &mut Buffer) {
    let theme = &state.theme;
    let inner = place(state, "Find the level at which a bound breaks", (66, 8), area, buffer);
    let line = |y: usize| Rect { y: inner.y + y as u16, height: 1, ..inner }.intersection(inner);
    let fields = [("recipe ", &asked.recipe, !asked.at_bound), ("bound  ", &asked.bound, asked.at_bound)];
    for (y, (name, text, typing)) in fields.into_iter().enumerate() {
        let shown = if typing {
            let mut shown = typed(state, text, usize::from(inner.width).saturating_sub(name.len()));
            shown.spans.insert(0, Span::styled(name, theme.title()));
            shown
        } else {
            Line::from(vec![Span::styled(name, theme.dim()), Span::raw(sanitize(text.text()).into_owned())])
        };
        shown.render(line(y), buffer);
    }
    if let Some(set) = asked.chosen_set() {
        let more = if asked.sets.len() > 1 { "  (Tab for the next set)" } else { "" };
        let text = format!("on     {}{more}", short_name(set));
        Line::styled(sanitize(&text).into_owned(), theme.dim()).render(line(2), buffer);
    }
    let last = if let Some(fault) = &asked.fault {
        wrapped(fault, theme.bad(), inner.width)
    } else {
        let arrows = if theme.ascii { "Up/Down" } else { "↑↓" };
        let keys = format!("Enter begins  {arrows} recipe or bound  Esc cancels");
        let accepted =
            "The recipe without its level: wanda, or gptq,group=64. Bounds: js<=0.05, f1>=95%, size<=40%";
        [wrapped(accepted, theme.dim(), inner.width), wrapped(&keys, theme.dim(), inner.width)].concat()
    };
    for (y, text) in last.into_iter().enumerate() {
        text.render(line(4 + y), buffer);
    }
}
