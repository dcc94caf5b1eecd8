//! A study in all states at once, with answers, for the tests of this screen and of the history.

use std::collections::HashMap;

use ratatui::buffer::Buffer;

use crate::number::NamedNumbers;
use crate::results::{
    Answer, BaseResult, CellResult, CellState, ChoiceLikelihood, Environment, ErrorBasis, Estimate,
    Footprint, Metrics, ModelInfo, ModuleResult, RankCorrelations, Seconds, SourceBits,
};
use crate::scores::choice::{ACCURACY, most_likely};
use crate::scores::{EXACT_MATCH, F1, JS_DIVERGENCE, PERPLEXITY, ROUGE1, Score, Summary};
use crate::study::{CellSpec, Sparsity, Step, StudySpec};
use crate::tui::state::{Options, Screen, State, StudyView};
use crate::tui::theme::{Background, ColorMode, Theme};
use crate::tui::widgets::text;

pub(in crate::tui) const MAGNITUDE: &str = "magnitude-0.5";
pub(in crate::tui) const WANDA: &str = "wanda-0.5-c4-s7";
pub(in crate::tui) const RUNNING: &str = "sparsegpt-0.5-c4-s7";
pub(in crate::tui) const FAILED: &str = "sparsegpt-2of4-c4-s7";
pub(in crate::tui) const QUEUED: &str = "wanda-0.7-c4-s7";

/// Text that tries to take the terminal over, and to be wider or narrower than it looks.
pub(super) const NASTY: &str = "\u{1b}[2J\u{1b}]0;title\u{7}left \u{202e}thgir\u{202c} שלום עולם مرحبا 漢字漢字漢字 👩\u{200d}👩\u{200d}👧\u{200d}👦 \
                     🇩🇪 e\u{301}\u{301}\u{301} a\u{200b}b\u{feff} \u{9b}31m\ttab\r\nline";

pub(in crate::tui) fn theme(mode: ColorMode, ascii: bool) -> Theme {
    Theme::new(mode, Background::Dark, ascii)
}

pub(in crate::tui) fn spec() -> StudySpec {
    serde_json::from_str(include_str!("../../../store/test_spec.json")).unwrap()
}

pub(in crate::tui) fn empty(size: (u16, u16)) -> State {
    let options = Options { store: "studies.db".into(), ..Options::default() };
    let mut state = State::new(&spec(), options, theme(ColorMode::TrueColor, false), size);
    state.screen = Screen::Inspect;
    state
}

pub(super) fn scores(exact_match: f64, f1: f64, rouge1: f64) -> NamedNumbers {
    [(EXACT_MATCH.id, exact_match), (F1.id, f1), (ROUGE1.id, rouge1)].into_iter().collect()
}

/// An answer whose tokens are its words, with their disagreements.
pub(super) fn answer(record: usize, text: &str, bits: &[f32], scores: NamedNumbers) -> Answer {
    let prompts = [
        ("What is the capital of France?", &["Paris"][..]),
        (
            "Answer the question with words from the text.\n\nIn 1913 Niels Bohr proposed a model of the hydrogen \
             atom, in which the electron moves around the nucleus on fixed circular orbits and takes in or gives off \
             light only when it jumps from one of these to another.\n\nWhen does the electron give off light?",
            &["when it jumps from one orbit to another", "when it jumps"][..],
        ),
        ("Name three primary colours.", &["red, yellow, blue"][..]),
    ];
    let (prompt, references) = prompts.get(record).copied().unwrap_or((NASTY, &[NASTY][..]));
    let mut pieces: Vec<String> = Vec::new();
    for (i, word) in text.split(' ').enumerate() {
        pieces.push(if i == 0 { word.into() } else { format!(" {word}") });
    }
    Answer {
        task: "squad".into(),
        record,
        prompt: prompt.into(),
        references: references.iter().map(|reference| (*reference).into()).collect(),
        text: text.into(),
        tokens: (0..pieces.len() as u32).collect(),
        pieces,
        disagreement_bits: bits.to_vec(),
        choices: Vec::new(),
        scores,
    }
}

fn footprint(zeros: u64, weights: u64) -> Footprint {
    let packed_bits = weights + 16 * (weights - zeros);
    Footprint { weights, zeros, stored_bits: 16 * weights, packed_bits, ..Footprint::default() }
}

pub(in crate::tui) fn module(block: usize, name: &str, damping: Option<f64>) -> ModuleResult {
    ModuleResult {
        block,
        name: format!("model.layers.{block}.{name}"),
        footprint: footprint(165_888, 331_776),
        reconstruction_error: 0.0123 * (block + 1) as f64,
        error_basis: if damping.is_some() { ErrorBasis::Hessian } else { ErrorBasis::ColumnNorms },
        dead_columns: block * 2,
        details: damping.map(|damping| ("damping", damping)).into_iter().collect(),
        seconds: 0.25,
    }
}

