//! The five screens. Each has what only it knows, what keys do to it, and how it is drawn.

pub mod compare;
pub mod history;
pub mod inspect;
pub mod run;
pub mod study;
