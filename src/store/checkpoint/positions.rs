//! What every position of the texts showed of a cell, or of the base: `positions.safetensors` in its folder.
//!
//! With it, any two cells of a study can be compared later, position by position.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};

use super::super::container::{self, Contents, Data, NamedTensor, TensorContent, Unreadable};
use super::unreadable;
use crate::error::Result;
use crate::scores::{Position, Window};

const NLL: &str = "nll";
const JS: &str = "js";
const KL: &str = "kl";

/// One number of every position that counts, a list for each window.
type Rows = Vec<Vec<f32>>;

/// What the positions of one text showed.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPositions {
    /// Short name of the text.
    pub corpus: String,
    /// Negative log-likelihood of the next token in nats, where there is one.
    pub nll: Vec<Vec<f32>>,
    /// Jensen-Shannon divergence from the base and KL(base || cell), in nats; `None` of the base itself.
    pub divergences: Option<[Vec<Vec<f32>>; 2]>,
}

impl TextPositions {
    pub(crate) fn new(corpus: &str, windows: &[Window], compared: bool) -> Self {
        let of = |value: fn(&Position) -> f64| -> Rows {
            windows.iter().map(|w| w.positions.iter().map(|at| value(at) as f32).collect()).collect()
        };
        let nll = windows.iter().map(|w| w.with_target().iter().map(|at| at.nll as f32).collect());
        Self {
            corpus: corpus.to_owned(),
            nll: nll.collect(),
            divergences: compared.then(|| [of(|at| at.js), of(|at| at.kl)]),
        }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("positions.safetensors")
}

/// Writes the positions of every text, atomically, in place of those that were there.
///
/// # Errors
/// [`Error::Failure`](crate::Error::Failure) when the disk is full, [`Error::Io`](crate::Error::Io) when writing fails
/// otherwise.
pub(crate) fn write(dir: &Path, texts: &[TextPositions]) -> Result<()> {
    let mut entries = Vec::new();
    for text in texts {
        let mut add = |what: &str, rows: &Rows| -> Result<()> {
            let shape = (rows.len(), rows.first().map_or(0, Vec::len));
            let data = Data::Values(Tensor::from_vec(rows.concat(), shape, &Device::Cpu)?);
            entries.push(NamedTensor { name: format!("{}/{what}", text.corpus), data });
            Ok(())
        };
        add(NLL, &text.nll)?;
        if let Some([js, kl]) = &text.divergences {
            add(JS, js)?;
            add(KL, kl)?;
        }
    }
    container::write(&path(dir), &entries, &[]).map(drop)
}

/// The positions of every text that a cell, or the base, was measured on; `dir` is its folder
/// ([`Store::folder`](crate::store::Store::folder)). `None` where there are none, as in stores of earlier versions, or
/// where they are damaged.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the file cannot be read.
pub fn read(dir: &Path) -> Result<Option<Vec<TextPositions>>> {
    let path = path(dir);
    let Contents { entries, .. } = match container::read(&path) {
        Ok(contents) => contents,
        Err(Unreadable::Missing | Unreadable::Broken(_)) => return Ok(None),
        Err(e) => return Err(unreadable(&path, e)),
    };
    let mut texts: Vec<TextPositions> = Vec::new();
    for (name, content) in entries {
        let (Some((corpus, what)), TensorContent::Values(values)) = (name.rsplit_once('/'), content) else {
            return Ok(None);
        };
        let rows: Rows = values.to_vec2()?;
        match (what, texts.last_mut()) {
            (NLL, _) => texts.push(TextPositions { corpus: corpus.to_owned(), nll: rows, divergences: None }),
            (JS, Some(text)) => text.divergences = Some([rows, Vec::new()]),
            (KL, Some(TextPositions { divergences: Some([_, kl]), .. })) => *kl = rows,
            _ => return Ok(None),
        }
    }
    Ok(Some(texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows() -> Vec<Window> {
        let position = |i: u8| Position {
            nll: f64::from(i) / 3.0,
            js: f64::from(i) / 7.0,
            kl: f64::from(i),
            ..Position::default()
        };
        let window = |first: u8| Window::new((first..first + 4).map(position).collect(), 3);
        vec![window(0), window(10), window(20)]
    }

    #[test]
    fn positions_come_back_as_they_were_and_those_of_another_run_replace_them() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None, "a cell of an earlier version");
        let texts = ["a text", "b/c"].map(|name| TextPositions::new(name, &windows(), true));
        write(dir.path(), &texts).unwrap();
        let found = read(dir.path()).unwrap().unwrap();
        assert_eq!(found, texts);
        assert_eq!(
            (found[0].nll.len(), found[0].nll[0].len()),
            (3, 3),
            "the last position has no next token"
        );
        let [js, kl] = found[1].divergences.as_ref().unwrap();
        assert_eq!((js[2][3], kl[2][3]), ((23.0_f64 / 7.0) as f32, 23.0));

        let base = [TextPositions::new("a text", &windows(), false)];
        write(dir.path(), &base).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap(), base);
    }

    #[test]
    fn damaged_positions_count_as_not_there() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[TextPositions::new("text", &windows(), true)]).unwrap();
        let mut bytes = std::fs::read(path(dir.path())).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(path(dir.path()), bytes).unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
    }
}
