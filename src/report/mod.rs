//! A study for people and for other programs: a table for the terminal, Markdown, CSV, JSON.

mod comparison;
mod figures;
mod layout;
pub(crate) mod rank_correlations;
mod smallest;

use std::fmt::Write as _;

pub(crate) use self::comparison::comparison;
use self::figures::Row;
use self::layout::{Align, Column, Group};
pub(crate) use self::smallest::smallest_models;
use crate::human;
use crate::number;
use crate::results::{CellState, DataSetName, Estimate, Measurement, StudyResult};
use crate::scores::stats::mean_over_tasks;
use crate::scores::{Score, Subject, decimals, percent, scores_on, verdict};
use crate::study::{contamination_note, contamination_warnings};
use crate::text::{escape, wrap_words};

/// How wide a Markdown table may grow before its columns are spread over several.
const MARKDOWN_WIDTH: usize = 160;

/// The study as a table of at most `width` columns of text, 0 for no limit: the base first, then the cells; below it
/// which metric tells the truth, and the warnings.
///
/// Where not all texts and tasks fit side by side, the table continues below with the same rows. Text from data sets
/// and warnings comes without control characters.
pub fn table(result: &StudyResult, width: usize) -> String {
    let width = if width == 0 { usize::MAX } else { width };
    let mut out = wrap_words(&headline(result), width, "") + "\n";
    out.push('\n');
    let (lead, groups) = columns(result, width);
    out += &layout::text(&lead, &groups, width);
    out.push('\n');
    for line in notes(result) {
        out += &(wrap_words(&line, width, "") + "\n");
    }
    out += &(wrap_words(&verdict_words(result), width, "") + "\n");
    for line in smallest(result) {
        out += &(wrap_words(&line, width, "  ") + "\n");
    }
    if let Some(table) = rank_correlations::text(&result.rank_correlations, width, true) {
        out += &format!("\n{table}{}\n\n", wrap_words(rank_correlations::LEGEND, width, ""));
    }
    for (cell, warning) in warnings(result) {
        let place = cell.map_or_else(|| "Warning".to_owned(), |cell| format!("Warning, {cell}"));
        out += &(wrap_words(&format!("{place}: {warning}"), width, "  ") + "\n");
    }
    out
}

/// The same as Markdown.
pub fn markdown(result: &StudyResult) -> String {
    let (lead, groups) = columns(result, MARKDOWN_WIDTH);
    let mut out = format!("{}\n\n", layout::escape(&headline(result)));
    out += &layout::markdown(&lead, &groups, MARKDOWN_WIDTH);
    for line in notes(result) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "\n{}", layout::escape(&line));
    }
    let _ = writeln!(out, "\n{}", layout::escape(&verdict_words(result)));
    for line in smallest(result) {
        let _ = writeln!(out, "\n{}", layout::escape(&line));
    }
    if let Some(table) = rank_correlations::markdown(&result.rank_correlations, MARKDOWN_WIDTH) {
        let _ = writeln!(out, "\n{table}\n{}", layout::escape(rank_correlations::LEGEND));
    }
    let warnings = warnings(result);
    if !warnings.is_empty() {
        out += "\nWarnings:\n\n";
    }
    for (cell, warning) in warnings {
        let place = cell.map_or_else(String::new, |cell| format!("{}: ", layout::escape(&cell)));
        let _ = writeln!(out, "- {place}{}", layout::escape(&warning));
    }
    out
}

/// The study as JSON, described by `assets/report.schema.json`.
#[expect(clippy::missing_panics_doc, reason = "it cannot")]
pub fn json(result: &StudyResult) -> String {
    // serde_json fails on writers, on maps whose keys are no text and on types that say so: there are none here.
    serde_json::to_string_pretty(result).expect("plain data is JSON")
}

/// The study as CSV (RFC 4180, lines end with a line feed): one line for the base and one for each cell.
///
/// The first columns are always the same, `id` to `warnings`; `sparsity` is the share of zeros counted in the compressed
/// modules, `bits_per_weight` to `packed_size_bytes` are of the whole model. Those behind are named after score and data set: `perplexity.wikitext2`, with its 95% interval in `perplexity.wikitext2.lo` and `.hi`,
/// then every other score of texts likewise for each text, and every score of tasks for each task. What is not known is
/// empty; numbers are in full precision, or `inf`, `-inf`, `nan`, as in JSON.
pub fn csv(result: &StudyResult) -> String {
    let rows = figures::rows(result);
    let measured = measured_scores(&rows);
    let mut out = String::new();
    csv_line(&mut out, csv_header(&measured));
    for row in &rows {
        csv_line(&mut out, csv_fields(row, &measured));
    }
    out
}

