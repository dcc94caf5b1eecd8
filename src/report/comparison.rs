//! Two models side by side, for the terminal.

use crate::results::Estimate;
use crate::scores::comparison::{FlipsOfTask, ModelComparison, RecordDifference, ScoreDifference};
use crate::text::{escape, pad, truncate, width, wrap_words};

/// Marks a difference that is more than noise.
const MARK: &str = "*";

/// The comparison as text of at most `most` columns, 0 for no limit.
pub(crate) fn comparison(found: &ModelComparison, most: usize) -> String {
    let most = if most == 0 { usize::MAX } else { most };
    let mut parts = vec![wrap_words(&headline(found), most, "")];
    if !found.scores.is_empty() {
        parts.push(score_table(found, most));
        parts.push(wrap_words(&legend(found), most, ""));
    }
    if !found.flips.is_empty() {
        let head = ["flips", "by", "share", "right to wrong", "wrong to right", "changed", "of", "McNemar p"];
        let narrow = ["flips", "by", "share", "lost", "won", "changed", "of", "McNemar p"];
        let table = |head: [&str; 8]| {
            aligned(
                &[head.map(str::to_owned)]
                    .into_iter()
                    .chain(found.flips.iter().map(flips_row))
                    .collect::<Vec<_>>(),
            )
        };
        let wide = table(head);
        let fits = wide.lines().all(|line| width(line) <= most);
        parts.push(if fits {
            wide
        } else {
            table(narrow) + "\nlost: right in A, wrong in B; won: the other way round"
        });
    }
    if !found.records.is_empty() {
        parts.push("The records on which they are furthest apart:".to_owned());
        parts.extend(found.records.iter().map(|record| record_lines(record, most)));
    }
    parts.join("\n\n")
}

fn headline(found: &ModelComparison) -> String {
    format!("A is {}, B is {}", escape(&found.a), escape(&found.b))
}

/// A difference with its sign, or a ratio: `+0.031`, `2.37 times`.
fn difference(row: &ScoreDifference) -> [String; 2] {
    let Some(Estimate { value, ci95: [low, high] }) = row.difference else { return Default::default() };
    if row.is_ratio {
        [format!("{value:.3} times"), format!("{low:.3} to {high:.3}")]
    } else {
        [format!("{value:+.4}"), format!("{low:+.4} to {high:+.4}")]
    }
}

/// The mark of a difference that is more than noise.
fn mark(row: &ScoreDifference) -> &'static str {
    if row.more_than_noise { MARK } else { "" }
}

/// The scores as a table. What says least is left out where it would be too wide, the shares of resamples before long names,
/// and these before the rest.
fn score_table(found: &ModelComparison, most: usize) -> String {
    const HEAD: [&str; 9] = ["score", "on", "A", "B", "B against A", "95% interval", "", "p", "sign holds"];
    /// Columns in the order in which they are left out.
    const DISPENSABLE: [usize; 3] = [8, 7, 5];
    let table = |(names, cut, dropped): (Names, usize, usize)| {
        let kept = |column: usize| !DISPENSABLE[..dropped].contains(&column);
        let row = |row: [String; 9]| -> Vec<String> {
            row.into_iter().enumerate().filter(|(column, _)| kept(*column)).map(|(_, entry)| entry).collect()
        };
        let rows = found.scores.iter().map(|difference| row(score_row(difference, names, cut)));
        aligned(&std::iter::once(row(HEAD.map(str::to_owned))).chain(rows).collect::<Vec<_>>())
    };
    let long = (0..2).map(|dropped| (Names::Long, usize::MAX, dropped));
    let short = (0..DISPENSABLE.len()).map(|dropped| (Names::Short, 14, dropped));
    let fits = |table: &String| table.lines().all(|line| width(line) <= most);
    let narrowest = || table((Names::Short, 14, DISPENSABLE.len()));
    long.chain(short).map(table).find(fits).unwrap_or_else(narrowest)
}

/// What is meant by the columns and the mark.
fn legend(found: &ModelComparison) -> String {
    let mut words = format!(
        "{MARK} more than noise: the 95% interval of the difference, within windows or records, leaves out no difference; \
         where records are right or wrong, p is below 0.05. p: McNemar's where records are right or wrong, else the sign \
         test's. Sign holds: share of the resamples with the same sign."
    );
    if !found.windows_are_known {
        words += " What windows of texts showed was not kept of both models, so texts have no intervals.";
    }
    words
}

/// How scores are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    Long,
    Short,
}

