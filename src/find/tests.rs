//! Searches against a made-up engine.

use std::collections::{HashMap, VecDeque};

use super::answer::EdgeAnswer;
use super::*;
use crate::engine::{Command, Event, PlannedCell, ResourceEstimate};
use crate::number::NamedNumbers;
use crate::results::{
    BaseResult, CellResult, CellState, Environment, Footprint, Measurement, Metrics, ModelInfo,
    RankCorrelations, Seconds, StudyResult,
};
use crate::scores::{F1, JS_DIVERGENCE, PERPLEXITY, Score};
use crate::study::{CellSpec, Level};

/// What an engine finds out of a cell, or of the base: values of scores on one data set.
type Truth<'a> = &'a dyn Fn(Option<&CellSpec>) -> Vec<(&'static Score, f64)>;

fn metrics(values: &[(&'static Score, f64)]) -> Metrics {
    let value = |(score, value): &(&'static Score, f64)| Measurement {
        score: score.id.into(),
        data_set: "text".into(),
        value: *value,
        ci95: [*value; 2],
        n: 8,
        details: NamedNumbers::default(),
    };
    Metrics { values: values.iter().map(value).collect() }
}

fn footprint(cell: &CellSpec) -> Footprint {
    let bits = cell.recipe.steps().find_map(|step| match step.level {
        Level::Bits(bits) => Some(u64::from(bits)),
        _ => None,
    });
    let stored_bits = 900 * bits.unwrap_or(16);
    Footprint { weights: 900, stored_bits, packed_bits: stored_bits, ..Footprint::default() }
}

fn search(recipe: &str, bound: &str) -> EdgeSearch {
    let recipe = OpenRecipe::parse(recipe).unwrap();
    let like = CellSpec { recipe: recipe.at(recipe.levels()[0]), calibration: Some("c4".into()), seed: 0 };
    EdgeSearch::new(recipe, bound.parse().unwrap(), &like)
}

/// An engine that does at once what it is asked for.
struct MadeUp<'a> {
    truth: Truth<'a>,
    queue: VecDeque<CellSpec>,
    cells: Vec<CellResult>,
    base_done: bool,
    /// Says that it has finished whenever a cell is done, before it hears what comes next.
    hasty: bool,
    /// The search may ask for more cells.
    expects: bool,
    /// The cells that it ran, in order, of all its lives.
    ran: Vec<String>,
    lines: Vec<String>,
}

impl<'a> MadeUp<'a> {
    fn new(truth: Truth<'a>) -> Self {
        let (queue, cells, ran, lines) = (VecDeque::new(), Vec::new(), Vec::new(), Vec::new());
        Self { truth, queue, cells, base_done: false, hasty: false, expects: false, ran, lines }
    }

    fn cell(&mut self, spec: &CellSpec) -> &mut CellResult {
        let at = self.cells.iter().position(|cell| cell.id == spec.id()).unwrap_or_else(|| {
            self.cells.push(CellResult::queued(spec));
            self.cells.len() - 1
        });
        &mut self.cells[at]
    }

    fn result(&self) -> StudyResult {
        let base = BaseResult { metrics: metrics(&(self.truth)(None)), ..BaseResult::default() };
        StudyResult::new(
            7,
            ModelInfo::of_two_blocks(),
            Environment::default(),
            base,
            self.cells.clone(),
            RankCorrelations::default(),
        )
    }

    fn tell(&mut self, search: &mut EdgeSearch, event: &Event) {
        let news = search.event(event);
        self.lines.extend(news.lines);
        for command in news.commands {
            match command {
                Command::AddCell(cell) => self.queue.push_back(cell),
                Command::CancelCell(id) => self.queue.retain(|cell| cell.id() != id),
                Command::ExpectCells(expects) => self.expects = expects,
                other => panic!("{other:?}"),
            }
        }
    }

    fn finished(&mut self, search: &mut EdgeSearch) {
        let result = Box::new(self.result());
        self.tell(search, &Event::Finished { result });
    }

    /// Begins or resumes a study with the search's first cell, and runs at most so many cells.
    fn run(&mut self, search: &mut EdgeSearch, most: usize) {
        let first = search.longest_way().remove(0);
        self.cell(&first);
        self.queue =
            self.cells.iter().filter(|c| c.state != CellState::Done).map(|c| c.spec.clone()).collect();
        let planned = |cell: &CellResult| PlannedCell {
            id: cell.id.clone(),
            spec: cell.spec.clone(),
            state: cell.state,
            blocks_done: 0,
        };
        let cells = self.cells.iter().map(planned).collect();
        let (environment, estimate) = (Environment::default(), ResourceEstimate::default());
        self.tell(
            search,
            &Event::Plan {
                study: 7,
                model: Box::new(ModelInfo::of_two_blocks()),
                environment,
                cells,
                estimate,
            },
        );
        if !std::mem::replace(&mut self.base_done, true) {
            let found = metrics(&(self.truth)(None));
            self.tell(search, &Event::Metrics { cell: None, metrics: found });
            self.tell(search, &Event::CellDone { cell: None, seconds: Seconds::default(), footprint: None });
        }
        for _ in 0..most {
            if self.queue.is_empty() {
                self.finished(search);
            }
            let Some(spec) = self.queue.pop_front() else { return };
            self.one(search, &spec);
        }
    }

    fn one(&mut self, search: &mut EdgeSearch, spec: &CellSpec) {
        let id = spec.id();
        assert!(!self.ran.contains(&id), "{id} is run twice");
        self.ran.push(id.clone());
        let (found, footprint) = (metrics(&(self.truth)(Some(spec))), footprint(spec));
        let cell = self.cell(spec);
        (cell.metrics, cell.footprint, cell.state) = (found.clone(), Some(footprint), CellState::Done);
        self.tell(search, &Event::Metrics { cell: Some(id.clone()), metrics: found });
        let (seconds, footprint) = (Seconds::default(), Some(footprint));
        self.tell(search, &Event::CellDone { cell: Some(id), seconds, footprint });
        if self.hasty {
            self.finished(search);
        }
    }
}

/// Runs a search to its end.
fn found(recipe: &str, bound: &str, truth: Truth<'_>) -> (EdgeAnswer, Vec<String>, Vec<String>) {
    let (mut search, mut engine) = (search(recipe, bound), MadeUp::new(truth));
    engine.run(&mut search, 1000);
    assert!(search.is_over() && search.trouble().is_none(), "{:?}", search.trouble());
    assert!(engine.queue.is_empty() && !engine.expects, "nothing more is asked for");
    (search.answer(), engine.ran, engine.lines)
}

/// A divergence that grows with the zeros.
fn js_of_zeros(cell: Option<&CellSpec>) -> Vec<(&'static Score, f64)> {
    let zeros = cell.map_or(0.0, |cell| cell.recipe.zeros());
    let mut values = vec![(&PERPLEXITY as &Score, 10.0 + 10.0 * zeros), (&F1, 0.8 - 0.8 * zeros)];
    if cell.is_some() {
        values.push((&JS_DIVERGENCE, zeros / 10.0));
    }
    values
}

#[test]
fn it_finds_the_edge_and_says_on_the_way_what_is_known() {
    let (answer, ran, lines) = found("wanda", "js<=0.0415", &js_of_zeros);
    assert_eq!(
        answer.sentence(),
        "wanda keeps js<=0.0415 up to 41% (JS 0.0410 bits) and breaks it at 42% (JS 0.0420 bits). 7 cells were run."
    );
    assert_eq!((ran.len(), ran[0].as_str()), (7, "wanda-0.5-c4-s0"));
    assert_eq!(lines[0], "base keeps js<=0.0415: JS 0.0000 bits");
    assert_eq!(lines[1], "The edge lies after base. At most 7 cells to go; next is 50%.");
    assert_eq!(lines[2], "50% breaks js<=0.0415: JS 0.0500 bits");
    assert_eq!(lines[3], "The edge lies between base and 50%. At most 6 cells to go; next is 25%.");
    assert_eq!(lines.len(), 2 + 2 * 6 + 1, "{lines:?}");
}

#[test]
fn wherever_the_edge_is_seven_cells_find_it_among_99_levels() {
    for last in 0..=99 {
        let limit = f64::from(last) / 1000.0 + 0.0005;
        for hasty in [false, true] {
            let (mut search, mut engine) =
                (search("wanda", &format!("js<={limit}")), MadeUp::new(&js_of_zeros));
            engine.hasty = hasty;
            engine.run(&mut search, 1000);
            let answer = search.answer();
            let name = if last == 0 { "base".to_owned() } else { format!("{last}%") };
            assert_eq!(answer.holds.map(|level| level.level), Some(name));
            assert_eq!(answer.breaks.map(|level| level.level), (last < 99).then(|| format!("{}%", last + 1)));
            assert!(answer.complete && engine.ran.len() <= 7 && answer.cells_run == engine.ran.len());
        }
    }
}

#[test]
fn there_is_an_answer_where_the_least_level_breaks_and_where_every_level_holds() {
    let (answer, ..) = found("wanda", "js<=0.0005", &js_of_zeros);
    assert_eq!(
        answer.sentence(),
        "wanda breaks js<=0.0005 at 1%, its least level, already: JS 0.0010 bits. 6 cells were run."
    );
    let (answer, ran, _) = found("gptq", "js<=0.5", &js_of_zeros);
    assert_eq!(
        answer.sentence(),
        "gptq keeps js<=0.5 at every level, up to 2bit (JS 0.0000 bits). 3 cells were run."
    );
    assert_eq!(ran.len(), 3, "five levels with the base");
}

#[test]
fn a_base_that_breaks_the_bound_needs_no_cell() {
    let (answer, ran, _) = found("wanda", "perplexity<=9", &js_of_zeros);
    assert_eq!(
        answer.sentence(),
        "The base itself breaks perplexity<=9: perplexity 10.000. There is no edge among the levels of wanda. 0 cells were run."
    );
    assert!(ran.is_empty(), "the first cell is cancelled: {ran:?}");
}

#[test]
fn shares_are_of_the_base() {
    let (answer, ..) = found("wanda", "f1>=95%", &js_of_zeros);
    assert!(
        answer.sentence().starts_with("wanda keeps f1>=95% of the base up to 5% (F1 0.760)"),
        "{answer:?}"
    );
    assert!((answer.limit.unwrap() - 0.76).abs() < 1e-12);
}

#[test]
fn of_a_size_the_least_compression_that_meets_it_is_found() {
    // 112.5 bytes a bit, and 200 that stay.
    let sizes = |bound: &str| found("rtn", bound, &js_of_zeros).0.sentence();
    assert!(sizes("size<=700B").starts_with("rtn meets size<=700B from 4bit on (size 650 B); 8bit does not"));
    assert!(
        sizes("size<=1900B")
            .starts_with("rtn meets size<=1900B from 8bit on (size 1.1 kB); the base does not")
    );
    assert!(
        sizes("size<=300B")
            .starts_with("rtn meets size<=300B at no level: at 2bit, its greatest, size 425 B.")
    );
    assert_eq!(
        sizes("size<=100%"),
        "The base itself meets size<=100% of the base: size 2.0 kB. Nothing has to be compressed. 0 cells were run."
    );
}

#[test]
fn resumed_after_any_number_of_cells_it_runs_none_twice_and_counts_all() {
    let whole = found("wanda", "js<=0.0625", &js_of_zeros);
    for stop in 0..=whole.1.len() {
        let mut engine = MadeUp::new(&js_of_zeros);
        engine.run(&mut search("wanda", "js<=0.0625"), stop);
        // The cell that was asked for last was begun.
        if let Some(begun) = engine.queue.front().cloned() {
            engine.cell(&begun).state = CellState::Cancelled;
        }
        let mut search = search("wanda", "js<=0.0625");
        engine.run(&mut search, 1000);
        let answer = search.answer();
        assert_eq!((&answer.holds, &answer.breaks), (&whole.0.holds, &whole.0.breaks), "{stop}");
        assert_eq!(engine.ran, whole.1, "{stop}");
        assert_eq!(answer.cells_run, whole.1.len() - stop);
    }
}

#[test]
fn levels_that_another_run_has_measured_count() {
    let mut engine = MadeUp::new(&js_of_zeros);
    engine.run(&mut search("wanda", "js<=0.0415"), 1000);
    let mut other = search("wanda", "js<=0.0405");
    engine.run(&mut other, 1000);
    let answer = other.answer();
    assert_eq!(answer.holds.unwrap().level, "40%");
    assert_eq!(answer.breaks.unwrap().level, "41%");
    assert!(answer.cells_run <= 2, "{:?}", engine.ran);
    let known = format!(
        "{} cell{} run, 7 the study had already.",
        answer.cells_run,
        if answer.cells_run == 1 { " was" } else { "s were" }
    );
    assert!(other.answer().sentence().ends_with(&known), "{}", other.answer().sentence());
    assert!(engine.lines.iter().any(|line| line == "50% breaks js<=0.0405: JS 0.0500 bits, known already"));
}

#[test]
fn a_study_that_is_open_can_be_searched_without_a_plan() {
    let mut engine = MadeUp::new(&js_of_zeros);
    engine.run(&mut search("wanda", "js<=0.0415"), 2);
    let result = engine.result();
    let mut open = search("wanda", "js<=0.0415");
    let news = open.learn(7, &result.model, Some(&result.base.metrics), &result.cells);
    let [Command::ExpectCells(true), Command::AddCell(next)] = &news.commands[..] else { panic!("{news:?}") };
    assert_eq!(next.id(), "wanda-0.37-c4-s0");
    let again = open.learn(7, &result.model, Some(&result.base.metrics), &result.cells);
    assert!(again.commands.is_empty(), "it waits: {again:?}");
}

#[test]
fn a_bound_without_a_single_edge_is_said_to_have_none() {
    // Of two runs with other bounds, 62% was measured, and it holds by chance.
    let truth = |cell: Option<&CellSpec>| {
        let mut values = js_of_zeros(cell);
        for (score, value) in &mut values {
            if **score == JS_DIVERGENCE && (*value - 0.062).abs() < 1e-9 {
                *value = 0.0;
            }
        }
        values
    };
    let (mut engine, mut search) = (MadeUp::new(&truth), search("wanda", "js<=0.04"));
    let lucky = CellSpec { recipe: "wanda@62%".parse().unwrap(), calibration: Some("c4".into()), seed: 0 };
    engine.cell(&lucky);
    engine.run(&mut search, 1000);
    let sentence = search.answer().sentence();
    assert!(sentence.contains("breaks it at 41%"), "{sentence}");
    assert!(
        sentence.contains("Yet 62% (JS 0.0000 bits) holds, beyond 41%: the bound has no single edge."),
        "{sentence}"
    );
}

#[test]
fn what_goes_wrong_ends_the_search_and_says_what_is_known() {
    let begun = || {
        let (mut search, mut engine) = (search("wanda", "js<=0.0415"), MadeUp::new(&js_of_zeros));
        engine.run(&mut search, 2);
        (search, engine)
    };
    let waiting = Some("wanda-0.37-c4-s0".to_owned());
    let (mut failed, _) = begun();
    failed.event(&Event::CellFailed { cell: waiting.clone(), message: "the disk is full".into() });
    let error = failed.trouble().unwrap();
    assert_eq!(error.to_string(), "the search ends at 37%, which failed: the disk is full");
    assert!(failed.is_over() && error.exit_code() == 1);
    assert_eq!(failed.answer().sentence(), "The edge lies between 25% and 50%. 2 cells were run.");

    let (mut cancelled, _) = begun();
    cancelled.event(&Event::Cell { cell: waiting, state: CellState::Cancelled });
    assert_eq!(cancelled.trouble().unwrap().to_string(), "the search ends at 37%, which was cancelled");
    let (mut other, _) = begun();
    other.event(&Event::Cell { cell: Some("ria-0.5-c4-s0".into()), state: CellState::Cancelled });
    assert!(!other.is_over());
}

#[test]
fn a_bound_that_cannot_be_judged_is_a_mistake_as_soon_as_the_base_is_measured() {
    let no_answer = |cell: Option<&CellSpec>| {
        js_of_zeros(cell)
            .into_iter()
            .map(|(score, value)| (score, if *score == F1 { 0.0 } else { value }))
            .collect::<Vec<_>>()
    };
    for (bound, part) in [
        ("acc>=90%", "bound `acc>=90% of the base`: this study measures no acc"),
        ("f1>=95%", "bound `f1>=95% of the base`: the base has F1 0.000, and no share of that is a limit"),
    ] {
        let (mut search, mut engine) = (search("wanda", bound), MadeUp::new(&no_answer));
        engine.run(&mut search, 1000);
        let error = search.trouble().unwrap();
        assert!(error.exit_code() == 2 && error.to_string().contains(part), "{error}");
        assert!(engine.ran.is_empty());
    }
}

#[test]
fn the_answer_is_data_too() {
    let (answer, ..) = found("gptq,group=64", "perplexity<=11", &js_of_zeros);
    let json = serde_json::to_value(&answer).unwrap();
    let fields: HashMap<String, serde_json::Value> = serde_json::from_value(json).unwrap();
    assert_eq!(fields["recipe"], "gptq,group=64");
    assert_eq!(fields["holds"]["cell"], "gptq-2bit-group64-c4-s0");
    assert!(fields["breaks"].is_null());
    assert_eq!(fields["score"], "perplexity");
    assert_eq!(fields["limit"], 11.0);
    assert_eq!(fields["study"], 7);
    assert_eq!(fields["cells_run"], 3);
}
