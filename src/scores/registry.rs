//! Every score there is. A new one is a file and a line here.

use super::characters::CHARACTER_F1;
use super::choice::{ACCURACY, LAST_WORD_PERPLEXITY, NORMALISED_ACCURACY};
use super::delta_p::DELTA_P_RMS;
use super::divergence::{JS_DIVERGENCE, KL_DIVERGENCE, TOP1_AGREEMENT};
use super::flips::FLIPS;
use super::kl_p99::KL_P99;
use super::number::{NUMBER_MATCH, STRICT_NUMBER_MATCH};
use super::perplexity::PERPLEXITY;
use super::perplexity_ratio::PERPLEXITY_RATIO;
use super::rouge::ROUGE1;
use super::score::{Score, Subject};
use super::squad::{EXACT_MATCH, F1};

/// Every score, in the order in which they are shown.
pub const SCORES: &[&Score] = &[
    &PERPLEXITY,
    &JS_DIVERGENCE,
    &KL_DIVERGENCE,
    &KL_P99,
    &TOP1_AGREEMENT,
    &DELTA_P_RMS,
    &PERPLEXITY_RATIO,
    &EXACT_MATCH,
    &F1,
    &ROUGE1,
    &NUMBER_MATCH,
    &STRICT_NUMBER_MATCH,
    &CHARACTER_F1,
    &ACCURACY,
    &NORMALISED_ACCURACY,
    &LAST_WORD_PERPLEXITY,
    &FLIPS,
];

/// Those that are measured on corpora, or on tasks.
pub(crate) fn scores_on(subject: Subject) -> impl Iterator<Item = &'static Score> {
    SCORES.iter().copied().filter(move |score| score.subject() == subject)
}

/// The few of them that are told where there is room for few.
pub(crate) fn headline_scores(subject: Subject) -> impl Iterator<Item = &'static Score> {
    scores_on(subject).filter(|score| score.headline)
}
