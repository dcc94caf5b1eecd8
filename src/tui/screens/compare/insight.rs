//! The verdict on perplexity and JS divergence, as long as there is room for.

use crate::scores::{Subject, verdict};
use crate::tui::state::Board;

/// The sentence.
pub fn words(board: &Board, ascii: bool) -> String {
    let cells = board.cells.iter().map(|cell| &cell.metrics);
    let answered = std::iter::once(&board.base.metrics).chain(cells).any(|m| m.has(Subject::Task));
    // While a study runs that the store has not told of yet, there may be tasks.
    let asked = board.spec.as_ref().is_none_or(|spec| !spec.evaluation.tasks.is_empty());
    if !answered && !asked {
        return "No task was asked, so nothing here says which metric ranks the cells as tasks would.".into();
    }
    verdict::sentence(&board.insight, ascii)
}

/// The same in fewer words, for a narrow screen.
pub fn shorter(words: &str) -> String {
    words
        .replace(verdict::QUESTION, "Which metric tells more?")
        .replace("JS divergence", "JS")
        .replace("JS and perplexity both", "JS and perplexity")
        .replace("rank the cells", "rank cells")
        .replace("ranks the cells", "ranks cells")
        .replace("as the tasks do", "as tasks do")
        .replace("nearly as well", "nearly")
        .replace("less well", "less")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{Insight, JS_DIVERGENCE, PERPLEXITY};

    fn said(perplexity: f64, js: f64, cells: usize) -> String {
        let insight = Insight::new(cells, [(&PERPLEXITY, Some(perplexity)), (&JS_DIVERGENCE, Some(js))]);
        shorter(&verdict::sentence(&insight, false))
    }

    #[test]
    fn what_there_is_to_say_fits_into_eighty_columns() {
        for (p, j) in [(-0.81, -0.96), (-0.97, -1.0), (-0.6, -0.6), (0.2, -0.95), (0.5, 0.2)] {
            let words = said(p, j, 99);
            assert!(words.chars().count() <= 77, "{words}");
        }
        assert_eq!(
            said(-0.81, -0.96, 12),
            "JS ranks cells as tasks do (ρ −0.96); perplexity less (−0.81); 12 cells"
        );
    }
}
