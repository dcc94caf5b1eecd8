//! The dashboard.

pub mod snapshot;
pub mod theme;
pub mod widgets;
