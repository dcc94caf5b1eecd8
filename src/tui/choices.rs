//! The choices on the Compare screen, kept in a file beside the store from one start of the dashboard to the next.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::state::{ChartedScore, CompareChoices, SortBy, XQuantity};
use crate::error::Result;
use crate::store::checkpoint::write_atomically;

/// The file of a store: `studies.view.toml` beside `studies.db`.
#[derive(Debug, Clone)]
pub(crate) struct ChoicesFile {
    path: PathBuf,
}

impl ChoicesFile {
    /// The file of this store.
    pub(crate) fn beside(store: &Path) -> Self {
        Self { path: store.with_extension("view.toml") }
    }

    /// What was kept, and what of it is not understood. Where nothing is, the defaults hold.
    pub(crate) fn read(&self) -> (CompareChoices, Option<String>) {
        let (choices, fault) = match std::fs::read_to_string(&self.path) {
            Ok(text) => understand(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => (CompareChoices::default(), None),
            Err(error) => (CompareChoices::default(), Some(error.to_string())),
        };
        (choices, fault.map(|fault| format!("{}: {fault}", self.path.display())))
    }

    /// Keeps these choices.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn write(&self, choices: &CompareChoices) -> Result<()> {
        write_atomically(&self.path, |file| file.write_all(written(choices).as_bytes()))
    }
}

/// The choices as text.
fn written(choices: &CompareChoices) -> String {
    let &CompareChoices { x, score, relative, sort, descending, ref hidden } = choices;
    let sort = sort.map(|sort| format!("sort = \"{}\"\n", sort.id())).unwrap_or_default();
    let hidden: Vec<String> = hidden.iter().map(|column| format!("\"{}\"", column.id())).collect();
    format!(
        "# How the dashboard shows comparisons. It writes this file when you quit.\n\n[compare]\nx = \"{}\"\nscore = \
         \"{}\"\nrelative = {relative}\n{sort}descending = {descending}\nhidden = \
         [{}]\n",
        x.id(),
        score.id(),
        hidden.join(", "),
    )
}

/// Reads what [`written`] wrote. What is not understood is told and left out; everything else holds.
fn understand(text: &str) -> (CompareChoices, Option<String>) {
    let mut choices = CompareChoices::default();
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => return (choices, Some(error.message().to_owned())),
    };
    let mut fault = None;
    for (key, value) in table.get("compare").and_then(toml::Value::as_table).into_iter().flatten() {
        let read = match key.as_str() {
            "x" => one_of(value, XQuantity::ALL, |x| x.id().to_owned()).map(|x| choices.x = x),
            "score" => one_of(value, ChartedScore::every(), |score| score.id().to_owned())
                .map(|score| choices.score = score),
            // The columns of an axis of sizes are those of all others, and more.
            "sort" => {
                one_of(value, SortBy::all(XQuantity::Size), SortBy::id).map(|sort| choices.sort = Some(sort))
            }
            "relative" => yes_or_no(value).map(|on| choices.relative = on),
            "descending" => yes_or_no(value).map(|on| choices.descending = on),
            "hidden" => columns(value).map(|columns| choices.hidden = columns),
            _ => Err("accepted are x, score, relative, sort, descending, hidden".to_owned()),
        };
        if let Err(accepted) = read {
            fault.get_or_insert(format!("found {key} = {value}; {accepted}"));
        }
    }
    (choices, fault)
}

/// The choice whose name a value is; else what is accepted.
fn one_of<T: Copy>(
    value: &toml::Value,
    all: impl IntoIterator<Item = T>,
    name: impl Fn(T) -> String,
) -> Result<T, String> {
    let mut names = Vec::new();
    for choice in all {
        let known = name(choice);
        if value.as_str() == Some(known.as_str()) {
            return Ok(choice);
        }
        names.push(known);
    }
    Err(format!("accepted are {}", names.join(", ")))
}

/// A list of columns that can be left out.
fn columns(value: &toml::Value) -> Result<Vec<SortBy>, String> {
    let names = value.as_array().ok_or("accepted is a list of columns")?;
    let known: Vec<SortBy> =
        SortBy::all(XQuantity::Size).into_iter().filter(|column| *column != SortBy::Cell).collect();
    names.iter().map(|name| one_of(name, known.iter().copied(), SortBy::id)).collect()
}

fn yes_or_no(value: &toml::Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| "accepted are true and false".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scores::{F1, PERPLEXITY};

    #[test]
    fn every_choice_reads_back_as_it_was_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = ChoicesFile::beside(&folder.path().join("new/studies.db"));
        assert_eq!(file.read(), (CompareChoices::default(), None), "nothing was kept yet");
        let sorts = SortBy::all(XQuantity::Size).into_iter().map(Some).chain([None]);
        for (i, sort) in sorts.enumerate() {
            let every = ChartedScore::every();
            let choices = CompareChoices {
                x: XQuantity::ALL[i % 3],
                score: every[i % every.len()],
                relative: i % 2 == 0,
                sort,
                descending: i % 3 == 0,
                hidden: SortBy::all(XQuantity::Size).into_iter().skip(1).take(i).collect(),
            };
            file.write(&choices).unwrap();
            assert_eq!(file.read(), (choices, None));
        }
        assert!(folder.path().join("new/studies.view.toml").exists());
    }

    #[test]
    fn what_is_not_understood_is_named_and_the_rest_holds() {
        for (text, parts) in [
            (
                "[compare]\nx = \"depth\"\nscore = \"f1\"",
                &["x = \"depth\"", "sparsity, bits_per_weight, size"][..],
            ),
            ("[compare]\nscore = \"f1\"\nsort = 3", &["sort = 3", "perplexity, perplexity_change"]),
            ("[compare]\nscore = \"f1\"\nrelative = \"yes\"", &["relative = \"yes\"", "true and false"]),
            (
                "[compare]\nscore = \"f1\"\nhidden = [\"cell\"]",
                &["hidden = [\"cell\"]", "accepted are state"],
            ),
            ("[compare]\nscore = \"f1\"\nzoom = 2", &["zoom = 2", "accepted are x,"]),
        ] {
            let (choices, fault) = understand(text);
            assert_eq!(
                choices,
                CompareChoices { score: ChartedScore::One(&F1), ..CompareChoices::default() }
            );
            let fault = fault.unwrap();
            assert!(parts.iter().all(|part| fault.contains(part)), "{fault}");
        }
        let (choices, fault) = understand("[compare\nx");
        assert!(choices == CompareChoices::default() && fault.is_some());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "").unwrap();
        let file = ChoicesFile::beside(&folder.path().join("file/studies.db"));
        let choices = CompareChoices { sort: Some(SortBy::Score(&PERPLEXITY)), ..CompareChoices::default() };
        assert!(file.write(&choices).unwrap_err().to_string().contains("studies.view.toml"));
    }
}
