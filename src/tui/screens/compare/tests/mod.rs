//! What the comparison shows, what keys do to it, and that nothing makes it panic.

mod any;
mod keys;
mod look;
mod projection;

use std::collections::HashMap;

use crate::eval::stats;
use crate::results::{
    Agreement, BaseResult, CellResult, CellState, Divergence, Environment, Estimate, Footprint, Metrics,
    ModelInfo, Perplexity, Seconds, TaskScores,
};
use crate::study::{CellSpec, Sparsity, Step};
use crate::tui::keymap::Action;
use crate::tui::message::Effect;
use crate::tui::state::{Board, Options, Screen, State};
use crate::tui::testing;
use crate::tui::theme::{Background, ColorMode, Theme};

const FULL: Theme = Theme::new(ColorMode::TrueColor, Background::Dark, false);
const PLAIN: Theme = Theme::new(ColorMode::None, Background::Dark, false);
const ASCII: Theme = Theme::new(ColorMode::None, Background::Dark, true);

fn estimate(value: f64, half: f64) -> Estimate {
    Estimate { value, ci95: [value - half, value + half] }
}

fn task(name: &str, n: usize, scores: [f64; 3]) -> TaskScores {
    let [exact_match, f1, rouge1] = scores.map(|score| estimate(score, 0.04));
    TaskScores { name: name.into(), n, exact_match, f1, rouge1 }
}

/// Measurements on one text and one task; the base has no divergences (`bits` below 0).
fn measured(perplexity: f64, bits: f64, scores: [f64; 3]) -> Metrics {
    let divergence = |bits: f64| Divergence {
        corpus: "wikitext2".into(),
        bits,
        nats: bits * std::f64::consts::LN_2,
        ci95: [bits * 0.95, bits * 1.05],
    };
    let of_cell = bits >= 0.0;
    Metrics {
        perplexity: vec![Perplexity {
            corpus: "wikitext2".into(),
            value: perplexity,
            ci95: [perplexity * 0.96, perplexity * 1.04],
            standard_error_nats: 0.02,
            windows: 40,
        }],
        js_divergence: of_cell.then(|| divergence(bits)).into_iter().collect(),
        kl_divergence: of_cell.then(|| divergence(bits * 3.1)).into_iter().collect(),
        top1_agreement: of_cell
            .then(|| Agreement { corpus: "wikitext2".into(), estimate: estimate(1.0 - bits, 0.01) })
            .into_iter()
            .collect(),
        tasks: vec![task("alpaca", 200, scores)],
    }
}

fn cell(method: &str, sparsity: Sparsity, set: Option<&str>) -> CellResult {
    CellResult::queued(&CellSpec {
        recipe: Step::new(method, sparsity).into(),
        calibration: set.map(str::to_owned),
        seed: 0,
    })
}

fn zeros(share: f64) -> Footprint {
    Footprint { weights: 1_000_000, zeros: (share * 1e6).round() as u64, ..Footprint::default() }
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

fn board(study: i64, cells: Vec<CellResult>) -> Board {
    let base = BaseResult {
        metrics: measured(28.5, -1.0, [0.31, 0.62, 0.66]),
        seconds: Seconds { load: 0.4, evaluate: 18.0, answer: 40.0, ..Seconds::default() },
    };
    let finished: Vec<&Metrics> =
        cells.iter().filter(|cell| cell.state == CellState::Done).map(|cell| &cell.metrics).collect();
    let insight = stats::insight(&base.metrics, &finished);
    Board {
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
        },
        environment: Environment::default(),
        base,
        base_state: CellState::Done,
        cells,
        insight,
        failures: HashMap::new(),
        answers: HashMap::new(),
        blocks_done: HashMap::new(),
    }
}

/// Three methods at five sparsities and 2:4, two calibration sets.
fn complete() -> Board {
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
    board(3, cells)
}

fn state(board: Option<Board>, theme: Theme) -> State {
    let mut state = State::new(&testing::study(), Options::default(), theme, (80, 24));
    state.screen = Screen::Compare;
    state.board = board;
    state
}

fn press(state: &mut State, actions: &[Action]) -> Vec<Effect> {
    actions.iter().flat_map(|action| super::act(state, *action)).collect()
}
