//! The tabs in the first row: a name, then a tab for every screen.

use unicode_width::UnicodeWidthStr;

use super::state::Screen;

/// The name at the left of the first row.
pub(crate) const NAME: &str = " secateur ";

/// The tab of a screen, while `open` is shown.
pub(crate) fn tab(screen: Screen, open: Screen) -> String {
    // Brackets tell the open screen from the others where there are no colours.
    let (number, name) = (screen.number() + 1, screen.name());
    if screen == open { format!("[{number} {name}]") } else { format!(" {number} {name} ") }
}

/// The screen whose tab stands at a column of the first row.
pub(crate) fn tab_at(open: Screen, column: u16) -> Option<Screen> {
    let mut at = NAME.width();
    for screen in Screen::ALL {
        let end = at + tab(screen, open).width();
        if (at..end).contains(&usize::from(column)) {
            return Some(screen);
        }
        at = end;
    }
    None
}
