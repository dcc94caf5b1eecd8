//! A study for people and for other programs: a table for the terminal, Markdown, CSV, JSON.

mod figures;
mod layout;

use std::fmt::Write as _;

use self::figures::{Key, Row, clean, decimals, percent};
use self::layout::{Align, Column, Group};
use crate::eval::{stats, verdict};
use crate::results::{CellState, Estimate, Metrics, StudyResult, TaskScores};

/// How wide a Markdown table may grow before its columns are spread over several.
const MARKDOWN_WIDTH: usize = 160;

/// The study as a table of at most `width` columns of text, 0 for no limit: the base first, then the cells; below it
/// which metric tells the truth, and the warnings.
///
/// Where not all texts and tasks fit side by side, the table goes on below with the same rows. Text from data sets
/// and warnings comes without control characters.
pub fn table(result: &StudyResult, width: usize) -> String {
    let width = if width == 0 { usize::MAX } else { width };
    let mut out = layout::wrap(&headline(result), width, "");
    out.push('\n');
    let (lead, groups) = columns(result);
    out += &layout::text(&lead, &groups, width);
    out.push('\n');
    for line in notes(result) {
        out += &layout::wrap(&line, width, "");
    }
    for (cell, warning) in warnings(result) {
        out += &layout::wrap(&format!("Warning, {cell}: {warning}"), width, "  ");
    }
    out
}

