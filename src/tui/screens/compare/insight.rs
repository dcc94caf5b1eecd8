//! The verdict on perplexity and JS divergence, as long as there is room for.

use crate::scores::{Subject, is_measured, verdict};
use crate::tui::state::StudyView;

pub(crate) fn words(study_view: &StudyView, ascii: bool) -> String {
    let cells = study_view.cells.iter().map(|cell| &cell.metrics);
    let answered = std::iter::once(&study_view.base.metrics)
        .chain(cells)
        .any(|metrics| is_measured(metrics, Subject::Task));
    // Until a running study has been read from the store, there may be tasks.
    let asked = study_view.spec.as_ref().is_none_or(|spec| !spec.evaluation.tasks.is_empty());
    if !answered && !asked {
        return "The study has no tasks, so it cannot say which metric ranks the cells as tasks would."
            .into();
    }
    verdict::sentence(&study_view.insight, ascii)
}

/// The same in fewer words, for a narrow screen.
pub(crate) fn shorter(words: &str) -> String {
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
    use crate::results::Insight;
    use crate::scores::{JS_DIVERGENCE, PERPLEXITY};

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
