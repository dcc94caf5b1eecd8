//! What the rank correlations say, in words. Reports and dashboard say the same.

use super::ranks::FEWEST;
use super::registry::headline_scores;
use super::score::{Score, Subject};
use crate::results::{Estimate, RankCorrelations};

/// What is asked while there is no answer.
pub(crate) const QUESTION: &str = "Which metric ranks the cells as the tasks do?";

/// Cells that a verdict takes: of three, one metric in six ranks as the tasks do by chance.
const ENOUGH: usize = 5;
/// Below this a metric does not rank the cells as the tasks do.
const WEAK: f64 = 0.4;

/// What can be said of the correlations of the scores that are told where there is room for few: perplexity and JS.
#[derive(Debug, PartialEq)]
enum Verdict {
    TooFewCells,
    NoCorrelation,
    /// Even the best has the wrong sign, or hardly any correlation.
    NoneRanks {
        best: Ranked,
    },
    /// There are too few cells, or its interval holds zero: it may have no correlation.
    Unsure {
        best: Ranked,
    },
    /// Another may be the best.
    Undecided {
        best: Ranked,
        rival: Ranked,
    },
    Best {
        best: Ranked,
        second: Option<Ranked>,
    },
}

/// A score with its mean correlation.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Ranked {
    score: &'static Score,
    correlation: Estimate,
}

fn verdict(found: &RankCorrelations) -> Verdict {
    let mean = |score: &Score| found.texts.iter().find(|row| row.score == score.id)?.mean;
    let mut ranked: Vec<Ranked> = headline_scores(Subject::Corpus)
        .filter_map(|score| Some(Ranked { score, correlation: mean(score)? }))
        .collect();
    ranked.sort_by(|one, other| other.correlation.value.total_cmp(&one.correlation.value));
    let Some((&best, others)) = ranked.split_first() else {
        return if found.cells < FEWEST { Verdict::TooFewCells } else { Verdict::NoCorrelation };
    };
    let low = best.correlation.ci95[0];
    if best.correlation.value < WEAK {
        return Verdict::NoneRanks { best };
    }
    // The interval of one further down may be the wider one, so it is not enough to look at the second.
    if let Some(&rival) = others.iter().find(|other| other.correlation.ci95[1] >= low) {
        return Verdict::Undecided { best, rival };
    }
    if low <= 0.0 || found.cells < ENOUGH {
        return Verdict::Unsure { best };
    }
    Verdict::Best { best, second: others.first().copied() }
}

/// What the correlations say, as one sentence with their 95% intervals; `ascii` where only ASCII can be shown.
pub(crate) fn sentence(found: &RankCorrelations, ascii: bool) -> String {
    let n = found.cells;
    let cells = if n == 1 { "1 cell".to_owned() } else { format!("{n} cells") };
    let rho = rho(ascii);
    let (name, figure) = (|one: Ranked| within_line(one.score), |one| with_interval(one, ascii));
    match verdict(found) {
        Verdict::TooFewCells => {
            format!("{QUESTION} It takes {FEWEST} finished cells with task scores; so far {n}.")
        }
        Verdict::NoCorrelation => {
            format!("{QUESTION} No answer: all {cells} have the same task scores, or the same figures.")
        }
        Verdict::NoneRanks { best } => format!(
            "No metric ranks the cells as the tasks do; {} comes nearest ({rho} {}); {cells}",
            name(best),
            figure(best)
        ),
        Verdict::Unsure { best } => format!(
            "No verdict from {cells}: they are too few to say whether {} ({rho} {}) ranks them as the tasks do",
            name(best),
            figure(best)
        ),
        Verdict::Undecided { best, rival } => format!(
            "No verdict from {cells}: the intervals of {} ({rho} {}) and {} ({}) overlap",
            name(best),
            figure(best),
            name(rival),
            figure(rival)
        ),
        Verdict::Best { best, second } => {
            let rest = second.map_or_else(
                || "no other metric has a rank correlation".to_owned(),
                |second| format!("{} {} ({})", name(second), less(second, "less well"), figure(second)),
            );
            let (title, degree) = (best.score.title, degree(best.correlation.value));
            format!("{title} ranks the cells {degree} the tasks do ({rho} {}); {rest}; {cells}", figure(best))
        }
    }
}

