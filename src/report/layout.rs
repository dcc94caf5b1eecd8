//! Columns into tables.

use crate::text::{pad, truncate};

/// On which side a column is flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Align {
    Left,
    Right,
}

/// A column of a table.
pub(super) struct Column {
    pub title: String,
    pub align: Align,
    /// One text a row.
    pub cells: Vec<String>,
}

impl Column {
    fn width(&self) -> usize {
        self.cells
            .iter()
            .map(|cell| crate::text::width(cell))
            .max()
            .unwrap_or(0)
            .max(crate::text::width(&self.title))
    }
}

/// Columns that stay together, under a title of their own.
pub(super) struct Group {
    pub title: String,
    pub columns: Vec<Column>,
}

/// Blanks between columns, and between groups.
const GAP: usize = 2;
const GROUP_GAP: usize = 3;

fn width(columns: &[Column]) -> usize {
    columns.iter().map(Column::width).sum::<usize>() + GAP * columns.len().saturating_sub(1)
}

/// Whether these groups stand side by side behind the leading columns in this width.
pub(super) fn fit(lead: &[Column], groups: &[&Group], limit: usize) -> bool {
    let groups = groups.iter().map(|group| GROUP_GAP + width(&group.columns));
    width(lead) + groups.sum::<usize>() <= limit
}

/// Deals the groups out to tables that are at most `width` wide; a group that is wider gets a table of its own.
fn deal<'a>(lead: &[Column], groups: &'a [Group], limit: usize) -> Vec<Vec<&'a Group>> {
    let mut tables: Vec<Vec<&Group>> = Vec::new();
    let mut used = 0;
    for group in groups {
        let more = GROUP_GAP + width(&group.columns);
        match tables.last_mut() {
            Some(table) if used + more <= limit => table.push(group),
            _ => {
                tables.push(vec![group]);
                used = width(lead);
            }
        }
        used += more;
    }
    tables
}

/// Plain text, the leading columns repeated in front of every part of the table.
pub(super) fn text(lead: &[Column], groups: &[Group], limit: usize) -> String {
    let tables: Vec<String> =
        deal(lead, groups, limit).iter().map(|groups| text_part(lead, groups)).collect();
    tables.join("\n")
}

fn text_part(lead: &[Column], groups: &[&Group]) -> String {
    let gap = " ".repeat(GAP);
    let group_gap = " ".repeat(GROUP_GAP);
    let line = |pick: &dyn Fn(&Column) -> String| {
        let part = |columns: &[Column]| columns.iter().map(pick).collect::<Vec<_>>().join(&gap);
        let mut parts = vec![part(lead)];
        parts.extend(groups.iter().map(|group| part(&group.columns)));
        parts.join(&group_gap).trim_end().to_owned() + "\n"
    };
    let mut titles = " ".repeat(width(lead));
    for group in groups {
        let width = width(&group.columns);
        titles += &group_gap;
        titles += &pad(&truncate(&group.title, width, "…"), width, false);
    }
    let mut out = titles.trim_end().to_owned();
    if !out.is_empty() {
        out.push('\n');
    }
    out += &line(&|column| pad(&column.title, column.width(), column.align == Align::Right));
    out += &line(&|column| "-".repeat(column.width()));
    for row in 0..lead.first().map_or(0, |column| column.cells.len()) {
        out += &line(&|column| {
            pad(
                column.cells.get(row).map_or("", String::as_str),
                column.width(),
                column.align == Align::Right,
            )
        });
    }
    out
}

/// Markdown tables, the leading columns repeated in each.
pub(super) fn markdown(lead: &[Column], groups: &[Group], limit: usize) -> String {
    let tables: Vec<String> =
        deal(lead, groups, limit).iter().map(|groups| markdown_part(lead, groups)).collect();
    tables.join("\n")
}

fn markdown_part(lead: &[Column], groups: &[&Group]) -> String {
    let mut columns: Vec<(String, &Column)> =
        lead.iter().map(|column| (column.title.clone(), column)).collect();
    for group in groups {
        let titled = |column: &Column| format!("{} {}", group.title, column.title).trim_start().to_owned();
        columns.extend(group.columns.iter().map(|column| (titled(column), column)));
    }
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let mut out = line(columns.iter().map(|(title, _)| escape(title)).collect());
    let rules = columns.iter().map(|(_, column)| match column.align {
        Align::Left => "---".to_owned(),
        Align::Right => "---:".to_owned(),
    });
    out += &line(rules.collect());
    for row in 0..lead.first().map_or(0, |column| column.cells.len()) {
        out += &line(columns.iter().map(|(_, column)| escape(&column.cells[row])).collect());
    }
    out
}

/// Text that Markdown shows as it is.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\`*_|<>[]#".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
