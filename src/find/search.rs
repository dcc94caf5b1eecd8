//! The search as a machine: events of the engine in, commands out.

use std::collections::{BTreeSet, HashMap};

use super::answer::{EdgeAnswer, TriedLevel};
use super::bisection::Bisection;
use super::bound::ScoreBound;
use super::open_recipe::OpenRecipe;
use crate::engine::{Command, Event};
use crate::error::Error;
use crate::results::{CellResult, CellState, Metrics, ModelFootprint, ModelInfo, StudyResult};
use crate::scores::BASE;
use crate::study::{CellSpec, Level};

/// What to do, and what to say, after an event.
#[derive(Debug, Default)]
pub(crate) struct SearchNews {
    /// For the engine, in this order.
    pub commands: Vec<Command>,
    /// For people, each a line.
    pub lines: Vec<String>,
}

/// A search for the edge among the levels of a recipe.
///
/// It decides once the base is measured and every level that the study has done is read: what is known already counts, and
/// nothing is run twice.
#[derive(Debug, Clone)]
pub(crate) struct EdgeSearch {
    recipe: OpenRecipe,
    bound: ScoreBound,
    /// The base and all levels in the order of the bisection: where levels are the first that hold. Of a bound that
    /// compressing meets, the greatest compression is the first and the base the last.
    places: Vec<SearchPlace>,
    study: Option<i64>,
    model: Option<ModelInfo>,
    /// What was measured on the base, once that is complete.
    base: Option<Metrics>,
    /// What was last heard of cells that are not done.
    heard: HashMap<Option<String>, Metrics>,
    /// Cells that an earlier run has done, and whose measurements are still to come.
    unread: BTreeSet<usize>,
    /// The level that was asked for.
    waiting: Option<usize>,
    /// Levels in the order in which their values became known.
    tried: Vec<usize>,
    /// Cells that were done while this search ran.
    run: BTreeSet<usize>,
    /// Why it cannot go on.
    trouble: Option<SearchTrouble>,
    is_known: bool,
}

/// The base or a level.
#[derive(Debug, Clone)]
struct SearchPlace {
    /// `base`, `50%`.
    name: String,
    /// `None` is the base.
    cell: Option<CellSpec>,
    /// What was measured, and the size of the whole model, once that is complete.
    found: Option<(Metrics, Option<ModelFootprint>)>,
    /// What the bound looks at, and whether it holds.
    outcome: Option<(f64, bool)>,
}

#[derive(Debug, Clone)]
struct SearchTrouble {
    message: String,
    is_mistake: bool,
}

impl EdgeSearch {
    /// A search that knows nothing yet. Its cells are calibrated and seeded as `like` is.
    pub(crate) fn new(recipe: OpenRecipe, bound: ScoreBound, like: &CellSpec) -> Self {
        let place = |name: String, cell| SearchPlace { name, cell, found: None, outcome: None };
        let level = |level: &Level| {
            let cell = CellSpec { recipe: recipe.at(*level), ..like.clone() };
            place(level.label(), Some(cell))
        };
        let base = place(BASE.into(), None);
        let mut places: Vec<SearchPlace> =
            std::iter::once(base).chain(recipe.levels().iter().map(level)).collect();
        if bound.met_by_compressing {
            places.reverse();
        }
        Self {
            recipe,
            bound,
            places,
            study: None,
            model: None,
            base: None,
            heard: HashMap::new(),
            unread: BTreeSet::new(),
            waiting: None,
            tried: Vec::new(),
            run: BTreeSet::new(),
            trouble: None,
            is_known: false,
        }
    }

    /// The cells that the search asks for where every one of them holds: no other way is longer. The base is taken to be
    /// on its side of the edge, as it nearly always is.
    pub(crate) fn longest_way(&self) -> Vec<CellSpec> {
        let mut bisection = Bisection::new(self.places.len());
        bisection.tell(self.base_place(), !self.bound.met_by_compressing);
        let mut way = Vec::new();
        while let Some(next) = bisection.next() {
            bisection.tell(next, true);
            way.extend(self.places[next].cell.clone());
        }
        way
    }

    /// What is looked for, and how many cells it takes at most.
    pub(crate) fn describe(&self) -> String {
        let (levels, cells) = (self.places.len() - 1, self.longest_way().len());
        let wanted = if self.bound.met_by_compressing { "least compression" } else { "greatest compression" };
        let plural = if cells == 1 { "cell" } else { "cells" };
        format!(
            "looking for the {wanted} by {} with {}: {levels} levels, at most {cells} {plural}",
            self.recipe, self.bound
        )
    }

    /// Whether the search has ended: the edge is known, or it cannot go on.
    pub(crate) fn is_over(&self) -> bool {
        self.is_known || self.trouble.is_some()
    }

    /// Whether it looks for the edge of this study.
    pub(crate) fn is_in(&self, study: i64) -> bool {
        self.study == Some(study)
    }

    /// The cell that it waits for.
    pub(crate) fn awaited(&self) -> Option<&CellSpec> {
        self.places.get(self.waiting?)?.cell.as_ref()
    }