/// The same in a line of eighty columns: short names, and no intervals.
pub(crate) fn brief_sentence(found: &RankCorrelations, ascii: bool) -> String {
    let n = found.cells;
    let cells = if n == 1 { "1 cell".to_owned() } else { format!("{n} cells") };
    let rho = rho(ascii);
    let figure = |one: Ranked| signed(one.correlation.value, ascii);
    let name = |one: Ranked| one.score.name;
    match verdict(found) {
        Verdict::TooFewCells => {
            format!("Which metric tells more? It takes {FEWEST} cells with task scores; so far {n}.")
        }
        Verdict::NoCorrelation => {
            format!("Which metric tells more? No answer: all {cells} have the same figures.")
        }
        Verdict::NoneRanks { best } => {
            format!(
                "{cells}: no metric ranks as the tasks do; nearest is {} ({rho} {})",
                name(best),
                figure(best)
            )
        }
        Verdict::Unsure { best } => {
            format!("{cells}: too few for a verdict on {} ({rho} {})", name(best), figure(best))
        }
        Verdict::Undecided { best, rival } => format!(
            "{cells}: no verdict, intervals overlap: {} {rho} {}, {} {}",
            name(best),
            figure(best),
            name(rival),
            figure(rival)
        ),
        Verdict::Best { best, second } => {
            let degree = degree(best.correlation.value);
            let rest = second.map_or_else(String::new, |second| {
                format!(", {} {} ({})", name(second), less(second, "less"), figure(second))
            });
            format!("{cells}: {} ranks {degree} tasks do ({rho} {}){rest}", name(best), figure(best))
        }
    }
}

fn rho(ascii: bool) -> &'static str {
    if ascii { "rho" } else { "ρ" }
}

/// What the second metric does, compared with the best: it ranks less well, in these words, or not at all.
fn less(second: Ranked, words: &'static str) -> &'static str {
    if second.correlation.value < WEAK { "does not" } else { words }
}

/// How well a correlation follows the tasks, before "the tasks do"; 1 is perfect.
fn degree(r: f64) -> &'static str {
    match r {
        r if r >= 0.9 => "as",
        r if r >= 0.7 => "much as",
        _ => "roughly as",
    }
}

/// A score's title where a sentence has begun: `perplexity`, `JS divergence`.
fn within_line(score: &Score) -> String {
    let title = score.title;
    let is_word = title.chars().nth(1).is_some_and(char::is_lowercase);
    if is_word { title.to_lowercase() } else { title.to_owned() }
}

/// `+0.96, +0.85 to +1.00`: the value and its 95% interval.
fn with_interval(one: Ranked, ascii: bool) -> String {
    let Estimate { value, ci95: [low, high] } = one.correlation;
    let [value, low, high] = [value, low, high].map(|r| signed(r, ascii));
    format!("{value}, {low} to {high}")
}

