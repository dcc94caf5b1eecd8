//! The panel of workers: who computes what, and since when.

use std::time::Duration;

use ratatui::buffer::Buffer;
use ratatui::layout::{Alignment, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Widget;

use crate::engine::{Absence, BASE, PlaceActivity};
use crate::human;
use crate::tui::state::{State, StudyView};
use crate::tui::view::parts::framed;
use crate::tui::widgets::text::{fit, sanitize, truncate, width};

/// Columns from which on a worker's speed has room beside its cell.
const ROOM_FOR_SPEED: u16 = 70;

/// Draws one line a worker; nothing where there is no room for it.
pub(super) fn draw(state: &State, study_view: &StudyView, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let (theme, workers) = (&state.theme, &state.engine.workers);
    let inner = framed(theme, &title(workers), false, area, buffer);
    let names = workers.iter().map(|(place, _)| width(&place.worker)).max().unwrap_or(0);
    let names = names.min(usize::from(inner.width) / 3);
    let ellipsis = theme.symbols().ellipsis;
    for (row, (place, since)) in workers.iter().take(inner.height.into()).enumerate() {
        let name = fit(&sanitize(&place.worker), names, Alignment::Left, ellipsis);
        let label = |cell: &String| study_view.label(Some(cell.as_str()).filter(|cell| *cell != BASE));
        let doing = match (&place.cell, place.phase, &place.absence) {
            (Some(cell), Some(phase), _) => format!("{}: {}", label(cell), phase.doing()),
            (Some(cell), None, _) => label(cell),
            (None, _, Some(Absence::Queued(why) | Absence::Gone(why))) => why.clone(),
            (None, _, None) => "waits for a cell".to_owned(),
        };
        let spent = human::duration(state.now.saturating_sub(*since).as_secs_f64());
        let speed = match place.tokens_per_second {
            speed if speed > 0 && inner.width >= ROOM_FOR_SPEED => format!("  {speed} tokens/s"),
            _ => String::new(),
        };
        let about = format!("  {}{speed}  {spent}", sanitize(&place.device));
        let room = usize::from(inner.width).saturating_sub(width(&name) + 2 + width(&about));
        let doing = truncate(&sanitize(&doing), room, ellipsis).into_owned();
        let style = if place.cell.is_some() { theme.text() } else { theme.dim() };
        Line::from(vec![
            Span::styled(format!("{name}  "), theme.dim()),
            Span::styled(doing, style),
            Span::styled(about, theme.dim()),
        ])
        .render(Rect { y: inner.y + row as u16, height: 1, ..inner }, buffer);
    }
}

/// How many workers compute, and what keeps the others: there may be no room for their lines.
fn title(workers: &[(PlaceActivity, Duration)]) -> String {
    let mut counts = [0; 4];
    for (place, _) in workers {
        let kind = match (&place.cell, &place.absence) {
            (Some(_), _) => 0,
            (None, None) => 1,
            (None, Some(Absence::Queued(_))) => 2,
            (None, Some(Absence::Gone(_))) => 3,
        };
        counts[kind] += 1;
    }
    let [computing, waiting, queued, gone] = counts;
    let verb = |count: usize, verb: &str| format!("{count} {verb}{}", if count == 1 { "s" } else { "" });
    let mut said = vec![verb(computing, "compute")];
    said.extend((waiting > 0).then(|| verb(waiting, "wait")));
    said.extend((queued > 0).then(|| format!("{queued} queued")));
    said.extend((gone > 0).then(|| format!("{gone} gone")));
    format!("Workers: {}", said.join(", "))
}
