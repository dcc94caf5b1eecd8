//! What the comparison shows, what keys do to it, and that nothing makes it panic.

mod any;
mod keys;
mod look;
mod projection;
mod size;

use std::collections::HashMap;

use super::data::Comparison;
use crate::results::{
    BaseResult, CellResult, CellState, Environment, Estimate, Footprint, Measurement, Metrics, ModelInfo,
    Seconds, SourceBits,
};
use crate::scores::{
    DELTA_P_RMS, EXACT_MATCH, F1, JS_DIVERGENCE, KL_DIVERGENCE, KL_P99, PERPLEXITY, PERPLEXITY_RATIO, ROUGE1,
    Score, Subject, Summary, TOP1_AGREEMENT,
};
use crate::study::{CellSpec, Sparsity, Step};
use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::state::{CompareView, Options, Screen, State, StudyView};
use crate::tui::testing;
use crate::tui::theme::{Background, ColorMode, Theme};

const FULL: Theme = Theme::new(ColorMode::TrueColor, Background::Dark, false);
const PLAIN: Theme = Theme::new(ColorMode::None, Background::Dark, false);
const ASCII: Theme = Theme::new(ColorMode::None, Background::Dark, true);

fn estimate(value: f64, half: f64) -> Estimate {
    Estimate { value, ci95: [value - half, value + half] }
}

fn task(name: &str, n: usize, scores: [f64; 3]) -> [Measurement; 3] {
    let mut scores = scores.into_iter();
    [&EXACT_MATCH, &F1, &ROUGE1].map(|score| {
        let estimate = estimate(scores.next().unwrap(), 0.04);
        score.measurement(name, n, Summary { estimate, details: vec![] })
    })
}

/// A value of a score on a text, its ends a share of it away.
fn on(text: &str, score: &Score, value: f64, share: f64) -> Measurement {
    let details = score.details.iter().map(|_| 0.02).collect();
    score.measurement(text, 40, Summary { estimate: estimate(value, value * share), details })
}

/// Measurements on one text and one task; the base has no divergences (`bits` below 0).
fn measured(perplexity: f64, bits: f64, scores: [f64; 3]) -> Metrics {
    let mut values = vec![on("wikitext2", &PERPLEXITY, perplexity, 0.04)];
    if bits >= 0.0 {
        values.push(on("wikitext2", &JS_DIVERGENCE, bits, 0.05));
        values.push(on("wikitext2", &PERPLEXITY_RATIO, perplexity / 28.5, 0.02));
        values.push(on("wikitext2", &KL_DIVERGENCE, bits * 3.1, 0.05));
        values.push(on("wikitext2", &KL_P99, bits * 14.5, 0.09));
        values.push(on("wikitext2", &DELTA_P_RMS, bits / 2.0, 0.05));
        let agreement = Summary { estimate: estimate(1.0 - bits, 0.01), details: vec![] };
        values.push(TOP1_AGREEMENT.measurement("wikitext2", 40, agreement));
    }
    values.extend(task("alpaca", 200, scores));
    Metrics { values }
}

/// The first value of a score.
fn first<'a>(metrics: &'a mut Metrics, score: &Score) -> &'a mut Measurement {
    metrics.values.iter_mut().find(|value| value.score == score.id).unwrap()
}

/// Takes away what tasks said.
fn forget_tasks(metrics: &mut Metrics) {
    let corpora = crate::scores::scores_on(Subject::Corpus);
    let ids: Vec<&str> = corpora.map(|score| score.id).collect();
    metrics.values.retain(|value| ids.contains(&value.score.as_str()));
}

fn cell(method: &str, sparsity: Sparsity, set: Option<&str>) -> CellResult {
    CellResult::queued(&CellSpec {
        recipe: Step::new(method, sparsity).into(),
        calibration: set.map(str::to_owned),
        seed: 0,
    })
}

/// The modules of the model with so many zeros, sixteen bits a weight.
fn zeros(share: f64) -> Footprint {
    let weights = 106_168_320;
    let zeros = (share * weights as f64).round() as u64;
    let packed_bits = weights + 16 * (weights - zeros);
    Footprint { weights, zeros, stored_bits: 16 * weights, packed_bits, ..Footprint::default() }
}

