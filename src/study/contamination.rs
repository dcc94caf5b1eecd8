//! How much of what is measured stands in the calibration text too, and what to say of it.

use serde::{Deserialize, Serialize};

/// Tokens in a row that make a text known: shorter runs are equal by chance. GPT-3's authors looked for 13 words in a row
/// (arXiv 2005.14165, appendix C); these are tokens, which are shorter.
pub(crate) const RUN_TOKENS: usize = 13;

/// The share of windows or records above which a person is warned, in percent.
const NOTABLE_PERCENT: usize = 1;

/// What a data set is measured as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MeasuredAs {
    /// A text, by windows.
    Corpus,
    /// Questions, by records.
    Task,
}

impl MeasuredAs {
    fn unit(self) -> &'static str {
        match self {
            Self::Corpus => "windows",
            Self::Task => "records",
        }
    }
}

/// How much of a data set holds [`RUN_TOKENS`] tokens in a row of the windows that a calibration set gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contamination {
    /// Short name of the calibration set.
    pub calibration: String,
    /// Seed of its sampling.
    pub seed: u64,
    /// Short name of the corpus or task.
    pub data_set: String,
    /// Which of the two it is.
    pub measured_as: MeasuredAs,
    /// Its windows or records that hold such tokens.
    pub contaminated: usize,
    /// All its windows or records.
    pub n: usize,
}

impl Contamination {
    /// The share that holds such tokens, `0 … 1`.
    pub fn share(&self) -> f64 {
        self.contaminated as f64 / self.n.max(1) as f64
    }

    /// In words: `3 of 64 windows of wikitext2`.
    pub(crate) fn describe(&self) -> String {
        format!("{} of {} {} of {}", self.contaminated, self.n, self.measured_as.unit(), self.data_set)
    }

    /// The share in percent: `4.7%`.
    fn percent(&self) -> String {
        match self.share() * 100.0 {
            percent if percent > 0.0 && percent < 0.05 => "<0.1%".to_owned(),
            percent => format!("{percent:.1}%"),
        }
    }

    fn is_notable(&self) -> bool {
        100 * self.contaminated > NOTABLE_PERCENT * self.n
    }

    fn is_of(&self, set: (&str, u64)) -> bool {
        (self.calibration.as_str(), self.seed) == set
    }
}

/// What a person should know of a calibration set of this short name and seed: `None` where no data set holds much of it.
pub(crate) fn contamination_warning(found: &[Contamination], set: (&str, u64)) -> Option<String> {
    let notable = found.iter().filter(|one| one.is_of(set) && one.is_notable());
    let shares: Vec<String> = notable.map(|one| format!("{} ({})", one.describe(), one.percent())).collect();
    if shares.is_empty() {
        return None;
    }
    let several = found.iter().any(|one| one.calibration == set.0 && one.seed != set.1);
    let seed = if several { format!(" with seed {}", set.1) } else { String::new() };
    let shares = listed(&shares);
    Some(format!(
        "contaminated data: {shares} hold {RUN_TOKENS} tokens in a row of calibration set {}{seed}; a method looks \
         better on text that it has seen: calibrate on other text, or measure on other data",
        set.0
    ))
}

/// `a, b and c`.
fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

/// The warnings of all calibration sets, in the order in which they were looked at.
pub(crate) fn contamination_warnings(found: &[Contamination]) -> Vec<String> {
    let mut sets: Vec<(&str, u64)> = Vec::new();
    for one in found {
        if !sets.iter().any(|set| one.is_of(*set)) {
            sets.push((&one.calibration, one.seed));
        }
    }
    sets.into_iter().filter_map(|set| contamination_warning(found, set)).collect()
}

