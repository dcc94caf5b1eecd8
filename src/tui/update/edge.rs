//! The search for the edge while it runs: the engine's events go to it, and what it asks for to the engine.

use super::adding;
use crate::engine::{Command, Event};
use crate::find::{EdgeSearch, SearchNews};
use crate::results::CellState;
use crate::tui::message::{Effect, EngineOrder};
use crate::tui::state::{LogLevel, State};

/// Begins a search in the study that is shown, with what is known of it.
pub(super) fn begin(state: &mut State, mut search: EdgeSearch) -> Vec<Effect> {
    let Some(study_view) = &state.study_view else { return Vec::new() };
    let base = Some(&study_view.base.metrics).filter(|_| study_view.base_state == CellState::Done);
    let news = search.learn(study_view.study, &study_view.model, base, &study_view.cells);
    state.toast(search.describe(), false);
    let is_over = search.is_over();
    state.edge = Some(search);
    let effects = carry_out(state, news);
    if is_over && !state.engine.busy() {
        // No end of the study follows that could take it away.
        state.edge = None;
    }
    effects
}

/// Lets the search see an event. Once it is over, it stays until the engine has nothing more to do, so that its answer is
/// not pushed aside by the word that the study has ended.
pub(super) fn event(state: &mut State, event: &Event) -> Vec<Effect> {
    let Some(search) = state.edge.as_mut() else { return Vec::new() };
    let is_of_another = match event {
        // It was taken up again for the search.
        Event::Plan { study, .. } => !search.is_in(*study),
        event => matches!(event, Event::Failed { .. } | Event::Stopped { .. }),
    };
    let is_finished = matches!(event, Event::Finished { .. });
    if is_of_another || (is_finished && search.is_over()) {
        state.edge = None;
        return Vec::new();
    }
    if search.is_over() {
        return Vec::new();
    }
    let news = search.event(event);
    let effects = carry_out(state, news);
    if is_finished && state.edge.as_ref().is_some_and(EdgeSearch::is_over) {
        state.edge = None;
    }
    // The engine may have finished before it heard of the next cell, which its result then lacks.
    let awaited = state.edge.as_ref().filter(|_| is_finished).and_then(EdgeSearch::awaited).cloned();
    if let Some(cell) = awaited {
        state.queue(&cell);
    }
    effects
}

fn carry_out(state: &mut State, news: SearchNews) -> Vec<Effect> {
    for line in news.lines {
        state.engine.add_line(state.now, LogLevel::Info, line);
    }
    let mut effects = Vec::new();
    for command in news.commands {
        match command {
            // Whoever leaves wants no more cells.
            Command::AddCell(cell) if state.leaving.is_none() => effects.extend(adding::add(state, cell)),
            Command::ExpectCells(expects) => effects.push(Effect::Engine(EngineOrder::ExpectCells(expects))),
            Command::CancelCell(id) => effects.push(Effect::Engine(EngineOrder::CancelCell(id))),
            _ => {}
        }
    }
    if let Some(search) = state.edge.as_ref().filter(|search| search.is_over()) {
        let (trouble, answer) = (search.trouble(), search.answer().sentence());
        let text = trouble.as_ref().map_or(answer, ToString::to_string);
        let level = if trouble.is_some() { LogLevel::Error } else { LogLevel::Good };
        state.engine.add_line(state.now, level, text.clone());
        state.toast(text, trouble.is_some());
    }
    effects
}

#[cfg(test)]
mod tests {
    use crossterm::event::KeyCode;

    use super::*;
    use crate::engine::{PlannedCell, ResourceEstimate};
    use crate::results::{self, Environment, Footprint, Metrics, ModelInfo, Seconds};
    use crate::scores::{JS_DIVERGENCE, PERPLEXITY, Score, Summary};
    use crate::study::{CellSpec, Sparsity, Step};
    use crate::tui::message::Message;
    use crate::tui::state::{Dialog, Screen};
    use crate::tui::testing::{press, state, text, typed};
    use crate::tui::update::update;

    fn cell(percent: u32) -> CellSpec {
        let sparsity = Sparsity::Fraction(f64::from(percent) / 100.0);
        CellSpec { recipe: Step::new("wanda", sparsity).into(), calibration: Some("c4".into()), seed: 0 }
    }

    fn measured(score: &Score, value: f64) -> results::Measurement {
        let details = vec![0.0; score.details.len()];
        score.measurement(
            "text",
            8,
            Summary { estimate: results::Estimate { value, ci95: [value; 2] }, details },
        )
    }

    fn tell(state: &mut State, event: Event) -> Vec<Effect> {
        update(state, Message::Engine(event))
    }

    /// The engine measures the base, or a cell whose divergence grows with its zeros.
    fn done(state: &mut State, spec: Option<&CellSpec>) -> Vec<Effect> {
        let cell = spec.map(CellSpec::id);
        let mut values = vec![measured(&PERPLEXITY, 10.0)];
        values.extend(spec.map(|spec| measured(&JS_DIVERGENCE, spec.recipe.zeros() / 10.0)));
        tell(state, Event::Metrics { cell: cell.clone(), metrics: Metrics { values } });
        let footprint = spec.map(|_| Footprint::default());
        let effects =
            tell(state, Event::CellDone { cell: cell.clone(), seconds: Seconds::default(), footprint });
        tell(state, Event::Cell { cell, state: CellState::Done });
        effects
    }