/// The same as Markdown.
pub fn markdown(result: &StudyResult) -> String {
    let (lead, groups) = columns(result);
    let mut out = format!("{}\n\n", layout::escape(&headline(result)));
    out += &layout::markdown(&lead, &groups, MARKDOWN_WIDTH);
    for line in notes(result) {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(out, "\n{}", layout::escape(&line));
    }
    let warnings = warnings(result);
    if !warnings.is_empty() {
        out += "\nWarnings:\n\n";
    }
    for (cell, warning) in warnings {
        let _ = writeln!(out, "- {}: {}", layout::escape(&cell), layout::escape(&warning));
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
/// The first columns are always the same, `id` to `warnings`; `sparsity` is the share of zeros counted. Those behind are named after metric and data set:
/// `perplexity.wikitext2`, with its 95% interval in `perplexity.wikitext2.lo` and `.hi`, then `js_bits`, `kl_bits`,
/// `top1_agreement` likewise for each text; `exact_match`, `f1`, `rouge1` for each task. What is not known is empty;
/// numbers are in full precision, or `inf`, `-inf`, `NaN`.
pub fn csv(result: &StudyResult) -> String {
    let rows = figures::rows(result);
    let (corpora, tasks) = (figures::corpora(&rows), figures::tasks(&rows));
    let mut out = String::new();
    csv_line(&mut out, csv_header(&corpora, &tasks));
    for row in &rows {
        csv_line(&mut out, csv_fields(row, &corpora, &tasks));
    }
    out
}

fn csv_header(corpora: &[Key], tasks: &[Key]) -> Vec<String> {
    let fixed = "id,recipe,calibration,seed,state,sparsity,bits_per_weight,seconds_load,seconds_calibrate,\
                 seconds_prune,seconds_evaluate,seconds_answer,peak_rss_bytes,warnings";
    let mut header: Vec<String> = fixed.split(',').map(Into::into).collect();
    let mut with_interval = |metric: &str, key: &Key| {
        header.extend(["", ".lo", ".hi"].map(|end| format!("{metric}.{key}{end}")));
    };
    for key in corpora {
        for metric in ["perplexity", "js_bits", "kl_bits", "top1_agreement"] {
            with_interval(metric, key);
        }
    }
    for key in tasks {
        for metric in ["exact_match", "f1", "rouge1"] {
            with_interval(metric, key);
        }
    }
    header
}

fn csv_fields(row: &Row<'_>, corpora: &[Key], tasks: &[Key]) -> Vec<String> {
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
        known(footprint.map(|f| f.sparsity().to_string())),
        known(footprint.map(|f| f.bits_per_weight().to_string())),
        seconds.load.to_string(),
        seconds.calibrate.to_string(),
        seconds.prune.to_string(),
        seconds.evaluate.to_string(),
        seconds.answer.to_string(),
        known(cell.map(|c| c.peak_rss_bytes.to_string())),
        known(cell.map(|c| c.warnings.join("; "))),
    ];
    let mut add = |estimate: Option<Estimate>| match estimate {
        Some(Estimate { value, ci95: [lo, hi] }) => fields.extend([value, lo, hi].map(|v| v.to_string())),
        None => fields.extend([const { String::new() }; 3]),
    };
    let metrics = row.metrics;
    for key in corpora {
        add(key.find(&metrics.perplexity).map(|p| Estimate { value: p.value, ci95: p.ci95 }));
        for divergences in [&metrics.js_divergence, &metrics.kl_divergence] {
            add(key.find(divergences).map(|d| Estimate { value: d.bits, ci95: d.ci95 }));
        }
        add(key.find(&metrics.top1_agreement).map(|a| a.estimate));
    }
    for key in tasks {
        let task = key.find(&metrics.tasks);
        add(task.map(|t| t.exact_match));
        add(task.map(|t| t.f1));
        add(task.map(|t| t.rouge1));
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
    clean(&format!(
        "{}: {}, {} parameters, {} of them prunable, {} weights, computed in {} on {}",
        model.source,
        model.architecture,
        figures::millions(model.parameters),
        figures::millions(model.prunable_parameters),
        model.dtype,
        result.environment.compute_dtype,
        result.environment.device,
    ))
}

/// The columns that say which cell a row is, and those with what was measured, by text and by task.
fn columns(result: &StudyResult) -> (Vec<Column>, Vec<Group>) {
    let rows = figures::rows(result);
    let mut groups = vec![progress(&rows)];
    let corpora = figures::corpora(&rows);
    groups.extend(corpora.iter().map(|key| corpus_group(&rows, key)));
    let tasks = figures::tasks(&rows);
    if tasks.len() > 1 {
        let title = format!("mean of {} tasks", tasks.len());
        groups.push(task_group(&rows, |metrics| metrics.tasks.clone(), &title));
    }
    for key in &tasks {
        let one = |metrics: &Metrics| key.find(&metrics.tasks).cloned().into_iter().collect();
        groups.push(task_group(&rows, one, &key.to_string()));
    }
    (lead(&rows), groups)
}

/// Makes a column of what `f` finds in each row; `-` where it finds nothing.
fn column(title: &str, align: Align, rows: &[Row<'_>], f: impl Fn(&Row<'_>) -> Option<String>) -> Column {
    let cells = rows.iter().map(|row| f(row).map_or_else(|| "-".to_owned(), |text| clean(&text)));
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

/// Zeroes counted, and the state where a cell is not done.
fn progress(rows: &[Row<'_>]) -> Group {
    let mut columns = Vec::new();
    if rows.iter().any(|row| row.cell.is_some_and(|c| c.state != CellState::Done)) {
        let state = |row: &Row<'_>| row.cell.map(|c| c.state.name().to_owned());
        columns.push(column("state", Align::Left, rows, state));
    }
    let zeros = |row: &Row<'_>| row.cell.and_then(|c| c.footprint).map(|f| percent(f.sparsity(), 2));
    columns.push(column("zeros", Align::Right, rows, zeros));
    Group { title: String::new(), columns }
}

fn corpus_group(rows: &[Row<'_>], key: &Key) -> Group {
    let perplexity = |row: &Row<'_>| key.find(&row.metrics.perplexity).map(|p| p.value);
    let base = rows.first().and_then(perplexity);
    let right = |title: &str, f: &dyn Fn(&Row<'_>) -> Option<String>| column(title, Align::Right, rows, f);
    let columns = vec![
        right("ppl", &|row| perplexity(row).map(|p| decimals(p, 2))),
        right("x base", &|row| {
            let (own, base) = (perplexity(row)?, base?);
            row.cell.map(|_| decimals(own / base, 2))
        }),
        right("JS bits", &|row| key.find(&row.metrics.js_divergence).map(|d| decimals(d.bits, 4))),
        right("top-1", &|row| key.find(&row.metrics.top1_agreement).map(|a| percent(a.estimate.value, 1))),
    ];
    Group { title: clean(&key.to_string()), columns }
}

/// EM, F1 and ROUGE-1 of the tasks that `tasks` picks from a row's; their mean where it picks several.
fn task_group(rows: &[Row<'_>], tasks: impl Fn(&Metrics) -> Vec<TaskScores>, title: &str) -> Group {
    let asked = rows.first().map_or_else(Vec::new, |base| tasks(base.metrics));
    let mean = |row: &Row<'_>, score: fn(&TaskScores) -> Estimate| {
        let mean = stats::mean_over_tasks(&tasks(row.metrics), &asked, score);
        mean.map(|mean| percent(mean.value, 1))
    };
    let right = |title: &str, score| column(title, Align::Right, rows, |row| mean(row, score));
    let columns = vec![right("EM", |t| t.exact_match), right("F1", |t| t.f1), right("ROUGE-1", |t| t.rouge1)];
    Group { title: clean(title), columns }
}

/// Which metric tells the truth, in words, and what is needed to read the figures.
fn notes(result: &StudyResult) -> Vec<String> {
    let tasks = figures::tasks(&figures::rows(result)).len();
    if tasks == 0 {
        return vec![format!("{} No task was asked, so nothing here says.", verdict::QUESTION)];
    }
    let insight = &result.insight;
    let mut notes = vec![verdict::sentence(insight, true)];
    if insight.spearman_perplexity_vs_tasks.is_some() || insight.spearman_js_vs_tasks.is_some() {
        notes.push(
            "rho: rank correlation with the share of the base's task scores that a cell keeps; -1 is perfect.".into(),
        );
    }
    if tasks > 1 {
        notes.push("The mean of the tasks weighs each by its number of records.".into());
    }
    notes
}

/// Every warning with the name of its cell.
fn warnings(result: &StudyResult) -> Vec<(String, String)> {
    let of_cell = |cell: &crate::results::CellResult| {
        let label = clean(&cell.spec.label());
        cell.warnings.iter().map(move |warning| (label.clone(), clean(warning))).collect::<Vec<_>>()
    };
    result.cells.iter().flat_map(of_cell).collect()
}
