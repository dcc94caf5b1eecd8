//! What the terminal draws on.

/// What the terminal's own background is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Background {
    /// Light text on dark.
    Dark,
    /// Dark text on light.
    Light,
}

impl Background {
    /// Reads `COLORFGBG`, which some terminals set to `foreground;background` as numbers of the sixteen colours. Dark
    /// where nothing is known.
    pub(crate) fn detect(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let value = env("COLORFGBG").unwrap_or_default();
        match value.rsplit(';').next().and_then(|last| last.parse::<u8>().ok()) {
            Some(7 | 9..=15) => Self::Light,
            _ => Self::Dark,
        }
    }
}
