//! Finding the edge: the last level of a recipe that keeps a bound, and the first that breaks it, with as few cells as
//! can be.
//!
//! [`EdgeSearch`] reads the engine's events and says which commands to send. It knows no screen and no store; whoever runs
//! an engine can drive it.

mod answer;
mod bisection;
mod bound;
mod bounded;
mod open_recipe;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use bound::ScoreBound;
pub(crate) use bounded::BoundedFigure;
pub(crate) use open_recipe::OpenRecipe;
pub(crate) use search::{EdgeSearch, SearchNews};
