//! `secateur find`: a search for the edge, followed on standard error, with its answer on standard output.

use std::path::Path;

use tokio::sync::mpsc;

use super::{Client, RunOutcome, plan, run_with};
use crate::cli::FindArgs;
use crate::config::{OutputFormat, Settings};
use crate::demo;
use crate::engine::{Command, Event, RunOptions};
use crate::error::{Error, Result};
use crate::find::{BoundedFigure, EdgeSearch, OpenRecipe, ScoreBound};
use crate::results::StudyResult;
use crate::scores::Subject;
use crate::study::StudySpec;

/// A search that can begin.
#[derive(Debug)]
pub struct SearchSetup {
    settings: Settings,
    search: EdgeSearch,
}

impl SearchSetup {
    /// Puts the settings of a search together and checks them.
    ///
    /// # Errors
    /// A mistake in a setting, the recipe or the bound.
    pub fn new(config: Option<&Path>, args: &FindArgs) -> Result<Self> {
        let mut recipe = OpenRecipe::parse(&args.recipe).map_err(|e| at("recipe", &e))?;
        if let Some(step) = &args.step {
            recipe = recipe.with_step(step).map_err(|e| at("step", &e))?;
        }
        let bound: ScoreBound = args.until.parse().map_err(|e| at("until", &e))?;
        bound.check_recipe(&recipe).map_err(|e| at("until", &e))?;
        let built_in = if args.demo { Some(demo::settings_file(args.quick)?) } else { None };
        let run = RunOptions { resume: args.resume, force: args.force, ..RunOptions::default() };
        let Some(least) = recipe.levels().first() else {
            return Err(Error::failure("a recipe without levels"));
        };
        let config = built_in.as_deref().or(config);
        let mut settings = Settings::of_recipe(config, &args.settings.given, run, recipe.at(*least))?;
        settings.check_save_flags(&args.settings.given)?;
        check_measured(&bound, &settings.study)?;
        let [like] = &settings.study.cells[..] else {
            return Err(Error::mistake(format!(
                "--calibration: found {}; accepted is one set, which all levels are calibrated on",
                settings.study.calibration.sets.join(", ")
            )));
        };
        let search = EdgeSearch::new(recipe, bound, like);
        // The first cell is part of the study from the beginning: with it, memory and exports are checked before anything
        // is run.
        settings.study.cells = search.longest_way().into_iter().take(1).collect();
        Ok(Self { settings, search })
    }

    /// What the longest search would need, as text for standard output; nothing is run.
    ///
    /// # Errors
    /// Why it cannot run.
    pub fn plan(mut self) -> Result<String> {
        self.settings.study.cells = self.search.longest_way();
        plan(&self.settings)
    }

    /// Searches with an engine of its own; `args` is the command line.
    ///
    /// # Errors
    /// What the engine says, as a mistake or a failure; also where the search ended before the edge was known.
    pub fn run(self, args: &[String]) -> Result<RunOutcome> {
        run_with(&self.settings, args, |_| String::new(), Some(self.search))
    }
}

fn at(flag: &str, error: &Error) -> Error {
    Error::mistake(format!("--{flag}: {error}"))
}

/// Refuses a bound on what the study does not measure.
fn check_measured(bound: &ScoreBound, study: &StudySpec) -> Result<()> {
    let BoundedFigure::Score(score) = bound.figure else { return Ok(()) };
    let (on, flag, is_empty) = match score.subject() {
        Subject::Corpus => ("texts", "--corpus", study.evaluation.corpora.is_empty()),
        Subject::Task => ("tasks", "--tasks", study.evaluation.tasks.is_empty()),
    };
    if !is_empty {
        return Ok(());
    }
    Err(Error::mistake(format!(
        "--until: bound `{bound}`: {} is measured on {on}, and {flag} is empty; give one",
        bound.score
    )))
}

impl<R: Fn(&StudyResult) -> String, O: std::io::Write, E: std::io::Write> Client<R, O, E> {
    /// Lets the search see an event, sends what it asks for and says what it tells. `true` when it has ended with this
    /// event, the last that matters.
    pub(super) fn search(&mut self, event: &Event, commands: &mpsc::Sender<Command>) -> bool {
        let Some(search) = &mut self.search else { return false };
        let news = search.event(event);
        let ends = search.is_over() && matches!(event, Event::Finished { .. });
        for line in news.lines {
            self.say(&line);
        }
        // What is being stopped needs no more cells.
        if self.interrupts == 0 {
            for command in news.commands {
                if let Command::AddCell(cell) = &command {
                    self.lines.know(cell);
                }
                // A closed channel shows as the engine's silence, which is reported.
                let _ = commands.try_send(command);
            }
        }
        ends
    }

    /// Prints the answer of a search that has ended.
    pub(super) fn answer(&mut self) -> Result<RunOutcome> {
        let Some(search) = &self.search else { return Ok(RunOutcome::Done) };
        let (answer, trouble) = (search.answer(), search.trouble());
        if let Some(mistake) = trouble.as_ref().filter(|error| error.exit_code() == 2) {
            return Err(Error::mistake(mistake.to_string()));
        }
        self.wipe();
        match self.look.format {
            OutputFormat::Table => self.print(&crate::text::escape(&answer.sentence()))?,
            OutputFormat::Json => self.print_json(&answer)?,
            OutputFormat::Jsonl => {
                let line = serde_json::json!({ "event": "edge", "edge": answer });
                self.print(&line.to_string())?;
            }
        }
        match trouble {
            Some(error) => Err(error),
            None if self.failures.is_empty() => Ok(RunOutcome::Done),
            None => {
                Err(Error::failure(format!("{} cells failed; the lines above say why", self.failures.len())))
            }
        }
    }
}
