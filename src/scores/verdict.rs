//! Which of perplexity and JS divergence ranks the cells as the tasks do, in words. Reports and dashboard say the same.

use super::insight::Insight;
use super::{JS_DIVERGENCE, PERPLEXITY};

/// What is asked while there is no answer.
pub(crate) const QUESTION: &str = "Which metric ranks the cells as the tasks do?";

/// Cells that a rank correlation takes.
const FEWEST: usize = 3;
/// Correlations that are nearer to each other than this are called equal.
const EQUAL: f64 = 0.005;
/// Above this a metric does not rank the cells as the tasks do.
const WEAK: f64 = -0.4;

/// What the correlations say, as one sentence; `ascii` where only ASCII can be shown.
pub(crate) fn sentence(insight: &Insight, ascii: bool) -> String {
    let n = insight.cells;
    let cells = if n == 1 { "1 cell".to_owned() } else { format!("{n} cells") };
    let (perplexity, js) = (insight.spearman(&PERPLEXITY), insight.spearman(&JS_DIVERGENCE));
    let figure = |r: f64| signed(r, ascii);
    let rho = if ascii { "rho" } else { "ρ" };
    match (perplexity, js) {
        (None, None) if n < FEWEST => {
            format!("{QUESTION} It takes {FEWEST} finished cells with task scores; so far {n}.")
        }
        (None, None) => {
            format!("{QUESTION} No answer: all {cells} have the same task scores, or the same figures.")
        }
        (Some(r), None) => one("Perplexity", "JS divergence", r, rho, &figure(r), &cells),
        (None, Some(r)) => one("JS divergence", "perplexity", r, rho, &figure(r), &cells),
        (Some(p), Some(j)) if (p - j).abs() < EQUAL => {
            let both = if j > WEAK { "both fail to rank" } else { "both rank" };
            let subject = "JS divergence and perplexity";
            format!("{subject} {both} the cells {} ({rho} {} each); {cells}", degree(j), figure(j))
        }
        (Some(p), Some(j)) => {
            let ((better, r), (other, s)) = if j < p {
                (("JS divergence", j), ("perplexity", p))
            } else {
                (("Perplexity", p), ("JS divergence", j))
            };
            let (r_text, s_text) = (figure(r), figure(s));
            if r > WEAK {
                return format!(
                    "Neither {} ({rho} {r_text}) nor {other} ({s_text}) ranks the cells as the tasks do; {cells}",
                    if j < p { better } else { "perplexity" },
                );
            }
            let less = match s - r {
                _ if s > WEAK => "does not",
                gap if gap < 0.05 => "nearly as well",
                _ => "less well",
            };
            format!(
                "{better} ranks the cells {} ({rho} {r_text}); {other} {less} ({s_text}); {cells}",
                degree(r)
            )
        }
    }
}

fn one(known: &str, unknown: &str, r: f64, rho: &str, figure: &str, cells: &str) -> String {
    let verb = if r > WEAK { "does not rank" } else { "ranks" };
    format!(
        "{known} {verb} the cells {} ({rho} {figure}); {unknown} has no rank correlation; {cells}",
        degree(r)
    )
}

/// How well a correlation follows the tasks; -1 is perfect.
fn degree(r: f64) -> &'static str {
    match r {
        r if r <= -0.9 => "as the tasks do",
        r if r <= -0.7 => "much as the tasks do",
        r if r <= WEAK => "roughly as the tasks do",
        _ => "as the tasks do",
    }
}

/// A figure with its sign and two decimals; never a negative zero.
fn signed(r: f64, ascii: bool) -> String {
    let rounded = (r * 100.0).round() / 100.0;
    let minus = if ascii { "-" } else { "−" };
    match rounded {
        r if r < 0.0 => format!("{minus}{:.2}", -r),
        r if r > 0.0 => format!("+{r:.2}"),
        _ => "0.00".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(perplexity: Option<f64>, js: Option<f64>, cells: usize) -> String {
        sentence(&Insight::new(cells, [(&PERPLEXITY, perplexity), (&JS_DIVERGENCE, js)]), false)
    }

    #[test]
    fn the_better_metric_is_named_first_with_its_figure() {
        assert_eq!(
            said(Some(-0.81), Some(-0.96), 12),
            "JS divergence ranks the cells as the tasks do (ρ −0.96); perplexity less well (−0.81); 12 cells"
        );
        assert_eq!(
            said(Some(-0.85), Some(-0.62), 7),
            "Perplexity ranks the cells much as the tasks do (ρ −0.85); JS divergence less well (−0.62); 7 cells"
        );
        assert_eq!(
            said(Some(-0.95), Some(-0.93), 7),
            "Perplexity ranks the cells as the tasks do (ρ −0.95); JS divergence nearly as well (−0.93); 7 cells"
        );
        assert_eq!(
            said(Some(0.5), Some(-1.0), 3),
            "JS divergence ranks the cells as the tasks do (ρ −1.00); perplexity does not (+0.50); 3 cells"
        );
    }

    #[test]
    fn ties_and_failures_are_said_as_such() {
        assert_eq!(
            said(Some(-0.9), Some(-0.9), 9),
            "JS divergence and perplexity both rank the cells as the tasks do (ρ −0.90 each); 9 cells"
        );
        assert_eq!(
            said(Some(0.2), Some(0.2), 9),
            "JS divergence and perplexity both fail to rank the cells as the tasks do (ρ +0.20 each); 9 cells"
        );
        assert_eq!(
            said(Some(0.3), Some(-0.004), 9),
            "Neither JS divergence (ρ 0.00) nor perplexity (+0.30) ranks the cells as the tasks do; 9 cells"
        );
        assert_eq!(
            said(Some(-0.1), Some(0.4), 9),
            "Neither perplexity (ρ −0.10) nor JS divergence (+0.40) ranks the cells as the tasks do; 9 cells"
        );
        assert_eq!(
            said(None, Some(-0.5), 4),
            "JS divergence ranks the cells roughly as the tasks do (ρ −0.50); perplexity has no rank correlation; 4 cells"
        );
    }

    #[test]
    fn nothing_is_claimed_from_too_little() {
        assert_eq!(
            said(None, None, 2),
            "Which metric ranks the cells as the tasks do? It takes 3 finished cells with task scores; so far 2."
        );
        assert_eq!(
            said(None, None, 5),
            "Which metric ranks the cells as the tasks do? No answer: all 5 cells have the same task scores, or the same \
             figures."
        );
    }

    #[test]
    fn ascii_is_ascii() {
        for (p, j) in [(Some(-0.8), Some(-0.9)), (None, None), (Some(-0.5), Some(-0.5))] {
            let insight = Insight::new(4, [(&PERPLEXITY, p), (&JS_DIVERGENCE, j)]);
            assert!(sentence(&insight, true).is_ascii());
        }
    }
}