    /// Why it could not go on.
    pub(crate) fn trouble(&self) -> Option<Error> {
        let SearchTrouble { message, is_mistake } = self.trouble.clone()?;
        Some(if is_mistake { Error::mistake(message) } else { Error::failure(message) })
    }

    /// Takes an event in.
    pub(crate) fn event(&mut self, event: &Event) -> SearchNews {
        if self.is_over() {
            return SearchNews::default();
        }
        match event {
            Event::Plan { study, model, cells, .. } => {
                (self.study, self.model) = (Some(*study), Some(model.as_ref().clone()));
                for cell in cells {
                    let Some(place) = self.place_of(&cell.id) else { continue };
                    if self.places[place].found.is_some() {
                        continue;
                    }
                    if cell.state == CellState::Done {
                        self.unread.insert(place);
                    } else {
                        self.waiting.get_or_insert(place);
                    }
                }
                SearchNews { commands: vec![Command::ExpectCells(true)], lines: Vec::new() }
            }
            Event::Metrics { cell, metrics } => {
                self.heard.insert(cell.clone(), metrics.clone());
                SearchNews::default()
            }
            Event::CellDone { cell: None, .. } => {
                self.base = self.heard.remove(&None).or(self.base.take());
                self.advance()
            }
            Event::CellDone { cell: Some(id), footprint, .. } => {
                let whole = self.model.as_ref().zip(footprint.as_ref());
                let whole = whole.and_then(|(model, compressed)| model.cell_footprint(compressed));
                let Some(place) = self.place_of(id) else { return SearchNews::default() };
                self.run.insert(place);
                self.heard_of(place);
                match self.heard.remove(&Some(id.clone())) {
                    Some(metrics) => self.places[place].found = Some((metrics, whole)),
                    // It was measured before the search began.
                    None => _ = self.unread.insert(place),
                }
                self.advance()
            }
            Event::CellFailed { cell: Some(id), message } if self.awaits(id) => {
                let name = &self.places[self.waiting.unwrap_or_default()].name;
                self.fail(format!("the search ends at {name}, which failed: {message}"), false)
            }
            Event::Cell { cell: Some(id), state: CellState::Cancelled } if self.awaits(id) => {
                let name = &self.places[self.waiting.unwrap_or_default()].name;
                self.fail(format!("the search ends at {name}, which was cancelled"), false)
            }
            Event::Finished { result } => self.read(result),
            _ => SearchNews::default(),
        }
    }

    /// Takes in what a study has found out so far.
    fn read(&mut self, result: &StudyResult) -> SearchNews {
        self.learn(result.study, &result.model, Some(&result.base.metrics), &result.cells)
    }

    /// Takes in what is known of a study: its base, once that is measured, and its cells.
    pub(crate) fn learn(
        &mut self,
        study: i64,
        model: &ModelInfo,
        base: Option<&Metrics>,
        cells: &[CellResult],
    ) -> SearchNews {
        (self.study, self.model) = (Some(study), Some(model.clone()));
        if let Some(base) = base {
            self.base = Some(base.clone());
        }
        let mut unread = BTreeSet::new();
        for cell in cells.iter().filter(|cell| cell.state == CellState::Done) {
            let Some(place) = self.place_of(&cell.id) else { continue };
            if cell.metrics.values.is_empty() && self.places[place].found.is_none() {
                unread.insert(place);
                continue;
            }
            let whole = cell.footprint.as_ref().and_then(|found| model.cell_footprint(found));
            self.places[place].found.get_or_insert_with(|| (cell.metrics.clone(), whole));
            // What is waited for may turn out to be done: the engine tells no measurements of such a cell.
            self.heard_of(place);
        }
        self.unread = unread;
        self.advance()
    }

    /// Looks at what is known, and asks for the next level.
    fn advance(&mut self) -> SearchNews {
        let mut news = SearchNews::default();
        if self.is_over() || !self.unread.is_empty() {
            return news;
        }
        let fresh = match self.judge() {
            None => return news,
            Some(Err(SearchTrouble { message, is_mistake })) => return self.fail(message, is_mistake),
            Some(Ok(fresh)) => fresh,
        };
        let bisection = self.bisection();
        let next = bisection.next();
        self.is_known = next.is_none();
        let lines = fresh.iter().map(|place| self.outcome_line(*place));
        news.lines.extend(lines.flatten());
        match (next, self.waiting) {
            (None, Some(waiting)) => {
                news.commands.extend(self.places[waiting].cell.as_ref().map(|c| Command::CancelCell(c.id())));
                self.waiting = None;
            }
            (Some(next), None) => {
                self.waiting = Some(next);
                news.commands.push(Command::ExpectCells(true));
                news.commands.extend(self.places[next].cell.clone().map(Command::AddCell));
            }
            _ => {}
        }
        if self.is_known {
            news.commands.push(Command::ExpectCells(false));
        }
        if let (Some(next), false) = (self.waiting, self.is_known) {
            let cells = bisection.cells_at_most();
            let plural = if cells == 1 { "cell" } else { "cells" };
            let (interval, name) = (self.answer().interval(), &self.places[next].name);
            news.lines.push(format!("{interval} At most {cells} {plural} to go; next is {name}."));
        }
        news
    }