/// A correlation with its sign and two decimals; never a negative zero.
pub(crate) fn signed(r: f64, ascii: bool) -> String {
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
    use super::super::{JS_DIVERGENCE, PERPLEXITY, TOP1_AGREEMENT};
    use super::*;
    use crate::results::TextScoreRanks;

    type Row<'a> = (&'a Score, f64, f64, f64);

    fn table(rows: &[Row<'_>], cells: usize) -> RankCorrelations {
        let row = |(score, value, low, high): &Row<'_>| TextScoreRanks {
            score: score.id.into(),
            mean: Some(Estimate { value: *value, ci95: [*low, *high] }),
            by_task: Vec::new(),
        };
        RankCorrelations { cells, tasks: Vec::new(), texts: rows.iter().map(row).collect() }
    }

    fn said(rows: &[Row<'_>], cells: usize) -> String {
        sentence(&table(rows, cells), false)
    }

    #[test]
    fn the_better_metric_is_named_first_with_figures_and_cells() {
        assert_eq!(
            said(&[(&PERPLEXITY, 0.31, -0.2, 0.6), (&JS_DIVERGENCE, 0.96, 0.85, 1.0)], 12),
            "JS divergence ranks the cells as the tasks do (ρ +0.96, +0.85 to +1.00); perplexity does not (+0.31, −0.20 \
             to +0.60); 12 cells"
        );
        assert_eq!(
            said(&[(&PERPLEXITY, 0.85, 0.8, 0.9), (&JS_DIVERGENCE, 0.62, 0.4, 0.7)], 30),
            "Perplexity ranks the cells much as the tasks do (ρ +0.85, +0.80 to +0.90); JS divergence less \
             well (+0.62, +0.40 to +0.70); 30 cells"
        );
        assert_eq!(
            said(&[(&JS_DIVERGENCE, 0.5, 0.1, 0.7)], 8),
            "JS divergence ranks the cells roughly as the tasks do (ρ +0.50, +0.10 to +0.70); no other metric has a rank \
             correlation; 8 cells"
        );
    }

    #[test]
    fn there_is_no_verdict_where_the_sign_is_wrong_or_intervals_overlap() {
        assert_eq!(
            said(&[(&PERPLEXITY, -0.5, -0.9, 0.1), (&JS_DIVERGENCE, -0.004, -0.5, 0.5)], 9),
            "No metric ranks the cells as the tasks do; JS divergence comes nearest (ρ 0.00, −0.50 to +0.50); 9 cells"
        );
        assert_eq!(
            said(&[(&PERPLEXITY, 0.81, 0.4, 0.9), (&JS_DIVERGENCE, 0.96, 0.85, 1.0)], 9),
            "No verdict from 9 cells: the intervals of JS divergence (ρ +0.96, +0.85 to +1.00) and perplexity (+0.81, \
             +0.40 to +0.90) overlap"
        );
        assert_eq!(
            said(&[(&PERPLEXITY, 0.5, 0.1, 1.0)], 4),
            "No verdict from 4 cells: they are too few to say whether perplexity (ρ +0.50, +0.10 to +1.00) ranks them as \
             the tasks do"
        );
        assert_eq!(
            said(&[(&PERPLEXITY, 0.5, -0.1, 1.0)], 4),
            "No verdict from 4 cells: they are too few to say whether perplexity (ρ +0.50, −0.10 to \
             +1.00) ranks them as the tasks do"
        );
    }

    #[test]
    fn scores_that_few_people_look_at_are_in_the_table_alone() {
        let rows = [(&TOP1_AGREEMENT, 0.99, 0.9, 1.0), (&JS_DIVERGENCE, 0.5, 0.1, 0.7)];
        assert!(said(&rows, 8).starts_with("JS divergence ranks the cells roughly as the tasks do"));
    }

    #[test]
    fn nothing_is_claimed_from_too_little() {
        assert_eq!(
            said(&[], 2),
            "Which metric ranks the cells as the tasks do? It takes 3 finished cells with task scores; so far 2."
        );
        assert_eq!(
            said(&[], 5),
            "Which metric ranks the cells as the tasks do? No answer: all 5 cells have the same task scores, or the same \
             figures."
        );
    }

    #[test]
    fn brief_words_fit_into_eighty_columns_and_ascii_is_ascii() {
        let tables = [
            table(&[(&PERPLEXITY, 0.81, 0.4, 0.9), (&JS_DIVERGENCE, 0.96, 0.85, 1.0)], 999),
            table(&[(&PERPLEXITY, 0.41, 0.4, 0.45), (&JS_DIVERGENCE, 0.51, 0.5, 1.0)], 99),
            table(&[(&PERPLEXITY, -0.5, -0.9, 0.1)], 999),
            table(&[(&PERPLEXITY, 0.5, -0.1, 1.0)], 999),
            table(&[], 999),
            table(&[], 2),
        ];
        for table in tables {
            let brief = brief_sentence(&table, true);
            assert!(brief.is_ascii() && sentence(&table, true).is_ascii(), "{brief}");
            assert!(brief.len() <= 77, "{brief}");
        }
        let said = |rows: &[Row<'_>], cells| brief_sentence(&table(rows, cells), false);
        let overlap = [(&PERPLEXITY, 0.81, 0.4, 0.9), (&JS_DIVERGENCE, 0.96, 0.85, 1.0)];
        assert_eq!(said(&overlap, 9), "9 cells: no verdict, intervals overlap: JS ρ +0.96, perplexity +0.81");
        let clear = [(&PERPLEXITY, 0.42, 0.1, 0.45), (&JS_DIVERGENCE, 0.51, 0.5, 0.6)];
        assert_eq!(
            said(&clear, 99),
            "99 cells: JS ranks roughly as tasks do (ρ +0.51), perplexity less (+0.42)"
        );
    }
}