/// Scores with what they were measured on, in the order of the columns.
type MeasuredScores = [(&'static Score, DataSetName)];

/// Every score of corpora for each corpus, and for each task the scores that were measured on it.
fn measured_scores(rows: &[Row<'_>]) -> Vec<(&'static Score, DataSetName)> {
    let mut measured = Vec::new();
    for subject in [Subject::Corpus, Subject::Task] {
        for data_set in figures::data_sets(rows, subject) {
            for score in scores_on(subject) {
                if subject == Subject::Corpus || figures::is_measured(rows, score, &data_set) {
                    measured.push((score, data_set.clone()));
                }
            }
        }
    }
    measured
}

fn csv_header(measured: &MeasuredScores) -> Vec<String> {
    let fixed = "id,recipe,calibration,seed,state,sparsity,bits_per_weight,packed_bits_per_weight,size_bytes,\
                 packed_size_bytes,seconds_load,seconds_calibrate,seconds_prune,seconds_evaluate,seconds_answer,peak_rss_bytes,warnings";
    let mut header: Vec<String> = fixed.split(',').map(Into::into).collect();
    for (score, data_set) in measured {
        header.extend(["", ".lo", ".hi"].map(|end| format!("{}.{data_set}{end}", score.csv)));
    }
    header
}

fn csv_fields(row: &Row<'_>, measured: &MeasuredScores) -> Vec<String> {
    let cell = row.cell;
    let known = |text: Option<String>| text.unwrap_or_default();
    let footprint = cell.and_then(|c| c.footprint);
    let seconds = row.seconds;
    let mut fields = vec![
        cell.map_or("base", |c| &c.id).to_owned(),
        known(cell.map(|c| c.spec.recipe.to_string())),
        known(cell.and_then(|c| c.spec.calibration.clone())),
        known(cell.map(|c| c.spec.seed.to_string())),
        known(cell.map(|c| c.state.name().to_owned())),
        known(footprint.map(|f| number::text(f.sparsity()))),
        known(row.whole.map(|whole| number::text(whole.bits_per_weight))),
        known(row.whole.map(|whole| number::text(whole.packed_bits_per_weight))),
        known(row.whole.map(|whole| whole.size_bytes.to_string())),
        known(row.whole.map(|whole| whole.packed_size_bytes.to_string())),
        number::text(seconds.load),
        number::text(seconds.calibrate),
        number::text(seconds.prune),
        number::text(seconds.evaluate),
        number::text(seconds.answer),
        known(cell.map(|c| c.peak_rss_bytes.to_string())),
        known(cell.map(|c| c.warnings.join("; "))),
    ];
    let mut add = |estimate: Option<Estimate>| match estimate {
        Some(Estimate { value, ci95: [lo, hi] }) => fields.extend([value, lo, hi].map(number::text)),
        None => fields.extend([const { String::new() }; 3]),
    };
    for (score, data_set) in measured {
        add(row.metrics.find(score, data_set).map(Measurement::estimate));
    }
    fields
}

fn csv_line(out: &mut String, fields: Vec<String>) {
    let quoted: Vec<String> = fields
        .into_iter()
        .map(|field| {
            if field.contains([',', '"', '\n', '\r']) {
                format!("\"{}\"", field.replace('"', "\"\""))
            } else {
                field
            }
        })
        .collect();
    *out += &quoted.join(",");
    out.push('\n');
}

/// One sentence on what was measured.
fn headline(result: &StudyResult) -> String {
    let model = &result.model;
    escape(&format!(
        "{}: {}, {} parameters, {} of them prunable, {} weights, computed in {} on {}",
        model.source,
        model.architecture,
        human::count(model.parameters),
        human::count(model.prunable_parameters),
        model.dtype,
        result.environment.compute_dtype,
        result.environment.device,
    ))
    .into_owned()
}

/// The columns that say which cell a row is, and those with what was measured, by text and by task.
fn columns(result: &StudyResult, width: usize) -> (Vec<Column>, Vec<Group>) {
    let rows = figures::rows(result);
    let (lead, mut groups) = (lead(&rows), vec![progress(&rows)]);
    for corpus in figures::data_sets(&rows, Subject::Corpus) {
        let seldom = scores_on(Subject::Corpus).filter(|score| score.seldom).count();
        let fits = |group: &Group, beside: &[Group]| {
            let groups: Vec<&Group> = beside.iter().chain([group]).collect();
            layout::fit(&lead, &groups, width)
        };
        let fewest = corpus_group(&rows, &corpus, 0);
        // Where not even the fewest columns fit beside the first group, they have the whole width.
        let beside = if fits(&fewest, &groups[..1]) { &groups[..1] } else { &[] };
        let mut fitting = (1..=seldom).rev().map(|seldom| corpus_group(&rows, &corpus, seldom));
        let group = fitting.find(|group| fits(group, beside)).unwrap_or(fewest);
        groups.push(group);
    }
    let tasks = figures::data_sets(&rows, Subject::Task);
    if tasks.len() > 1 {
        let means = task_group(&rows, &tasks, "mean");
        groups.extend(Some(means).filter(|group| !group.columns.is_empty()));
    }
    for task in &tasks {
        groups.push(task_group(&rows, std::slice::from_ref(task), &task.to_string()));
    }
    (lead, groups)
}

/// Makes a column of what `f` finds in each row; `-` where it finds nothing.
fn column(title: &str, align: Align, rows: &[Row<'_>], f: impl Fn(&Row<'_>) -> Option<String>) -> Column {
    let cells =
        rows.iter().map(|row| f(row).map_or_else(|| "-".to_owned(), |text| escape(&text).into_owned()));
    Column { title: title.to_owned(), align, cells: cells.collect() }
}

fn lead(rows: &[Row<'_>]) -> Vec<Column> {
    let left = |title: &str, f: &dyn Fn(&Row<'_>) -> Option<String>| column(title, Align::Left, rows, f);
    let mut lead = vec![
        left("method", &|row| Some(row.cell.map_or("base".to_owned(), |c| c.spec.recipe.series()))),
        left("level", &|row| row.cell.map(|c| c.spec.recipe.level())),
        left("calibration", &|row| row.calibration()),
    ];
    // A seed says something only where cells differ in it.
    let mut seeds: Vec<_> = rows.iter().filter_map(Row::seed).collect();
    seeds.dedup();
    if seeds.len() > 1 {
        lead.push(left("seed", &|row| row.seed().map(|seed| seed.to_string())));
    }
    lead
}

/// Zeros counted, the state where a cell is not done, and sizes where they differ.
fn progress(rows: &[Row<'_>]) -> Group {
    let mut columns = Vec::new();
    if rows.iter().any(|row| row.cell.is_some_and(|c| c.state != CellState::Done)) {
        let state = |row: &Row<'_>| row.cell.map(|c| c.state.name().to_owned());
        columns.push(column("state", Align::Left, rows, state));
    }
    let zeros = |row: &Row<'_>| row.cell.and_then(|c| c.footprint).map(|f| percent(f.sparsity(), 2));
    columns.push(column("zeros", Align::Right, rows, zeros));
    if figures::sizes_differ(rows) {
        let bits = |row: &Row<'_>| row.whole.map(|whole| decimals(whole.bits_per_weight, 2));
        columns.push(column("bits", Align::Right, rows, bits));
        let size = |row: &Row<'_>| row.whole.map(|whole| human::bytes(whole.size_bytes));
        columns.push(column("size", Align::Right, rows, size));
    }
    Group { title: String::new(), columns }
}

/// Every score on a corpus, but only the first `seldom` of those that few look at; one that compares nothing by itself
/// stands beside its ratio to the base's. Scores that the version which measured the cells did not have are left out.
fn corpus_group(rows: &[Row<'_>], corpus: &DataSetName, mut seldom: usize) -> Group {
    let right = |title: &str, f: &dyn Fn(&Row<'_>) -> Option<String>| column(title, Align::Right, rows, f);
    let mut columns = Vec::new();
    let is_measured = |score: &Score| figures::is_measured(rows, score, corpus);
    let compared = scores_on(Subject::Corpus).any(|score| score.compares() && is_measured(score));
    for score in scores_on(Subject::Corpus) {
        if compared && score.compares() && !is_measured(score) {
            continue;
        }
        if score.seldom {
            if seldom == 0 {
                continue;
            }
            seldom -= 1;
        }
        let value = |row: &Row<'_>| row.metrics.find(score, corpus).map(|found| found.value);
        columns.push(right(&score.short_head(), &|row| value(row).map(|value| score.in_table(value))));
        if score.interval_in_tables {
            columns.push(right("95%", &|row| {
                let [low, high] = row.metrics.find(score, corpus)?.ci95;
                Some(format!("{} to {}", score.in_table(low), score.in_table(high)))
            }));
        }
        if !score.compares() {
            let base = rows.first().and_then(value);
            columns.push(right("x base", &|row| {
                let (own, base) = (value(row)?, base?);
                row.cell.map(|_| decimals(own / base, 2))
            }));
        }
    }
    Group { title: escape(&corpus.to_string()).into_owned(), columns }
}

/// Every score that was measured on the tasks, averaged over those that have it. With several tasks, only scores that two
/// of them have: a mean of one would repeat its column.
fn task_group(rows: &[Row<'_>], tasks: &[DataSetName], title: &str) -> Group {
    let mut columns = Vec::new();
    for score in scores_on(Subject::Task) {
        let measured = tasks.iter().filter(|task| figures::is_measured(rows, score, task)).count();
        if measured < tasks.len().min(2) {
            continue;
        }
        let base = rows.first().map_or_else(Vec::new, |base| figures::on(base, score, tasks));
        columns.push(column(&score.short_head(), Align::Right, rows, |row| {
            mean_over_tasks(&figures::on(row, score, tasks), &base).map(|mean| score.in_table(mean.value))
        }));
    }
    Group { title: escape(title).into_owned(), columns }
}

/// Which metric tells the truth, in words.
fn verdict_words(result: &StudyResult) -> String {
    if figures::data_sets(&figures::rows(result), Subject::Task).is_empty() {
        return format!("{} No task was asked, so this study cannot tell.", verdict::QUESTION);
    }
    verdict::sentence(&result.rank_correlations, true)
}

/// How small models of each kind are within limits of three measures.
fn smallest(result: &StudyResult) -> Vec<String> {
    let cells: Vec<_> = result.cells.iter().map(|cell| (cell, cell.whole_model)).collect();
    smallest_models((&result.base.metrics, result.base.whole_model), &cells)
}

/// What is needed to read the figures.
fn notes(result: &StudyResult) -> Vec<String> {
    let rows = figures::rows(result);
    let tasks = figures::data_sets(&rows, Subject::Task);
    let mut notes = Vec::new();
    if tasks.len() > 1 && !task_group(&rows, &tasks, "").columns.is_empty() {
        let about = "A mean is over the tasks that have the score, each weighted by its number of records.";
        notes.push(about.into());
    }
    notes.extend(size_note(&rows));
    notes.extend(contamination_note(&result.contamination).map(|note| escape(&note).into_owned()));
    notes
}

/// What the sizes are of; where all are the same, which it is.
fn size_note(rows: &[Row<'_>]) -> Option<String> {
    if figures::sizes_differ(rows) {
        return Some(
            "bits, size: stored bits per weight and bytes of the whole model as it is exported.".into(),
        );
    }
    let whole = rows.iter().find_map(|row| row.cell.and(row.whole))?;
    Some(format!(
        "Size: {} each, {} bits per weight; an export stores a zero like any other weight.",
        human::bytes(whole.size_bytes),
        decimals(whole.bits_per_weight, 2)
    ))
}

/// Every warning with the name of its cell; first those of the study's data.
fn warnings(result: &StudyResult) -> Vec<(Option<String>, String)> {
    let of_data = contamination_warnings(&result.contamination);
    let of_data = of_data.iter().map(|warning| (None, escape(warning).into_owned()));
    let of_cell = |cell: &crate::results::CellResult| {
        let label = escape(&cell.spec.label()).into_owned();
        cell.warnings
            .iter()
            .map(move |warning| (Some(label.clone()), escape(warning).into_owned()))
            .collect::<Vec<_>>()
    };
    of_data.chain(result.cells.iter().flat_map(of_cell)).collect()
}
