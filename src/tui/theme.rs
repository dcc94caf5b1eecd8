//! Colours and glyphs, decided at one place.
//!
//! Whoever draws asks [`Theme`] for the style of a role and for a glyph; nothing else names a colour.

mod background;
mod color;
mod palette;
mod symbols;

pub(crate) use background::Background;
pub(crate) use color::Rgb;
pub(crate) use symbols::Symbols;

use ratatui::style::{Color, Modifier, Style};

use palette::{Pair, Palette};

/// How many colours the terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColorMode {
    /// 24 bits.
    TrueColor,
    /// xterm's cube of 216 and 24 greys.
    Ansi256,
    /// The sixteen that every terminal has; what they look like is the user's choice.
    Ansi16,
    /// None: bold, underlined and reversed only.
    None,
}

impl ColorMode {
    /// Reads the environment, given as a function from a variable's name to its value.
    ///
    /// `NO_COLOR` that is not empty, and `TERM=dumb`, mean none. `COLORTERM` says 24 bits, except inside GNU screen,
    /// which hands the variable on but not the colours. SSH drops `COLORTERM`; what is left is `TERM`, which names
    /// some terminals that are known to have 24 bits and else says 256, as does any xterm at the far end of SSH.
    pub(crate) fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| env(name).unwrap_or_default();
        let term = get("TERM").to_ascii_lowercase();
        if !get("NO_COLOR").is_empty() || term == "dumb" {
            return Self::None;
        }
        let gnu_screen = term.starts_with("screen") && get("TMUX").is_empty();
        let full = ["direct", "truecolor", "kitty", "alacritty", "ghostty", "wezterm", "foot"];
        let claimed = matches!(get("COLORTERM").to_ascii_lowercase().as_str(), "truecolor" | "24bit");
        if !gnu_screen
            && (claimed || full.iter().any(|name| term.contains(name)) || !get("WT_SESSION").is_empty())
        {
            return Self::TrueColor;
        }
        let remote = !get("SSH_CONNECTION").is_empty() || !get("SSH_TTY").is_empty();
        let modern = ["xterm", "screen", "tmux"].iter().any(|name| term.starts_with(name));
        if claimed || term.contains("256") || (remote && modern) { Self::Ansi256 } else { Self::Ansi16 }
    }
}

/// Whether the locale has characters beyond ASCII, by the variables that say which it is: `LC_ALL`, else `LC_CTYPE`, else
/// `LANG`. `C`, `POSIX` and encodings other than UTF-8 have none. Where nothing is said, or a locale without its encoding,
/// UTF-8 is what terminals have today.
pub(crate) fn has_unicode(env: &dyn Fn(&str) -> Option<String>) -> bool {
    let locale =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| env(name).filter(|v| !v.is_empty()));
    let locale = locale.unwrap_or_default();
    let name = locale.split('@').next().unwrap_or_default();
    match name.split_once('.') {
        Some((_, encoding)) => {
            let encoding: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
            encoding.eq_ignore_ascii_case("utf8")
        }
        None => !matches!(name, "C" | "POSIX"),
    }
}

/// Styles by role, and the glyphs. Another one is made by [`Theme::new`], not by changing fields.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Theme {
    /// How many colours there are.
    pub mode: ColorMode,
    /// What they are seen on.
    pub background: Background,
    /// Whether only ASCII is drawn.
    pub ascii: bool,
    palette: &'static Palette,
}

#[expect(clippy::unused_self, reason = "every role is asked of the theme, also one that all themes share")]
impl Theme {
    /// A theme of these three choices.
    pub(crate) const fn new(mode: ColorMode, background: Background, ascii: bool) -> Self {
        Self { mode, background, ascii, palette: palette::of(background) }
    }