pub(super) fn metrics(perplexity: f64, js: Option<f64>, f1: f64) -> Metrics {
    let of = |score: &Score, data_set: &str, value: f64, half: f64| {
        let estimate = Estimate { value, ci95: [value - half, value + half] };
        let details = score.details.iter().map(|_| 0.01).collect();
        score.measurement(data_set, 4, Summary { estimate, details })
    };
    let mut values = vec![of(&PERPLEXITY, "wikitext2", perplexity, 1.0)];
    values.extend(js.map(|bits| of(&JS_DIVERGENCE, "wikitext2", bits, 0.0)));
    for (score, value) in [(&EXACT_MATCH, f1 / 2.0), (&F1, f1), (&ROUGE1, f1)] {
        values.push(of(score, "squad", value, 0.1));
    }
    Metrics { values }
}

fn cell(method: &str, sparsity: &str, state: CellState) -> CellResult {
    let calibration = (method != "magnitude").then(|| "data/c4.txt".to_owned());
    let sparsity: Sparsity = sparsity.parse().unwrap();
    CellResult {
        state,
        ..CellResult::queued(&CellSpec { recipe: Step::new(method, sparsity).into(), calibration, seed: 7 })
    }
}

/// A study in all states at once: two cells done, one at work, one failed, one waiting. Without answers.
pub(in crate::tui) fn study_view() -> StudyView {
    let done = |method, f1| CellResult {
        footprint: Some(footprint(50_003, 100_000)),
        metrics: metrics(32.71, Some(0.053), f1),
        seconds: Seconds { load: 0.5, calibrate: 2.0, prune: 3.0, evaluate: 4.0, answer: 5.0 },
        ..cell(method, "0.5", CellState::Done)
    };
    let names = ["self_attn.q_proj", "mlp.down_proj"];
    let both = |block| names.map(|name| module(block, name, None));
    let mut wanda = done("wanda", 0.5);
    wanda.modules = (0..12).flat_map(both).collect();
    wanda.warnings = vec![
        "model.layers.3.mlp.down_proj: 6 input features were zero in every calibration token".into(),
        "only 8 of 128 calibration windows could be drawn".into(),
    ];
    let mut running = cell("sparsegpt", "0.5", CellState::Running);
    running.modules = vec![module(0, names[0], Some(0.01)), module(0, names[1], Some(0.1))];
    let mut failed = cell("sparsegpt", "2:4", CellState::Failed);
    failed.warnings = vec!["model.layers.0.self_attn.q_proj: damping was raised to 1".into()];
    let why = "model.layers.0.self_attn.q_proj: the Hessian is not positive definite even with damping 1; use more \
               calibration samples";
    StudyView {
        study: 3,
        spec: Some(spec()),
        model: ModelInfo {
            source: "HuggingFaceTB/SmolLM2-135M".into(),
            architecture: "LlamaForCausalLM".into(),
            parameters: 134_515_008,
            prunable_parameters: 106_168_320,
            modules: ModelInfo::llama_modules(),
            blocks: 30,
            vocabulary: 49_152,
            dtype: "BF16".into(),
            source_bits: Some(SourceBits { all: 16 * 134_515_008, untouched: 16 * 134_415_008 }),
        },
        environment: Environment {
            version: "0.1.0".into(),
            device: "cpu".into(),
            compute_dtype: "f32".into(),
            threads: 2,
            platform: "linux x86_64".into(),
        },
        base: BaseResult { metrics: metrics(28.5, None, 0.8), ..BaseResult::default() },
        base_state: CellState::Done,
        cells: vec![done("magnitude", 0.3), wanda, running, failed, cell("wanda", "0.7", CellState::Queued)],
        rank_correlations: RankCorrelations::default(),
        contamination: Vec::new(),
        failures: [(Some(FAILED.to_owned()), why.to_owned())].into(),
        answers: HashMap::new(),
        blocks_done: HashMap::new(),
        influence: std::collections::BTreeMap::new(),
    }
}

fn base_answers() -> Vec<Answer> {
    vec![
        answer(0, "Paris", &[], scores(1.0, 1.0, 1.0)),
        answer(1, "when it jumps from one orbit to another", &[], scores(1.0, 1.0, 1.0)),
        answer(2, "Red, yellow and blue are the three primary colours.", &[], scores(0.0, 0.5, 0.5)),
        answer(3, "plain", &[], scores(0.0, 0.25, 0.0)),
    ]
}

