//! Run: where the study stands.

mod draw;
#[cfg(test)]
mod tests;
mod update;

pub use draw::{draw, panels};
pub use update::act;

/// What only the run screen knows.
#[derive(Debug, Clone, Default)]
pub struct RunView {
    /// Row of the list of cells that is selected; `None` follows the running one. Row 0 is the base.
    pub chosen: Option<usize>,
    /// The heat map shows reconstruction errors instead of achieved sparsities.
    pub errors: bool,
    /// Lines of the log that are scrolled back.
    pub scrolled: usize,
}
