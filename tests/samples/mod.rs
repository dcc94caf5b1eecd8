//! A hand-made study with everything in it that a study can have.

use std::collections::BTreeMap;

use secateur::methods::{GridLevels, grid, recipes};
use secateur::number::NamedNumbers;
use secateur::results::{
    Answer, BaseResult, CellResult, CellState, ChoiceLikelihood, Environment, ErrorBasis, Estimate,
    Footprint, Measurement, Metrics, ModelInfo, ModuleResult, RankCorrelations, Seconds, SourceBits,
    StudyResult, TaskScore, TextScoreRanks,
};
use secateur::scores::{
    EXACT_MATCH, F1, JS_DIVERGENCE, KL_DIVERGENCE, PERPLEXITY, ROUGE1, Score, Summary, TOP1_AGREEMENT,
};
use secateur::study::{
    CalibrationSpec, ComputeSpec, EvaluationSpec, PruneSpec, Sampling, ScoredPositions, ShotsSpec, Sparsity,
    StudySpec,
};

pub fn spec() -> StudySpec {
    let sparsities = vec![Sparsity::Fraction(0.1 + 0.2), Sparsity::SemiStructured { zeros: 2, group: 4 }];
    let levels = GridLevels { sparsities, ..GridLevels::default() };
    StudySpec {
        model: "models/tiny".into(),
        cells: grid(&recipes(&["magnitude", "sparsegpt"], &levels), &["data/c4.txt".into()], u64::MAX),
        seq_len: 512,
        calibration: CalibrationSpec {
            sets: vec!["data/c4.txt".into()],
            samples: 32,
            sampling: Sampling::Head,
        },
        evaluation: EvaluationSpec {
            corpora: vec!["wikitext2".into(), "ptb.txt".into()],
            max_windows: Some(8),
            score: ScoredPositions::All,
            tasks: vec!["squad.jsonl".into()],
            task_limit: None,
            shots: ShotsSpec::default(),
            max_new_tokens: 32,
            prompt: Some("{instruction}\n{input}".into()),
            disagreement: true,
        },
        prune: PruneSpec {
            blocks: Some((0, 3)),
            damping: 0.1 + 0.2,
            profile: Some("p.txt".into()),
            ..PruneSpec::default()
        },
        compute: ComputeSpec {
            device: "cuda:1".into(),
            dtype: "bf16".into(),
            batch_tokens: 2048,
            batch_prompts: 8,
        },
        seed: u64::MAX,
        fields: BTreeMap::new(),
    }
}

pub fn model() -> ModelInfo {
    ModelInfo {
        source: "models/tiny".into(),
        architecture: "LlamaForCausalLM".into(),
        parameters: 134_515_008,
        prunable_parameters: 106_168_320,
        modules: ModelInfo::llama_modules(),
        blocks: 30,
        vocabulary: 49152,
        dtype: "BF16".into(),
        source_bits: Some(SourceBits { all: 16 * 134_515_008, untouched: 16 * 133_515_008 }),
    }
}

pub fn environment() -> Environment {
    Environment {
        version: "0.1.0".into(),
        device: "cpu".into(),
        compute_dtype: "f32".into(),
        threads: 2,
        platform: "linux x86_64".into(),
    }
}

pub fn seconds() -> Seconds {
    Seconds { load: 0.1, calibrate: 1.0 / 3.0, prune: 60.5, evaluate: 38.25, answer: 12.0 }
}

pub fn estimate(value: f64) -> Estimate {
    Estimate { value, ci95: [value * 0.9, value * 1.1] }
}

/// A value on 8 windows or 64 records, its ends a tenth away.
///
/// Details beyond those that are given are a sixteenth.
pub fn measured(score: &Score, data_set: &str, value: f64, details: &[f64]) -> Measurement {
    let rest = std::iter::repeat(1.0 / 16.0);
    let details = details.iter().copied().chain(rest).take(score.details.len()).collect();
    let n = if [EXACT_MATCH.id, F1.id, ROUGE1.id].contains(&score.id) { 64 } else { 8 };
    score.measurement(data_set, n, Summary { estimate: estimate(value), details })
}

pub fn perplexity(corpus: &str, value: f64) -> Measurement {
    measured(&PERPLEXITY, corpus, value, &[0.1 / 3.0])
}

pub fn js(corpus: &str, bits: f64) -> Measurement {
    measured(&JS_DIVERGENCE, corpus, bits, &[bits * std::f64::consts::LN_2])
}

pub fn kl(corpus: &str, bits: f64) -> Measurement {
    measured(&KL_DIVERGENCE, corpus, bits, &[bits * std::f64::consts::LN_2])
}

pub fn top1(corpus: &str, share: f64) -> Measurement {
    measured(&TOP1_AGREEMENT, corpus, share, &[])
}

pub fn task(name: &str, score: f64) -> [Measurement; 3] {
    [(&EXACT_MATCH, 0.5), (&F1, 1.0), (&ROUGE1, 0.9)]
        .map(|(kind, factor)| measured(kind, name, score * factor, &[]))
}

