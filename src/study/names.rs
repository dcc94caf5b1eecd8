//! What data sets are called, and how a set that draws from several is written: no file is looked at.

use std::fmt;

/// The texts that are known by name. Without looking at files, only these are told from parts of a file's name.
pub(crate) const NAMED_TEXTS: [&str; 3] = ["wikitext2", "c4", "alpaca"];

/// What files of data end in, and what may stand behind it.
const EXTENSIONS: [&str; 7] = [".txt", ".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet"];
const PACKINGS: [&str; 2] = [".gz", ".zst"];

/// The name of a data set without folders and extensions: `../data/c4_sample.txt` is `c4_sample`. Other characters than
/// letters, digits, `.`, `_` and `-` become `_`; in a set that draws from several, `+` and `*` stay between their names.
pub(crate) fn short_name(set: &str) -> String {
    name_of_mixture(set).unwrap_or_else(|| name_of_one(set))
}

/// The same as part of a file's name, for which `*` is not accepted everywhere: `c4*3+alpaca` is `c4x3+alpaca`.
pub(crate) fn file_name(set: &str) -> String {
    short_name(set).replace('*', "x")
}

/// The short name of a set that is one file or one name.
pub(super) fn name_of_one(set: &str) -> String {
    let file = set.rsplit(['/', '\\']).next().unwrap_or(set);
    let mut stem = file;
    for extension in PACKINGS.into_iter().chain(EXTENSIONS) {
        stem = stem.strip_suffix(extension).unwrap_or(stem);
    }
    let safe: String =
        stem.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    if safe.is_empty() { "data".into() } else { safe }
}

/// The short name of a set that, as it is written, draws from several; `None` for any other. No file is looked at, so a
/// name does not change when a file is gone: a component is what is known by name or ends as files of data do.
fn name_of_mixture(set: &str) -> Option<String> {
    let mut components: Vec<(String, u32)> = Vec::new();
    let mut start = 0;
    while start <= set.len() {
        let found = component_ends(set, start).find_map(|end| {
            let (one, weight) = split_weight(&set[start..end]);
            let weight = weight.map_or(Some(1), |weight| weight.parse().ok())?;
            is_written_as_set(one).then(|| (end, name_of_one(one), weight))
        });
        let (end, name, weight) = found?;
        components.push((name, weight));
        start = end + 1;
    }
    if components.len() < 2 {
        return None;
    }
    let mut name = String::new();
    // Writing to a String cannot fail.
    let _ = write_components(&mut name, components.iter().map(|(name, weight)| (name.as_str(), *weight)));
    Some(name)
}

/// Components as they are written, with their weights.
///
/// # Errors
/// What the writer says.
pub(super) fn write_components<'a>(
    f: &mut impl fmt::Write,
    components: impl Iterator<Item = (&'a str, u32)>,
) -> fmt::Result {
    for (place, (set, weight)) in components.enumerate() {
        let between = if place == 0 { "" } else { "+" };
        match weight {
            1 => write!(f, "{between}{set}")?,
            _ => write!(f, "{between}{set}*{weight}")?,
        }
    }
    Ok(())
}

/// Where a component that begins at `start` may end, the nearest first.
pub(super) fn component_ends(text: &str, start: usize) -> impl Iterator<Item = usize> + '_ {
    text[start..].match_indices('+').map(move |(at, _)| start + at).chain([text.len()])
}

/// A component as a set and what stands behind its last `*`.
pub(super) fn split_weight(component: &str) -> (&str, Option<&str>) {
    match component.rsplit_once('*') {
        Some((set, weight)) if !weight.contains('+') => (set.trim(), Some(weight.trim())),
        _ => (component.trim(), None),
    }
}

fn is_written_as_set(set: &str) -> bool {
    NAMED_TEXTS.contains(&set) || has_data_extension(set)
}

/// Whether a path ends as files of data do.
pub(super) fn has_data_extension(path: &str) -> bool {
    let path = path.to_lowercase();
    let unpacked = PACKINGS.iter().find_map(|packing| path.strip_suffix(packing)).unwrap_or(&path);
    EXTENSIONS.iter().any(|extension| unpacked.ends_with(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_data_sets_lose_folders_and_extensions() {
        assert_eq!(short_name("../shared/data/text/c4_sample.txt"), "c4_sample");
        assert_eq!(short_name("a/b.jsonl.gz"), "b");
        assert_eq!(short_name("wikitext2"), "wikitext2");
        assert_eq!(short_name("my file?.txt"), "my_file_");
    }

    #[test]
    fn a_mixture_is_named_after_its_components() {
        for (set, name) in [
            ("c4+alpaca", "c4+alpaca"),
            ("c4*3 + x/alpaca.jsonl.gz", "c4*3+alpaca"),
            ("c4*1+alpaca", "c4+alpaca"),
            ("/c++/a b.txt+y/C.TXT", "a_b+C.TXT"),
            ("x/a+b.txt*2+c4", "a_b*2+c4"),
            // Names of files, as before there were mixtures.
            ("a+b.txt", "a_b"),
            ("x/c+d.json", "c_d"),
            ("a*3.txt", "a_3"),
            ("c4+nothing", "c4_nothing"),
        ] {
            assert_eq!(short_name(set), name, "{set}");
        }
    }
}
