//! A calibration set that draws from several: `c4+alpaca`, or `c4*3+alpaca` for three windows of four from c4.

use std::fmt;

use super::names::{component_ends, has_data_extension, name_of_one, split_weight, write_components};
use crate::error::{Error, Result};

/// The greatest weight of a component. Nobody needs more, and a mistyped one is noticed.
const GREATEST_WEIGHT: u32 = 1000;

/// A component of a calibration set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetComponent {
    /// A name or a path.
    pub set: String,
    /// How many windows come from it, compared with the other components.
    pub weight: u32,
}

/// The components of a calibration set in the order in which their windows follow each other. A set like `c4` has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SetMixture {
    components: Vec<SetComponent>,
}

impl SetMixture {
    /// Takes a set apart. Of what lies between two `+`, as much as `is_file` says is a file is one component: a path may
    /// contain `+` and `*`.
    ///
    /// # Errors
    /// A mistake for a component that is missing, a weight that is not accepted, a weight of a set that stands alone, and
    /// two components of one name.
    pub fn parse(text: &str, is_file: &dyn Fn(&str) -> bool) -> Result<Self> {
        let mut components: Vec<SetComponent> = Vec::new();
        let mut weighted = false;
        let mut start = 0;
        while start <= text.len() {
            let end = component_end(text, start, is_file);
            let written = text[start..end].trim();
            let (set, weight) = if is_file(written) { (written, None) } else { split_weight(written) };
            if set.is_empty() {
                return Err(Error::mistake(format!(
                    "`{text}`: found nothing where a set should stand; accepted are names or files with + between them, \
                     such as c4*3+alpaca"
                )));
            }
            weighted |= weight.is_some();
            let weight = weight.map_or(Ok(1), |weight| understand_weight(text, set, weight))?;
            if let Some(other) = components.iter().find(|other| name_of_one(&other.set) == name_of_one(set)) {
                return Err(Error::mistake(format!(
                    "`{text}`: `{}` and `{set}` have the same short name `{}`; accepted are components whose names \
                     differ, and a weight draws more from one of them: c4*3+alpaca",
                    other.set,
                    name_of_one(set)
                )));
            }
            components.push(SetComponent { set: set.to_owned(), weight });
            start = end + 1;
        }
        if weighted && components.len() == 1 {
            return Err(Error::mistake(format!(
                "`{text}`: found a weight, but one set; accepted is a set without a weight, or several with + between \
                 them, such as c4*3+alpaca"
            )));
        }
        Ok(Self { components })
    }

    pub fn components(&self) -> &[SetComponent] {
        &self.components
    }

    /// The same with other sets in place of its own, such as files where they are now.
    ///
    /// # Errors
    /// What `change` says.
    pub fn map(self, mut change: impl FnMut(&str) -> Result<String>) -> Result<Self> {
        let changed = |SetComponent { set, weight }| change(&set).map(|set| SetComponent { set, weight });
        Ok(Self { components: self.components.into_iter().map(changed).collect::<Result<_>>()? })
    }

    /// How many of so many windows each component gives. Each gets the whole part of its share; of the windows that are
    /// left, one each goes to the components with the greatest remainders, the first ones of equal remainders.
    ///
    /// # Errors
    /// A mistake where a component would give none.
    pub fn shares(&self, windows: usize) -> Result<Vec<usize>> {
        let weights = || self.components.iter().map(|component| u128::from(component.weight));
        let total: u128 = weights().sum();
        let exact: Vec<u128> = weights().map(|weight| windows as u128 * weight).collect();
        let mut shares: Vec<usize> = exact.iter().map(|share| (share / total) as usize).collect();
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by_key(|&component| std::cmp::Reverse(exact[component] % total));
        let left = windows - shares.iter().sum::<usize>();
        for &component in order.iter().take(left) {
            shares[component] += 1;
        }
        match shares.iter().position(|share| *share == 0) {
            None => Ok(shares),
            Some(none) => Err(Error::mistake(format!(
                "`{self}`: of {windows} calibration samples none would come from `{}`; accepted are more samples \
                 (--calibration-samples), or weights that differ less",
                self.components[none].set
            ))),
        }
    }
}

impl fmt::Display for SetMixture {
    /// As [`SetMixture::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_components(f, self.components.iter().map(|component| (&*component.set, component.weight)))
    }
}

/// Where the component that begins at `start` ends.
fn component_end(text: &str, start: usize, is_file: &dyn Fn(&str) -> bool) -> usize {
    let written = |end: usize| text[start..end].trim();
    let ends: Vec<usize> = component_ends(text, start).collect();
    let first = ends.first().copied().unwrap_or(text.len());
    let names_file = |end: &usize| is_file(written(*end)) || is_file(split_weight(written(*end)).0);
    if let Some(longest) = ends.iter().rev().copied().find(names_file) {
        return longest;
    }
    // What is no file: a name, or a path with a mistake in it, which the message should have whole.
    let is_name = |set: &str| set.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    if is_name(split_weight(written(first)).0) {
        return first;
    }
    let ends_as_file = |end: &usize| has_data_extension(split_weight(written(*end)).0);
    ends.into_iter().find(ends_as_file).unwrap_or(first)
}