    /// Works out whether the base and all levels that were measured hold; the places of those that are new. `None` while
    /// the base is not measured.
    fn judge(&mut self) -> Option<Result<Vec<usize>, SearchTrouble>> {
        let base = self.base.as_ref()?;
        let whole = self.model.as_ref().and_then(ModelInfo::base_footprint);
        let Some(of_base) = self.bound.figure.of_base(base, whole) else {
            let message = format!(
                "bound `{}`: this study measures no {}, so that the base has no value; accepted is a score of its texts and \
                 tasks",
                self.bound, self.bound.score
            );
            return Some(Err(SearchTrouble { message, is_mistake: true }));
        };
        let mut fresh = Vec::new();
        for (at, place) in self.places.iter_mut().enumerate() {
            let value = match (&place.cell, &place.found) {
                _ if place.outcome.is_some() => continue,
                (None, _) => Some(of_base),
                (Some(_), None) => continue,
                (Some(_), Some((metrics, whole))) => self.bound.figure.of_cell(metrics, base, *whole),
            };
            let Some(value) = value else {
                let message = format!("{} was measured without {}", place.name, self.bound.score);
                return Some(Err(SearchTrouble { message, is_mistake: false }));
            };
            let Some(holds) = self.bound.holds(value, Some(of_base)) else {
                let message = format!(
                    "bound `{}`: the base has {}, and no share of that is a limit; accepted is a number",
                    self.bound,
                    self.bound.figure.in_line(of_base)
                );
                return Some(Err(SearchTrouble { message, is_mistake: true }));
            };
            place.outcome = Some((value, holds));
            fresh.push(at);
        }
        self.tried.extend(&fresh);
        Some(Ok(fresh))
    }

    fn fail(&mut self, message: String, is_mistake: bool) -> SearchNews {
        let waiting = self.waiting.take().and_then(|waiting| self.places[waiting].cell.as_ref());
        let cancelled = waiting.map(|cell| Command::CancelCell(cell.id()));
        let commands = cancelled.into_iter().chain([Command::ExpectCells(false)]).collect();
        self.trouble = Some(SearchTrouble { message, is_mistake });
        SearchNews { commands, lines: Vec::new() }
    }

    /// What is known.
    pub(crate) fn answer(&self) -> EdgeAnswer {
        let bisection = self.bisection();
        let (holds, breaks) = bisection.interval();
        let base = self.places[self.base_place()].outcome.map(|(value, _)| value);
        EdgeAnswer {
            study: self.study,
            recipe: self.recipe.to_string(),
            bound: self.bound.to_string(),
            score: self.bound.figure.id(),
            limit: self.bound.limit(base),
            levels: self.places.len() - 1,
            cells_run: self.run.len(),
            complete: self.is_known,
            holds: holds.and_then(|place| self.tried_level(place)),
            breaks: breaks.and_then(|place| self.tried_level(place)),
            out_of_order: bisection.holds_behind_edge().filter_map(|place| self.tried_level(place)).collect(),
            tried: self.tried.iter().filter_map(|place| self.tried_level(*place)).collect(),
            figure: self.bound.figure,
            met_by_compressing: self.bound.met_by_compressing,
        }
    }

    fn tried_level(&self, place: usize) -> Option<TriedLevel> {
        let SearchPlace { name, cell, outcome, .. } = &self.places[place];
        let (value, holds) = (*outcome)?;
        Some(TriedLevel { level: name.clone(), cell: cell.as_ref().map(CellSpec::id), value, holds })
    }

    fn outcome_line(&self, place: usize) -> Option<String> {
        let TriedLevel { level, value, holds, .. } = self.tried_level(place)?;
        let verb = match (holds, self.bound.met_by_compressing) {
            (true, false) => "keeps",
            (true, true) => "meets",
            (false, false) => "breaks",
            (false, true) => "does not meet",
        };
        let known =
            if self.run.contains(&place) || place == self.base_place() { "" } else { ", known already" };
        Some(format!("{level} {verb} {}: {}{known}", self.bound, self.bound.figure.in_line(value)))
    }

    fn bisection(&self) -> Bisection {
        let mut bisection = Bisection::new(self.places.len());
        for (place, SearchPlace { outcome, .. }) in self.places.iter().enumerate() {
            if let Some((_, holds)) = outcome {
                bisection.tell(place, *holds);
            }
        }
        bisection
    }

    fn base_place(&self) -> usize {
        if self.bound.met_by_compressing { self.places.len() - 1 } else { 0 }
    }

    fn place_of(&self, id: &str) -> Option<usize> {
        self.places.iter().position(|place| place.cell.as_ref().is_some_and(|cell| cell.id() == id))
    }

    /// Waits for a level no more.
    fn heard_of(&mut self, place: usize) {
        if self.waiting == Some(place) {
            self.waiting = None;
        }
    }

    fn awaits(&self, id: &str) -> bool {
        self.waiting.is_some() && self.waiting == self.place_of(id)
    }
}