fn fraction(percent: f64) -> Sparsity {
    Sparsity::Fraction(percent / 100.0)
}

/// A finished cell whose damage grows with the sparsity, by a factor of its method's.
fn done(method: &str, sparsity: Sparsity, set: Option<&str>) -> CellResult {
    let place = crate::methods::METHODS.iter().position(|known| known.name() == method).unwrap();
    let by_set = if set == Some("alpaca") { 0.9 } else { 1.0 };
    let by_kind = if matches!(sparsity, Sparsity::SemiStructured { .. }) { 1.4 } else { 1.0 };
    let factor = [2.2, 1.0, 0.8][place] * by_set * by_kind;
    let damage = factor * sparsity.fraction().powi(3);
    let kept = 1.0 / (1.0 + 4.0 * damage);
    CellResult {
        state: CellState::Done,
        footprint: Some(zeros(sparsity.fraction())),
        metrics: measured(
            28.5 * (5.0 * damage * [0.55, 1.2, 0.9][place]).exp(),
            1.0 - (-2.0 * damage).exp(),
            [0.31 * kept, 0.62 * kept, 0.66 * kept],
        ),
        seconds: Seconds { load: 0.4, calibrate: 12.0, prune: 31.5, evaluate: 20.1, answer: 44.0 },
        ..cell(method, sparsity, set)
    }
}

fn study_view(study: i64, cells: Vec<CellResult>) -> StudyView {
    let base = BaseResult {
        metrics: measured(28.5, -1.0, [0.31, 0.62, 0.66]),
        seconds: Seconds { load: 0.4, evaluate: 18.0, answer: 40.0, ..Seconds::default() },
        ..BaseResult::default()
    };
    let rank_correlations = crate::scores::rank_done_cells(&base.metrics, &cells);
    StudyView {
        study,
        spec: Some(testing::study()),
        model: ModelInfo {
            source: "models/SmolLM2-135M".into(),
            architecture: "LlamaForCausalLM".into(),
            parameters: 134_515_008,
            prunable_parameters: 106_168_320,
            modules: ModelInfo::llama_modules(),
            blocks: 30,
            vocabulary: 49_152,
            dtype: "BF16".into(),
            source_bits: Some(SourceBits { all: 16 * 134_515_008, untouched: 16 * 28_346_688 }),
        },
        environment: Environment::default(),
        base,
        base_state: CellState::Done,
        cells,
        rank_correlations,
        contamination: Vec::new(),
        failures: HashMap::new(),
        answers: HashMap::new(),
        blocks_done: HashMap::new(),
        influence: std::collections::BTreeMap::new(),
    }
}

/// Three methods at five sparsities and 2:4, two calibration sets.
fn complete() -> StudyView {
    let mut cells = Vec::new();
    for (method, set) in [
        ("magnitude", None),
        ("wanda", Some("c4")),
        ("wanda", Some("alpaca")),
        ("sparsegpt", Some("c4")),
        ("sparsegpt", Some("alpaca")),
    ] {
        let fractions = [20.0, 40.0, 50.0, 60.0, 80.0].map(fraction);
        for sparsity in fractions.into_iter().chain([Sparsity::SemiStructured { zeros: 2, group: 4 }]) {
            cells.push(done(method, sparsity, set));
        }
    }
    study_view(3, cells)
}

fn state(study_view: Option<StudyView>, theme: Theme) -> State {
    let mut state = State::new(&testing::study(), Options::default(), theme, (80, 24));
    state.screen = Screen::Compare;
    state.study_view = study_view;
    state
}

fn compared<'a>(study_view: &'a StudyView, overlays: &'a [StudyView], corpus: usize) -> Comparison<'a> {
    Comparison::new(study_view, overlays, &CompareView { corpus, ..CompareView::default() })
}

fn press(state: &mut State, actions: &[Action]) -> Vec<Effect> {
    actions.iter().flat_map(|action| super::act(state, *action)).collect()
}