/// All values of a score.
#[allow(dead_code, reason = "not every test that shares this looks at single scores")]
pub fn of<'a>(metrics: &'a mut Metrics, score: &'a Score) -> Vec<&'a mut Measurement> {
    metrics.values.iter_mut().filter(|value| value.score == score.id).collect()
}

pub fn base() -> BaseResult {
    let mut values = vec![perplexity("wikitext2", 28.526_481_39), perplexity("ptb", 60.25)];
    values.extend(task("squad", 0.6));
    BaseResult { metrics: Metrics { values }, seconds: seconds(), ..BaseResult::default() }
}

pub fn footprint(zeros: u64, weights: u64) -> Footprint {
    let packed_bits = weights + 16 * (weights - zeros);
    Footprint { weights, zeros, stored_bits: 16 * weights, packed_bits, ..Footprint::default() }
}

pub fn module(block: usize, path: &str) -> ModuleResult {
    ModuleResult {
        block,
        name: format!("model.layers.{block}.{path}"),
        footprint: footprint(110_592, 331_776),
        reconstruction_error: 0.012_345,
        error_basis: ErrorBasis::Hessian,
        dead_columns: 3,
        details: [("damping", 0.1 + 0.2)].into_iter().collect(),
        seconds: 0.25,
    }
}

/// The cells of [`spec`]: one done, one that became useless, one at work, one waiting.
pub fn cells() -> Vec<CellResult> {
    let mut cells: Vec<_> = spec().cells.iter().map(CellResult::queued).collect();
    cells[0] = CellResult {
        state: CellState::Done,
        footprint: Some(footprint(300_000, 1_000_000)),
        metrics: Metrics {
            values: [
                perplexity("wikitext2", 35.375),
                js("wikitext2", 0.083),
                kl("wikitext2", 0.4),
                top1("wikitext2", 0.75),
                perplexity("ptb", 80.5),
                js("ptb", 0.1),
                kl("ptb", 0.5),
                top1("ptb", 0.5),
            ]
            .into_iter()
            .chain(task("squad", 0.4))
            .collect(),
        },
        seconds: seconds(),
        peak_rss_bytes: 500_000_000,
        warnings: vec!["a \"quoted\" one, with | and,\nanother line".into(), "täst".into()],
        modules: vec![
            ModuleResult {
                error_basis: ErrorBasis::Weights,
                details: NamedNumbers::default(),
                ..module(0, "self_attn.q_proj")
            },
            module(0, "mlp.down_proj"),
            ModuleResult { reconstruction_error: f64::INFINITY, ..module(10, "self_attn.k_proj") },
        ],
        ..cells[0].clone()
    };
    cells[1].state = CellState::Failed;
    let mut ruined = measured(&PERPLEXITY, "wikitext2", f64::INFINITY, &[f64::NAN]);
    ruined.ci95 = [1e300, f64::INFINITY];
    let unsure = Measurement { ci95: [f64::NEG_INFINITY, f64::NAN], ..js("wikitext2", 1.0) };
    cells[1].metrics.values = vec![ruined, unsure];
    cells[2].state = CellState::Running;
    cells
}

/// Rank correlations of perplexity and JS divergence with F1, each with an interval as wide as this on both sides.
pub fn rank_correlations(
    perplexity: Option<f64>,
    js: Option<f64>,
    within: f64,
    cells: usize,
) -> RankCorrelations {
    let row = |(score, value): (&Score, Option<f64>)| {
        let ends = |value: f64| [(value - within).max(-1.0), (value + within).min(1.0)];
        let found = value.map(|value| Estimate { value, ci95: ends(value) });
        TextScoreRanks { score: score.id.into(), mean: found, by_task: vec![found] }
    };
    let tasks = vec![TaskScore { task: "squad".into(), score: F1.id.into() }];
    let texts = [(&PERPLEXITY, perplexity), (&JS_DIVERGENCE, js)].map(row).into();
    RankCorrelations { cells, tasks, texts }
}

pub fn result() -> StudyResult {
    StudyResult::new(
        1,
        model(),
        environment(),
        base(),
        cells(),
        rank_correlations(Some(0.5), Some(1.0), 0.2, 6),
    )
}

#[allow(dead_code, reason = "not every test that shares this needs answers")]
pub fn answer(task: &str, record: usize, text: &str) -> Answer {
    Answer {
        task: task.into(),
        record,
        prompt: format!("Question {record}?\n\u{1b}[31m"),
        references: vec!["Paris".into(), "the \"city\" of Paris".into()],
        text: text.into(),
        tokens: vec![0, 17, u32::MAX],
        pieces: vec!["Par".into(), String::new(), "is \u{1f5fc}".into()],
        disagreement_bits: vec![0.1, 1.0, f32::MIN_POSITIVE],
        choices: [("Paris", -0.1 - 0.2), ("Rome", f64::NEG_INFINITY)]
            .map(|(text, log_likelihood)| ChoiceLikelihood {
                text: text.into(),
                log_likelihood,
                is_greedy: text == "Paris",
            })
            .into(),
        scores: [("exact_match", 1.0), ("f1", 2.0 / 3.0), ("rouge1", 0.1 + 0.2)].into_iter().collect(),
    }
}