fn score_row(row: &ScoreDifference, names: Names, cut: usize) -> [String; 9] {
    let written = |value: f64| {
        ModelComparison::score(row).map_or_else(|| value.to_string(), |score| score.in_table(value))
    };
    let name = ModelComparison::score(row).map_or_else(
        || row.score.clone(),
        |score| if names == Names::Long { score.head() } else { score.short_head() },
    );
    let [difference, interval] = difference(row);
    let holds = row.sign_holds.map_or_else(String::new, |share| format!("{:.1}%", 100.0 * share));
    [
        name,
        truncate(&escape(&row.data_set), cut, "...").into_owned(),
        written(row.a),
        written(row.b),
        difference,
        interval,
        mark(row).to_owned(),
        row.p.map_or_else(String::new, p_value),
        holds,
    ]
}

fn flips_row(row: &FlipsOfTask) -> [String; 8] {
    [
        escape(&row.task).into_owned(),
        row.score.clone(),
        format!("{:.1}%", 100.0 * row.share),
        row.right_to_wrong.to_string(),
        row.wrong_to_right.to_string(),
        row.changed.to_string(),
        row.records.to_string(),
        p_value(row.mcnemar_p),
    ]
}

/// `0.0006`, `<0.0001`.
fn p_value(p: f64) -> String {
    if p < 0.0001 { "<0.0001".to_owned() } else { format!("{p:.4}") }
}

fn record_lines(record: &RecordDifference, most: usize) -> String {
    let line = |name: &str, text: &str| {
        let text = escape(text.trim()).replace('\n', " ");
        truncate(&format!("  {name:<9} {text}"), most, "...").into_owned()
    };
    let title = format!("{}, record no. {}: {:.3}", escape(&record.task), record.record + 1, record.distance);
    [
        truncate(&title, most, "...").into_owned(),
        line("question", question(&record.prompt)),
        line("accepted", &record.reference),
        line("A", &record.a),
        line("B", &record.b),
    ]
    .join("\n")
}

/// The line of a prompt that asks; where none does, its last: the end of a long prompt says more than its beginning.
fn question(prompt: &str) -> &str {
    let mut lines = prompt.lines().map(str::trim).filter(|line| !line.is_empty() && *line != "Answer:");
    let asks = lines.clone().rfind(|line| line.contains('?'));
    asks.or_else(|| lines.next_back()).unwrap_or(prompt)
}

/// Rows of equally many entries, with columns as wide as their widest entry.
fn aligned<R: AsRef<[String]>>(rows: &[R]) -> String {
    let columns = rows.first().map_or(0, |row| row.as_ref().len());
    let widest = |column: usize| rows.iter().map(|row| width(&row.as_ref()[column])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(widest).collect();
    let line = |row: &R| {
        let entries = row.as_ref().iter().zip(&widths).map(|(entry, &width)| pad(entry, width, false));
        entries.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_is_a_table_of_differences_flips_and_records() {
        let score = |score: &str, difference, is_ratio, more_than_noise| ScoreDifference {
            score: score.into(),
            data_set: "text".into(),
            a: 8.5,
            b: 17.0,
            difference,
            is_ratio,
            sign_holds: None,
            p: None,
            more_than_noise,
        };
        let found = ModelComparison {
            a: "base".into(),
            b: "wanda-0.5".into(),
            windows_are_known: false,
            scores: vec![
                score("perplexity", Some(Estimate { value: 2.0, ci95: [1.9, 2.1] }), true, true),
                score("js_divergence", Some(Estimate { value: 0.001, ci95: [-0.1, 0.1] }), false, false),
                score("top1_agreement", None, false, false),
            ],
            flips: vec![FlipsOfTask {
                task: "arc_easy".into(),
                score: "acc".into(),
                records: 200,
                right_to_wrong: 33,
                wrong_to_right: 10,
                share: 0.215,
                changed: 61,
                mcnemar_p: 0.000_606,
            }],
            records: vec![RecordDifference {
                task: "arc_easy".into(),
                record: 4,
                prompt: "Question: What is it?\nAnswer:".into(),
                reference: "a cat".into(),
                a: "a cat".into(),
                b: "a\u{1b}dog".into(),
                distance: 0.5,
            }],
        };
        let text = comparison(&found, 120);
        for part in [
            "A is base, B is wanda-0.5",
            "2.000 times",
            "1.900 to 2.100 ",
            "+0.0010",
            "not kept of both models",
            "arc_easy  acc  21.5%  33              10              61       200  0.0006",
            "arc_easy, record no. 5: 0.500",
            "question  Question: What is it?",
        ] {
            assert!(text.contains(part), "{part} in\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        // All of it stays in sight on a narrow terminal, but for what is cut at a line's end.
        let narrow = comparison(&found, 60);
        assert!(narrow.lines().all(|line| width(line) <= 60), "{narrow}");
        assert!(
            narrow.contains("ppl") && narrow.contains("2.000 times") && narrow.contains("lost"),
            "{narrow}"
        );
        assert_eq!(p_value(0.0), "<0.0001");
        assert_eq!(question("Where is Gus?\n\nAna sits in the tower. Gus waits."), "Where is Gus?");
        assert_eq!(question("It was late.\nThe end was\n"), "The end was");
    }
}
