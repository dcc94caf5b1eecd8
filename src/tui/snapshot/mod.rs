//! What is on the screen, as a picture or as text: from the same cells that the terminal gets, without a terminal.

mod cells;
mod glyphs;
mod png;
mod svg;
#[cfg(test)]
mod tests;
mod text;

use std::io::Write as _;
use std::path::Path;

use ratatui::buffer::Buffer;

use super::theme::Theme;
use crate::error::{Error, Result};
use crate::store::checkpoint::write_atomically;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PictureFormat {
    /// Scalable, with text as text.
    Svg,
    /// Pixels, two to a point.
    Png,
    Text,
}

impl PictureFormat {
    /// The kind that a file's extension names.
    ///
    /// # Errors
    /// [`Error::Mistake`] for an extension that is none of `svg`, `png` and `txt`, in any case.
    pub(crate) fn from_path(path: &Path) -> Result<Self> {
        let extension = path.extension().map(|e| e.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("svg") => Ok(Self::Svg),
            Some("png") => Ok(Self::Png),
            Some("txt") => Ok(Self::Text),
            _ => Err(Error::mistake(format!(
                "{}: the name of a snapshot must end in .svg, .png or .txt",
                path.display()
            ))),
        }
    }
}

/// The content of a file of this kind that shows what is in `buffer`. The terminal's own colours are those of the theme.
///
/// # Errors
/// [`Error::Failure`] if a picture cannot be made of it, for its size or lack of memory.
pub(crate) fn render(buffer: &Buffer, theme: &Theme, format: PictureFormat) -> Result<Vec<u8>> {
    match format {
        PictureFormat::Svg => Ok(svg::render(buffer, theme).into_bytes()),
        PictureFormat::Png => png::render(buffer, theme),
        PictureFormat::Text => Ok(text::render(buffer).into_bytes()),
    }
}

/// Writes what is in `buffer` to a file, in the format that its name tells. The file is there whole or not at all.
///
/// # Errors
/// Those of [`PictureFormat::from_path`], of [`render`], and of writing.
pub(crate) fn save(path: &Path, buffer: &Buffer, theme: &Theme) -> Result<()> {
    let content = render(buffer, theme, PictureFormat::from_path(path)?)?;
    write_atomically(path, |file| file.write_all(&content))
}