    fn finished(state: &mut State) {
        let result = Box::new(state.study_view.as_ref().unwrap().result());
        tell(state, Event::Finished { result });
    }

    /// A study whose base and one cell are done.
    fn measured_study() -> State {
        let mut state = state();
        let spec = cell(70);
        let planned =
            PlannedCell { id: spec.id(), spec: spec.clone(), state: CellState::Queued, blocks_done: 0 };
        let (environment, estimate) = (Environment::default(), ResourceEstimate::default());
        let cells = vec![planned];
        tell(
            &mut state,
            Event::Plan {
                study: 7,
                model: Box::new(ModelInfo::of_two_blocks()),
                environment,
                cells,
                estimate,
            },
        );
        done(&mut state, None);
        done(&mut state, Some(&spec));
        finished(&mut state);
        state.screen = Screen::Compare;
        state
    }

    /// Begins the search for `js<=0.05`, and returns what it asks for first.
    fn begun(state: &mut State) -> CellSpec {
        press(state, KeyCode::Char('f'));
        assert!(matches!(state.dialogs.last(), Some(Dialog::Search(_))));
        added(&press(state, KeyCode::Enter)).unwrap()
    }

    fn added(effects: &[Effect]) -> Option<CellSpec> {
        let said = |effect: &&Effect| !matches!(effect, Effect::Engine(EngineOrder::ExpectCells(_)));
        match effects.iter().filter(said).collect::<Vec<_>>()[..] {
            [Effect::Engine(EngineOrder::AddCell(cell))] => Some(cell.clone()),
            [] => None,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_key_finds_the_edge_and_the_answer_stays_in_sight() {
        for hasty in [false, true] {
            let mut state = measured_study();
            let mut next = Some(begun(&mut state));
            let mut asked = Vec::new();
            while let Some(cell) = next {
                asked.push(cell.recipe.level());
                assert!(state.engine.queue.contains(&cell.id()) && state.engine.busy());
                next = added(&done(&mut state, Some(&cell)));
                if hasty {
                    finished(&mut state);
                    let waits = |next: &CellSpec| state.engine.queue.contains(&next.id());
                    assert!(next.as_ref().is_none_or(waits), "the next cell is still to come");
                }
            }
            assert_eq!(asked[0], "35%", "70% is known: {asked:?}");
            assert!(asked.len() <= 7 && !asked.contains(&"70%".into()), "{asked:?}");
            if !hasty {
                finished(&mut state);
            }
            assert!(state.edge.is_none());
            let toast = &state.toast.as_ref().unwrap().text;
            assert!(
                toast.starts_with("wanda keeps js<=0.05 up to 50% (JS 0.0500 bits) and breaks it at 51%"),
                "{toast}"
            );
            assert!(state.engine.log.iter().any(|line| line.text == *toast));
        }
    }

    #[test]
    fn the_dialog_proposes_the_selected_cell_and_says_what_is_wrong() {
        let mut state = measured_study();
        press(&mut state, KeyCode::Down);
        press(&mut state, KeyCode::Char('f'));
        let drawn = text(&state, 80, 24);
        for part in ["recipe wanda", "bound  js<=0.05", "on     c4", "Enter begins"] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
        for _ in 0..8 {
            press(&mut state, KeyCode::Backspace);
        }
        typed(&mut state, "js<0.05");
        assert!(press(&mut state, KeyCode::Enter).is_empty());
        assert!(text(&state, 80, 24).contains("found `<`; accepted are"));
        press(&mut state, KeyCode::Up);
        typed(&mut state, "x");
        press(&mut state, KeyCode::Enter);
        assert!(text(&state, 80, 24).contains("unknown method `wandax`"));
        press(&mut state, KeyCode::Esc);
        assert!(state.dialogs.is_empty() && state.edge.is_none());
    }

    #[test]
    fn a_search_ends_with_its_study_and_where_its_cell_is_cancelled() {
        let mut state = measured_study();
        let cell = begun(&mut state);
        tell(&mut state, Event::Cell { cell: Some(cell.id()), state: CellState::Cancelled });
        let toast = state.toast.clone().unwrap();
        assert!(toast.bad && toast.text == "the search ends at 35%, which was cancelled", "{toast:?}");
        finished(&mut state);
        assert!(state.edge.is_none());

        begun(&mut state);
        tell(&mut state, Event::Stopped { resumable: Some(7) });
        assert!(state.edge.is_none());
    }

    #[test]
    fn who_only_looks_cannot_search() {
        let mut state = measured_study();
        state.options.readonly = true;
        press(&mut state, KeyCode::Char('f'));
        assert!(state.dialogs.is_empty() && state.toast.as_ref().unwrap().text.starts_with("read-only"));
    }
}