    /// The glyphs.
    pub(crate) fn symbols(&self) -> &'static Symbols {
        if self.ascii { &symbols::ASCII } else { &symbols::UNICODE }
    }

    /// Common text: whatever the terminal's own colours are.
    pub(crate) fn text(&self) -> Style {
        Style::new()
    }

    /// Text of less weight: labels, units, hints.
    pub(crate) fn dim(&self) -> Style {
        self.colored(self.palette.dim).add_modifier(self.without_colour(Modifier::DIM))
    }

    /// Headings.
    pub(crate) fn title(&self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// The frame of a panel.
    pub(crate) fn border(&self) -> Style {
        self.colored(self.palette.border).add_modifier(self.without_colour(Modifier::DIM))
    }

    /// The frame of the panel that keys go to.
    pub(crate) fn border_focused(&self) -> Style {
        self.colored(self.palette.accent).add_modifier(self.without_colour(Modifier::BOLD))
    }

    /// Lines behind the data of a chart. To be left out unless [`Theme::paints`], since they would not be faint.
    pub(crate) fn grid(&self) -> Style {
        self.colored(self.palette.grid).add_modifier(self.without_colour(Modifier::DIM))
    }

    /// The selected row or field; patched onto the style that is there.
    pub(crate) fn selected(&self) -> Style {
        match self.mode {
            ColorMode::TrueColor | ColorMode::Ansi256 => {
                Style::new().bg(self.color(self.palette.selected)).add_modifier(Modifier::BOLD)
            }
            // One colour for the row, or each word would get a background of its own.
            ColorMode::Ansi16 => {
                Style::new().fg(Color::Reset).bg(Color::Reset).add_modifier(Modifier::REVERSED)
            }
            ColorMode::None => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// What is to be seen first.
    pub(crate) fn accent(&self) -> Style {
        self.colored(self.palette.accent).add_modifier(self.without_colour(Modifier::BOLD))
    }

    /// Something went well.
    pub(crate) fn good(&self) -> Style {
        self.colored(self.palette.good)
    }

    /// Something is to be heeded.
    pub(crate) fn warn(&self) -> Style {
        self.colored(self.palette.warn).add_modifier(self.without_colour(Modifier::BOLD))
    }

    /// Something failed.
    pub(crate) fn bad(&self) -> Style {
        let plain = self.without_colour(Modifier::BOLD | Modifier::UNDERLINED);
        self.colored(self.palette.bad).add_modifier(plain)
    }

    /// A key in help and footer.
    pub(crate) fn key(&self) -> Style {
        self.colored(self.palette.accent).add_modifier(Modifier::BOLD)
    }

    /// The line of the uncompressed model.
    pub(crate) fn base_line(&self) -> Style {
        self.colored(self.palette.base_line)
    }

    /// The series with this index. Markers repeat after eight, and have another colour then. Without colours series differ
    /// by marker alone.
    pub(crate) fn series(&self, index: usize) -> Style {
        let series = &self.palette.series;
        self.colored(series[(index + index / series.len()) % series.len()])
    }

    /// A field of the heat map, `t` of `0 … 1`: the value as background, a readable foreground on it. Terminals with
    /// few colours get no style; there the glyph of [`Theme::heat_glyph`] tells.
    pub(crate) fn heat(&self, t: f64) -> Style {
        if !self.paints() {
            return Style::new();
        }
        let heat = self.palette.heat(t as f32);
        let (black, white) = (Rgb(0, 0, 0), Rgb(255, 255, 255));
        let on_it = if heat.contrast(black) >= heat.contrast(white) { black } else { white };
        Style::new().bg(self.color(heat)).fg(self.color(on_it))
    }

    /// The glyph of a field of the heat map: blank where [`Theme::heat`] paints; else a digit `0 … 9`, the tenth that the
    /// value falls into, or with sixteen colours a shade.
    pub(crate) fn heat_glyph(&self, t: f64) -> &'static str {
        let shades = match self.mode {
            _ if self.paints() => return " ",
            ColorMode::Ansi16 => self.symbols().shades,
            _ => symbols::ASCII.shades,
        };
        let step = (t.clamp(0.0, 1.0) * shades.len() as f64) as usize;
        shades[step.min(shades.len() - 1)]
    }

    /// A token of an answer, by how far two models disagreed there: `bits` of `0 … 1`. Small values are spread, as most
    /// are small. Laid over a style, this sets a background and a foreground that is readable on it; with few colours
    /// it steps through modifiers at 0.05, 0.2 and 0.5 bits.
    pub(crate) fn shade(&self, bits: f64) -> Style {
        let bits = if bits.is_finite() { bits.clamp(0.0, 1.0) } else { 0.0 };
        let palette = self.palette;
        let step = [0.05, 0.2, 0.5].iter().filter(|limit| bits >= **limit).count();
        match self.mode {
            ColorMode::TrueColor | ColorMode::Ansi256 => {
                if bits < 0.001 {
                    return Style::new();
                }
                let shade = palette.background.mix(palette.shade, bits.sqrt() as f32);
                Style::new().bg(self.color(shade)).fg(self.color(palette.foreground))
            }
            ColorMode::Ansi16 => match step {
                0 => Style::new(),
                1 => Style::new().fg(palette.warn.1),
                2 => Style::new().fg(palette.bad.1),
                _ => Style::new().fg(palette.bad.1).add_modifier(Modifier::REVERSED),
            },
            ColorMode::None => Style::new().add_modifier(match step {
                0 => Modifier::empty(),
                1 => Modifier::UNDERLINED,
                2 => Modifier::UNDERLINED | Modifier::BOLD,
                _ => Modifier::REVERSED,
            }),
        }
    }

    /// The colour of text in pictures.
    pub(crate) fn foreground_rgb(&self) -> Rgb {
        self.palette.foreground
    }

    /// The colour behind everything in pictures.
    pub(crate) fn background_rgb(&self) -> Rgb {
        self.palette.background
    }

    /// The colour of frames in pictures.
    pub(crate) fn border_rgb(&self) -> Rgb {
        self.palette.border.0
    }

    /// What a terminal's colour looks like in pictures; `None` for the terminal's own.
    pub(crate) fn resolve(&self, color: Color) -> Option<Rgb> {
        match color {
            Color::Reset => None,
            Color::Rgb(r, g, b) => Some(Rgb(r, g, b)),
            Color::Indexed(index @ 16..) => Some(color::indexed(index)),
            other => color::ansi_index(other).map(|index| self.palette.ansi[index]),
        }
    }

    /// Whether there are colours enough to show a value as one.
    pub(crate) fn paints(&self) -> bool {
        matches!(self.mode, ColorMode::TrueColor | ColorMode::Ansi256)
    }

    /// The modifier, if there are no colours to say it.
    fn without_colour(&self, modifier: Modifier) -> Modifier {
        if self.mode == ColorMode::None { modifier } else { Modifier::empty() }
    }

    fn colored(&self, (rgb, ansi): Pair) -> Style {
        match self.mode {
            ColorMode::TrueColor | ColorMode::Ansi256 => Style::new().fg(self.color(rgb)),
            ColorMode::Ansi16 => Style::new().fg(ansi),
            ColorMode::None => Style::new(),
        }
    }

    /// A colour for a terminal that has many.
    fn color(&self, rgb: Rgb) -> Color {
        match self.mode {
            ColorMode::Ansi256 => Color::Indexed(rgb.nearest_indexed()),
            _ => Color::Rgb(rgb.0, rgb.1, rgb.2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locales_say_whether_there_is_more_than_ascii() {
        for (variables, unicode) in [
            (&[][..], true),
            (&[("LANG", "C")], false),
            (&[("LANG", "POSIX")], false),
            (&[("LANG", "C.UTF-8")], true),
            (&[("LANG", "de_DE.utf8@euro")], true),
            (&[("LANG", "de_DE.ISO-8859-15@euro")], false),
            (&[("LANG", "hi_IN")], true),
            (&[("LANG", "en_US.UTF-8"), ("LC_ALL", "C")], false),
            (&[("LANG", "C"), ("LC_CTYPE", "en_US.UTF-8")], true),
            (&[("LANG", "C"), ("LC_ALL", "")], false),
        ] {
            let env = |name: &str| {
                variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(has_unicode(&env), unicode, "{variables:?}");
        }
    }

    fn mode(pairs: &[(&str, &str)]) -> ColorMode {
        ColorMode::detect(&|name| pairs.iter().find(|p| p.0 == name).map(|p| p.1.to_owned()))
    }

    #[test]
    fn the_number_of_colours_follows_the_environment() {
        for (pairs, expected) in [
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")][..], ColorMode::TrueColor),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "24bit"), ("NO_COLOR", "1")], ColorMode::None),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "24bit"), ("NO_COLOR", "")], ColorMode::TrueColor),
            (&[("TERM", "dumb"), ("COLORTERM", "truecolor")], ColorMode::None),
            (&[("TERM", "xterm-256color"), ("SSH_TTY", "/dev/pts/3")], ColorMode::Ansi256),
            (&[("TERM", "xterm"), ("SSH_CONNECTION", "10.0.0.1 1 10.0.0.2 22")], ColorMode::Ansi256),
            (&[("TERM", "xterm-kitty"), ("SSH_TTY", "/dev/pts/3")], ColorMode::TrueColor),
            (&[("TERM", "vt100"), ("SSH_TTY", "/dev/pts/3")], ColorMode::Ansi16),
            (&[("TERM", "xterm-direct")], ColorMode::TrueColor),
            (&[("TERM", "screen"), ("COLORTERM", "truecolor")], ColorMode::Ansi256),
            (
                &[("TERM", "screen-256color"), ("COLORTERM", "truecolor"), ("TMUX", "/tmp/t")],
                ColorMode::TrueColor,
            ),
            (&[("TERM", "linux")], ColorMode::Ansi16),
            (&[("WT_SESSION", "a1")], ColorMode::TrueColor),
            (&[], ColorMode::Ansi16),
        ] {
            assert_eq!(mode(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_background_follows_colorfgbg() {
        for (value, expected) in [
            ("15;0", Background::Dark),
            ("0;15", Background::Light),
            ("0;default;7", Background::Light),
            ("7;8", Background::Dark),
            ("default;default", Background::Dark),
            ("", Background::Dark),
        ] {
            assert_eq!(Background::detect(&|_| Some(value.to_owned())), expected, "{value}");
        }
        assert_eq!(Background::detect(&|_| None), Background::Dark);
    }

    /// Every style that a theme can give.
    fn styles(theme: Theme) -> Vec<Style> {
        let roles = [
            theme.text(),
            theme.dim(),
            theme.title(),
            theme.border(),
            theme.border_focused(),
            theme.grid(),
            theme.selected(),
            theme.accent(),
            theme.good(),
            theme.warn(),
            theme.bad(),
            theme.key(),
            theme.base_line(),
        ];
        let values = (0..=20).map(|i| f64::from(i) / 20.0);
        let scales = values.flat_map(|t| [theme.heat(t), theme.shade(t)]);
        roles.into_iter().chain((0..9).map(|i| theme.series(i))).chain(scales).collect()
    }

    #[test]
    fn no_mode_uses_more_colours_than_it_has() {
        for background in [Background::Dark, Background::Light] {
            for mode in [ColorMode::TrueColor, ColorMode::Ansi256, ColorMode::Ansi16, ColorMode::None] {
                for style in styles(Theme::new(mode, background, false)) {
                    for color in [style.fg, style.bg].into_iter().flatten() {
                        let fits = match mode {
                            ColorMode::TrueColor => matches!(color, Color::Rgb(..)),
                            ColorMode::Ansi256 => matches!(color, Color::Indexed(16..)),
                            ColorMode::Ansi16 => color == Color::Reset || color::ansi_index(color).is_some(),
                            ColorMode::None => false,
                        };
                        assert!(fits, "{mode:?} {color:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn without_colours_the_roles_still_differ() {
        let theme = Theme::new(ColorMode::None, Background::Dark, true);
        assert_ne!(theme.bad(), theme.text());
        assert_ne!(theme.bad(), theme.warn());
        assert_ne!(theme.warn(), theme.text());
        assert_ne!(theme.selected(), theme.text());
        assert_ne!(theme.border(), theme.border_focused());
        let steps = [0.0, 0.1, 0.3, 0.9].map(|bits| theme.shade(bits));
        for (i, a) in steps.iter().enumerate() {
            assert!(steps[i + 1..].iter().all(|b| a != b), "{steps:?}");
        }
    }

    #[test]
    fn heat_tells_a_value_by_colour_or_by_glyph() {
        let tell = |mode, ascii, t| {
            let theme = Theme::new(mode, Background::Dark, ascii);
            (theme.heat_glyph(t), theme.heat(t).bg)
        };
        assert_eq!(tell(ColorMode::None, false, 0.0), ("0", None));
        assert_eq!(tell(ColorMode::None, false, 0.55), ("5", None));
        assert_eq!(tell(ColorMode::None, true, 1.0), ("9", None));
        assert_eq!(tell(ColorMode::Ansi16, false, 1.0), ("█", None));
        assert_eq!(tell(ColorMode::Ansi16, true, 0.3), ("3", None));
        assert!(matches!(tell(ColorMode::TrueColor, true, 0.3), (" ", Some(Color::Rgb(..)))));
    }

    #[test]
    fn shade_and_heat_take_any_number() {
        let theme = Theme::new(ColorMode::TrueColor, Background::Light, false);
        for value in [f64::NAN, f64::INFINITY, -1.0, 7.0] {
            let _ = (theme.heat(value), theme.heat_glyph(value), theme.shade(value));
        }
        assert_eq!(theme.shade(f64::NAN), theme.shade(0.0));
        assert_eq!(theme.shade(7.0), theme.shade(1.0));
    }
}
