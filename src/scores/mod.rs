//! Scores: named numbers that say what compressing has cost.
//!
//! A [`Score`] says of itself what it is called, on what and how it is measured, which values are good and how they
//! are written; tables, files, charts and statistics ask it. [`SCORES`] lists all of them. A new one is a file beside
//! these and a line in `registry.rs`.

pub mod characters;
pub mod choice;
pub(crate) mod choice_outcome;
pub(crate) mod comparison;
mod corpus;
mod data_sets;
mod delta_p;
mod divergence;
pub mod flips;
pub(crate) mod judges;
mod kl_p99;
pub mod likelihood;
mod notation;
pub mod number;
mod overlap;
pub(crate) mod paired;
mod pareto;
mod perplexity;
mod perplexity_ratio;
pub mod positions;
mod rank_correlations;
mod ranks;
mod registry;
mod rouge;
mod score;
mod squad;
pub(crate) mod stats;
mod tails;
mod task;
mod text_windows;
pub(crate) mod verdict;
mod window;

/// What stands for the base where a cell is named.
pub(crate) const BASE: &str = "base";

pub(crate) use corpus::measure_corpus;
pub use data_sets::records;
pub(crate) use data_sets::{data_sets, is_measured};
pub use delta_p::DELTA_P_RMS;
pub use divergence::{JS_DIVERGENCE, KL_DIVERGENCE, TOP1_AGREEMENT};
pub use kl_p99::KL_P99;
pub(crate) use notation::Notation;
pub(crate) use notation::{decimals, percent};
pub(crate) use pareto::{Tradeoff, best_within, pareto_front};
pub use perplexity::PERPLEXITY;
pub use perplexity_ratio::PERPLEXITY_RATIO;
pub(crate) use rank_correlations::rank_done_cells;
pub use registry::SCORES;
pub(crate) use registry::{headline_scores, scores_on};
pub use rouge::{ROUGE1, rouge1};
pub(crate) use score::Scale;
pub use score::{Better, Measure, Score, Subject, Summary};
pub use squad::{EXACT_MATCH, F1, exact_match, f1};
pub use task::score_answer;
pub(crate) use task::{measure_choices, measure_task, score_choices};
pub use text_windows::TextWindows;
pub(crate) use window::{Position, Window};