fn understand_weight(text: &str, set: &str, weight: &str) -> Result<u32> {
    weight.parse().ok().filter(|weight| (1..=GREATEST_WEIGHT).contains(weight)).ok_or_else(|| {
        Error::mistake(format!(
            "`{text}`: found the weight `{weight}` of `{set}`; accepted is a whole number from 1 to {GREATEST_WEIGHT}, or \
             a file of that name"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str, files: &[&str]) -> Result<Vec<(String, u32)>> {
        let mixture = SetMixture::parse(text, &|path| files.contains(&path))?;
        assert_eq!(SetMixture::parse(&mixture.to_string(), &|path| files.contains(&path))?, mixture);
        Ok(mixture.components.into_iter().map(|component| (component.set, component.weight)).collect())
    }

    fn mistake(text: &str, files: &[&str]) -> String {
        parse(text, files).expect_err(text).to_string()
    }

    #[test]
    fn a_set_is_taken_apart_at_its_plus_signs() {
        for (text, components) in [
            ("c4", &[("c4", 1)][..]),
            ("c4+alpaca", &[("c4", 1), ("alpaca", 1)]),
            (" c4 * 3 + alpaca ", &[("c4", 3), ("alpaca", 1)]),
            ("c4*1+alpaca*1000", &[("c4", 1), ("alpaca", 1000)]),
            ("x/a.txt+b.jsonl.gz*2+c4", &[("x/a.txt", 1), ("b.jsonl.gz", 2), ("c4", 1)]),
            // What is not there is told by name.
            ("c4+nothing+b.txt", &[("c4", 1), ("nothing", 1), ("b.txt", 1)]),
            ("/c++/missing.txt", &[("/c++/missing.txt", 1)]),
            ("/c++/missing.txt*2+c4", &[("/c++/missing.txt", 2), ("c4", 1)]),
        ] {
            let expected: Vec<_> =
                components.iter().map(|(set, weight)| ((*set).to_owned(), *weight)).collect();
            assert_eq!(parse(text, &[]).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn a_file_whose_name_has_the_signs_is_one_component() {
        for (text, files, components) in [
            ("a.txt+b.txt", &["a.txt+b.txt"][..], &[("a.txt+b.txt", 1)][..]),
            ("c4+alpaca.txt", &["c4+alpaca.txt"], &[("c4+alpaca.txt", 1)]),
            ("a*2.txt", &["a*2.txt"], &[("a*2.txt", 1)]),
            ("a*2", &["a*2"], &[("a*2", 1)]),
            ("a+b.txt*2+c4", &["a+b.txt", "b.txt"], &[("a+b.txt", 2), ("c4", 1)]),
            ("c4+/c++/d.txt+e.txt", &["/c++/d.txt", "e.txt"], &[("c4", 1), ("/c++/d.txt", 1), ("e.txt", 1)]),
        ] {
            let expected: Vec<_> =
                components.iter().map(|(set, weight)| ((*set).to_owned(), *weight)).collect();
            assert_eq!(parse(text, files).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn mistakes_say_what_is_accepted() {
        for text in ["c4+", "+c4", "c4++alpaca", "", "*3+c4", "c4+ "] {
            let message = mistake(text, &[]);
            assert!(message.contains("found nothing") && message.contains("c4*3+alpaca"), "{message}");
        }
        for (text, weight) in
            [("c4*0+alpaca", "0"), ("c4*1.5+b.txt", "1.5"), ("c4*1001+b.txt", "1001"), ("c4*+b.txt", "")]
        {
            let message = mistake(text, &[]);
            assert!(message.contains(&format!("the weight `{weight}` of `c4`")), "{message}");
            assert!(message.contains("a whole number from 1 to 1000"), "{message}");
        }
        assert!(mistake("c4*3", &[]).contains("a set without a weight"));
        for text in ["c4+c4", "a.txt+x/a.jsonl*2"] {
            assert!(mistake(text, &["a.txt"]).contains("the same short name"), "{text}");
        }
    }

    #[test]
    fn windows_are_shared_by_weight() {
        let shares = |text: &str, windows| SetMixture::parse(text, &|_| false).unwrap().shares(windows);
        assert_eq!(shares("c4", 7).unwrap(), [7]);
        assert_eq!(shares("c4+alpaca", 32).unwrap(), [16, 16]);
        assert_eq!(shares("c4+alpaca", 33).unwrap(), [17, 16]);
        assert_eq!(shares("c4*3+alpaca", 128).unwrap(), [96, 32]);
        // 7.5, 2.5: equal remainders. 3.33, 1.67, 5: the greatest remainder.
        assert_eq!(shares("c4*3+alpaca", 10).unwrap(), [8, 2]);
        assert_eq!(shares("a.txt*2+b.txt+c.txt*3", 10).unwrap(), [3, 2, 5]);
        let message = shares("c4*100+alpaca", 32).unwrap_err().to_string();
        assert!(message.contains("none would come from `alpaca`"), "{message}");
        assert!(shares("c4+alpaca", 1).is_err());
    }

    proptest! {
        #[test]
        fn shares_are_what_was_asked_for_and_within_one_of_the_exact(
            weights in prop::collection::vec(1_u32..=1000, 1..6),
            windows in 1_usize..5000,
        ) {
            let component = |(n, &weight): (usize, &u32)| SetComponent { set: n.to_string(), weight };
            let mixture = SetMixture { components: weights.iter().enumerate().map(component).collect() };
            let total: u32 = weights.iter().sum();
            let exact = |weight: u32| windows as f64 * f64::from(weight) / f64::from(total);
            match mixture.shares(windows) {
                Ok(shares) => {
                    prop_assert_eq!(shares.iter().sum::<usize>(), windows);
                    for (share, weight) in shares.iter().zip(&weights) {
                        prop_assert!(*share > 0 && (*share as f64 - exact(*weight)).abs() < 1.0);
                    }
                }
                Err(_) => prop_assert!(weights.iter().any(|weight| exact(*weight) < 1.0)),
            }
        }
    }
}