/// How much of every data set stands in the calibration set that it holds most of, in one sentence: `None` where nobody
/// looked.
pub(crate) fn contamination_note(found: &[Contamination]) -> Option<String> {
    let mut shares: Vec<String> = Vec::new();
    for (place, one) in found.iter().enumerate() {
        let is_same =
            |other: &&Contamination| other.data_set == one.data_set && other.measured_as == one.measured_as;
        if !found[..place].iter().any(|other| is_same(&other)) {
            let worst = found.iter().filter(is_same).max_by_key(|other| other.contaminated).unwrap_or(one);
            shares.push(format!("{} {}", one.data_set, worst.percent()));
        }
    }
    if shares.is_empty() {
        return None;
    }
    Some(format!(
        "Share of windows or records that hold {RUN_TOKENS} tokens in a row of a calibration set (contamination): {}.",
        shares.join(", ")
    ))
}

/// What stands beside a data set's name: the share of the calibration set that it holds most of. `None` where it holds
/// nothing, or nobody looked.
pub(crate) fn contaminated_share(
    found: &[Contamination],
    data_set: &str,
    measured_as: MeasuredAs,
) -> Option<String> {
    let own = found.iter().filter(|one| one.data_set == data_set && one.measured_as == measured_as);
    let worst = own.max_by_key(|one| one.contaminated).filter(|one| one.contaminated > 0)?;
    Some(format!("{} contaminated", worst.percent()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(calibration: &str, seed: u64, data_set: &str, contaminated: usize, n: usize) -> Contamination {
        let measured_as = if data_set == "squad" { MeasuredAs::Task } else { MeasuredAs::Corpus };
        let (calibration, data_set) = (calibration.to_owned(), data_set.to_owned());
        Contamination { calibration, seed, data_set, measured_as, contaminated, n }
    }

    #[test]
    fn more_than_a_hundredth_is_warned_of() {
        let all = [
            found("c4", 0, "wikitext2", 1, 100),
            found("c4", 0, "squad", 2, 150),
            found("b", 0, "squad", 0, 9),
        ];
        let warnings = contamination_warnings(&all);
        assert_eq!(warnings.len(), 1);
        assert!(
            warnings[0].starts_with(
                "contaminated data: 2 of 150 records of squad (1.3%) hold 13 tokens in a row of calibration set c4; "
            ),
            "{warnings:?}"
        );
        assert_eq!(contamination_warning(&all, ("b", 0)), None);
        let both = [found("c4", 0, "wikitext2", 2, 100), found("c4", 0, "squad", 150, 150)];
        let warning = contamination_warning(&both, ("c4", 0)).unwrap();
        assert!(
            warning.contains(
                "2 of 100 windows of wikitext2 (2.0%) and 150 of 150 records of squad (100.0%) hold"
            )
        );
    }

    #[test]
    fn sets_that_differ_by_their_seed_are_told_apart() {
        let all = [found("c4", 0, "w", 9, 9), found("c4", 7, "w", 8, 9)];
        let warnings = contamination_warnings(&all);
        assert!(warnings[0].contains("set c4 with seed 0;") && warnings[1].contains("set c4 with seed 7;"));
    }

    #[test]
    fn beside_a_name_stands_the_greatest_share() {
        let all = [
            found("c4", 0, "w", 1, 64),
            found("b", 0, "w", 3, 64),
            found("b", 0, "v", 0, 64),
            found("b", 0, "long", 1, 9000),
        ];
        let beside = |data_set| contaminated_share(&all, data_set, MeasuredAs::Corpus);
        assert_eq!(beside("w").as_deref(), Some("4.7% contaminated"));
        assert_eq!(beside("long").as_deref(), Some("<0.1% contaminated"));
        assert_eq!((beside("v"), beside("u")), (None, None));
        assert_eq!(contaminated_share(&all, "w", MeasuredAs::Task), None);
        let note = contamination_note(&all).unwrap();
        assert!(note.ends_with("calibration set (contamination): w 4.7%, v 0.0%, long <0.1%."), "{note}");
        assert_eq!(contamination_note(&[]), None);
    }
}
