//! Scores: named numbers that say what compressing has cost.
//!
//! A [`Score`] says of itself what it is called, on what and how it is measured, which values are good and how they
//! are written; tables, files, charts and statistics ask it. [`SCORES`] lists all of them. A new one is a file beside
//! these and a line in `registry.rs`.

mod corpus;
mod divergence;
mod insight;
mod measurement;
mod metrics;
mod notation;
mod overlap;
mod perplexity;
pub mod positions;
mod registry;
mod rouge;
mod score;
mod squad;
pub mod stats;
mod task;
pub(crate) mod verdict;
mod window;

pub use corpus::measure_corpus;
pub use divergence::{JS_DIVERGENCE, KL_DIVERGENCE, TOP1_AGREEMENT};
pub use insight::{Correlation, Insight, insight};
pub use measurement::{DataSetName, Estimate, Measurement};
pub use metrics::Metrics;
pub use notation::Notation;
pub(crate) use notation::{decimals, percent};
pub use perplexity::PERPLEXITY;
pub use registry::{SCORES, headline_scores, scores_on};
pub use rouge::{ROUGE1, rouge1};
pub use score::{Better, Detail, Measure, Scale, Score, Subject, Summary};
pub use squad::{EXACT_MATCH, F1, exact_match, f1};
pub use task::{measure_task, score_answer};
pub use window::{WindowMeans, WindowSums};