pub(super) fn wanda_answers() -> Vec<Answer> {
    let jump = "only when it takes in light from the nucleus and then moves around on fixed circular orbits until it \
                jumps to another of these orbits and gives off what it took in before it had moved around often enough to \
                have been seen on all of the orbits that there are, nearly everywhere";
    let bits: Vec<f32> = (0..jump.split(' ').count()).map(|i| [0.02, 0.3, 0.08, 0.6][i % 4]).collect();
    vec![
        answer(0, "The capital is Lyon", &[0.62, 0.04, 0.001, 0.97], scores(0.0, 0.0, 0.0)),
        answer(1, jump, &bits, scores(0.0, 0.55, 0.48)),
        answer(2, "Red, yellow and blue are the three primary colours.", &[0.01; 9], scores(0.0, 0.5, 0.5)),
        answer(3, NASTY, &vec![0.4; NASTY.split(' ').count()], scores(0.0, 0.5, 0.0)),
    ]
}

/// The study with the answers of the base and of both cells that are done; no disagreement was measured for the first.
pub(in crate::tui) fn inspecting(size: (u16, u16)) -> State {
    let mut state = empty(size);
    let mut study_view = study_view();
    let mut unmeasured = wanda_answers();
    for answer in &mut unmeasured {
        answer.disagreement_bits.clear();
        answer.pieces.clear();
    }
    study_view.answers.insert(None, base_answers());
    study_view.answers.insert(Some(MAGNITUDE.into()), unmeasured);
    study_view.answers.insert(Some(WANDA.into()), wanda_answers());
    state.study_view = Some(study_view);
    state.inspect.choose(WANDA);
    state
}

/// An answer to a question with as many choices as log-likelihoods, of which the one at `right` is accepted.
pub(super) fn choosing_answer(record: usize, logs: &[f64], right: usize) -> Answer {
    let names = ["carbon dioxide", "oxygen", "nitrogen", "helium"];
    let choices = logs.iter().zip(names).map(|(&log_likelihood, name)| ChoiceLikelihood {
        text: name.into(),
        log_likelihood,
        is_greedy: false,
    });
    let choices: Vec<ChoiceLikelihood> = choices.collect();
    let best = most_likely(logs.iter().copied());
    let is_right = f64::from(u8::from(best == right));
    Answer {
        task: "arc_easy".into(),
        record,
        prompt: format!("Question: Which gas is meant by clue {record} of the list?\nAnswer:"),
        references: vec![names[right].into()],
        text: names[best].into(),
        tokens: Vec::new(),
        pieces: Vec::new(),
        disagreement_bits: Vec::new(),
        choices,
        scores: [(ACCURACY.id, is_right)].into_iter().collect(),
    }
}

/// The study with the answers of the base and of one cell to questions with choices: 1 and 4 flip, 3 is wrong in both.
pub(super) fn choosing(size: (u16, u16)) -> State {
    let mut state = empty(size);
    let mut study_view = study_view();
    let of = |likelihoods: [[f64; 3]; 6]| -> Vec<Answer> {
        let rights = [0, 1, 2, 0, 1, 2];
        likelihoods.iter().zip(rights).enumerate().map(|(i, (logs, r))| choosing_answer(i, logs, r)).collect()
    };
    let base = [
        [-2.0, -5.0, -6.0],
        [-4.0, -3.0, -5.0],
        [-9.0, -8.0, -2.0],
        [-5.0, -4.0, -6.0],
        [-3.0, -3.5, -6.0],
        [-7.0, -6.0, -3.0],
    ];
    let cell = [
        [-2.5, -4.0, -6.0],
        [-3.0, -6.0, -5.0],
        [-8.0, -7.0, -3.0],
        [-5.0, -4.75, -6.0],
        [-5.0, -3.0, -6.0],
        [-4.0, -6.0, -3.0],
    ];
    study_view.answers.insert(None, of(base));
    study_view.answers.insert(Some(WANDA.into()), of(cell));
    state.study_view = Some(study_view);
    state.inspect.choose(WANDA);
    state
}

/// The lines of a buffer; a wide character is followed by no blank.
pub(in crate::tui) fn lines(buffer: &Buffer) -> Vec<String> {
    let area = buffer.area;
    let line = |y| {
        let mut line = String::new();
        let mut x = area.left();
        while x < area.right() {
            let symbol = buffer[(x, y)].symbol();
            line.push_str(symbol);
            x += text::width(symbol).max(1) as u16;
        }
        line.trim_end().to_owned()
    };
    (area.top()..area.bottom()).map(line).collect()
}
