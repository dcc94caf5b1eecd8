//! Every glyph that is not plain text, with an ASCII set beside the usual one.

use ratatui::symbols::border;

/// The glyphs of the screen. All are one column wide.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Symbols {
    pub border: border::Set<'static>,
    pub check: &'static str,
    pub cross: &'static str,
    pub bullet: &'static str,
    /// Between two pieces of text; also a value that is not there.
    pub dot: &'static str,
    /// Text that was cut.
    pub ellipsis: &'static str,
    /// An infinite value.
    pub infinity: &'static str,
    /// A value that is no number.
    pub missing: &'static str,
    pub plus_minus: &'static str,
    pub delta: &'static str,
    pub times: &'static str,
    /// Up: sorted ascending, above the window.
    pub up: &'static str,
    /// Down: sorted descending, below the window.
    pub down: &'static str,
    pub left: &'static str,
    /// Right: a running cell.
    pub right: &'static str,
    /// From one to another.
    pub arrow: &'static str,
    pub chevron: &'static str,
    pub pin: &'static str,
    /// Something to heed.
    pub warning: &'static str,
    pub pause: &'static str,
    /// A choice that is on, one of many.
    pub radio_on: &'static str,
    /// A choice that is off, one of many.
    pub radio_off: &'static str,
    pub box_on: &'static str,
    pub box_off: &'static str,
    pub horizontal: &'static str,
    pub vertical: &'static str,
    /// A heavy line across: the used part of a slider.
    pub heavy: &'static str,
    /// A broken line across: grids, base lines.
    pub dashed: &'static str,
    pub dashed_down: &'static str,
    pub corner: &'static str,
    pub tick_left: &'static str,
    pub tick_down: &'static str,
    pub knob: &'static str,
    pub thumb: &'static str,
    /// Columns by eighths of their height, from nothing to full.
    pub bars: [&'static str; 9],
    /// Bars by eighths of their width, from nothing to full.
    pub eighths: [&'static str; 9],
    /// The part of a bar that is not filled.
    pub track: &'static str,
    /// Shades from nothing to full, of even steps.
    pub shades: &'static [&'static str],
    pub spinner: &'static [&'static str],
    pub markers: [&'static str; 8],
    /// Markers of the same series where the sparsity is N:M.
    pub nm_markers: [&'static str; 8],
    /// Whether charts may be drawn with braille dots.
    pub braille: bool,
}

/// The glyphs for terminals whose font has them.
pub(crate) static UNICODE: Symbols = Symbols {
    border: border::ROUNDED,
    check: "✓",
    cross: "✗",
    bullet: "•",
    dot: "·",
    ellipsis: "…",
    infinity: "∞",
    missing: "?",
    plus_minus: "±",
    delta: "Δ",
    times: "×",
    up: "▲",
    down: "▼",
    left: "◀",
    right: "▶",
    arrow: "→",
    chevron: "›",
    pin: "◈",
    warning: "!",
    pause: "‖",
    radio_on: "◉",
    radio_off: "○",
    box_on: "■",
    box_off: "□",
    horizontal: "─",
    vertical: "│",
    heavy: "━",
    dashed: "┄",
    dashed_down: "┆",
    corner: "└",
    tick_left: "┤",
    tick_down: "┬",
    knob: "●",
    thumb: "┃",
    bars: [" ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"],
    eighths: [" ", "▏", "▎", "▍", "▌", "▋", "▊", "▉", "█"],
    track: "░",
    shades: &[" ", "░", "▒", "▓", "█"],
    spinner: &["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"],
    markers: ["●", "▲", "■", "◆", "▼", "▶", "◀", "★"],
    nm_markers: ["○", "△", "□", "◇", "▽", "▷", "◁", "☆"],
    braille: true,
};

/// The glyphs that any terminal has.
pub(crate) static ASCII: Symbols = Symbols {
    border: border::Set {
        top_left: "+",
        top_right: "+",
        bottom_left: "+",
        bottom_right: "+",
        vertical_left: "|",
        vertical_right: "|",
        horizontal_top: "-",
        horizontal_bottom: "-",
    },
    check: "y",
    cross: "x",
    bullet: "*",
    dot: ".",
    ellipsis: "~",
    infinity: "!",
    missing: "?",
    plus_minus: "~",
    delta: "d",
    times: "x",
    up: "^",
    down: "v",
    left: "<",
    right: ">",
    arrow: ">",
    chevron: ">",
    pin: "@",
    warning: "!",
    pause: "=",
    radio_on: "*",
    radio_off: "o",
    box_on: "#",
    box_off: "_",
    horizontal: "-",
    vertical: "|",
    heavy: "=",
    dashed: "-",
    dashed_down: ":",
    corner: "+",
    tick_left: "+",
    tick_down: "+",
    knob: "O",
    thumb: "#",
    bars: [" ", "_", ".", ":", "-", "=", "+", "*", "#"],
    eighths: [" ", " ", " ", " ", "#", "#", "#", "#", "#"],
    track: ".",
    shades: &["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
    spinner: &["|", "/", "-", "\\"],
    markers: ["o", "x", "#", "*", "v", "z", "m", "w"],
    nm_markers: ["O", "X", "%", "@", "V", "Z", "M", "W"],
    braille: false,
};

impl Symbols {
    /// All glyphs, for checks of the set.
    #[cfg(test)]
    pub(crate) fn all(&self) -> Vec<&'static str> {
        let b = &self.border;
        let mut all = vec![
            b.top_left,
            b.top_right,
            b.bottom_left,
            b.bottom_right,
            b.vertical_left,
            b.vertical_right,
            b.horizontal_top,
            b.horizontal_bottom,
            self.check,
            self.cross,
            self.bullet,
            self.dot,
            self.ellipsis,
            self.infinity,
            self.missing,
            self.plus_minus,
            self.delta,
            self.times,
            self.up,
            self.down,
            self.left,
            self.right,
            self.arrow,
            self.chevron,
            self.pin,
            self.warning,
            self.pause,
            self.radio_on,
            self.radio_off,
            self.box_on,
            self.box_off,
            self.horizontal,
            self.vertical,
            self.heavy,
            self.dashed,
            self.dashed_down,
            self.corner,
            self.tick_left,
            self.tick_down,
            self.knob,
            self.thumb,
            self.track,
        ];
        all.extend(self.bars.iter().chain(&self.eighths).chain(self.shades).chain(self.spinner));
        all.extend(self.markers.iter().chain(&self.nm_markers));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn glyphs_are_one_column_and_ascii_is_ascii() {
        for symbol in UNICODE.all() {
            assert_eq!(symbol.width(), 1, "{symbol}");
        }
        for symbol in ASCII.all() {
            assert!(symbol.len() == 1 && symbol.is_ascii(), "{symbol}");
        }
    }

    #[test]
    fn no_two_markers_are_the_same() {
        for set in [&UNICODE, &ASCII] {
            let all: BTreeSet<_> = set.markers.iter().chain(&set.nm_markers).collect();
            assert_eq!(all.len(), 16);
        }
    }
}
