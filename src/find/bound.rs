//! A bound on what compressing may cost: `js<=0.05`, `f1>=95%`, `flips<=2%`, `size<=4.5GiB`, `perplexity<=12`.

use std::fmt;
use std::str::FromStr;

use super::bounded::{BoundedFigure, BoundedScore, BoundedValues, bounded_scores};
use super::open_recipe::OpenRecipe;
use crate::error::{Error, Result};
use crate::scores::Better;

/// What a bound looks like, in messages.
const ACCEPTED: &str =
    "accepted is SCORE<=VALUE or SCORE>=VALUE (js<=0.05, f1>=95%, flips<=2%, size<=4.5GiB, perplexity<=12)";
/// What the units of a size are in bytes: powers of 1000, and of 1024 with an `i`.
const UNITS: [(&str, f64); 9] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("TiB", 1_099_511_627_776.0),
];
/// A value that misses its limit by less than this share of it is at the limit: 95% of 0.8 is not exactly 0.76.
const ROUNDING: f64 = 1e-12;

/// A bound on a score.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ScoreBound {
    /// Name of the score: the first of [`BoundedScore::names`].
    pub score: String,
    /// What is looked at.
    pub figure: BoundedFigure,
    /// On which side of the limit values have to be.
    pub side: BoundSide,
    /// Where the limit is.
    pub limit: BoundLimit,
    /// Whether compressing further meets the bound rather than breaks it, as with a size. What is looked for is then the
    /// least compression that meets it.
    pub met_by_compressing: bool,
    /// The value as it was written.
    written: String,
}

/// The side of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundSide {
    /// `<=`
    AtMost,
    /// `>=`
    AtLeast,
}

/// Where a limit is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum BoundLimit {
    /// At a value of the score, in its own unit; bytes for a size.
    Value(f64),
    /// At so much of the base's value: 0.95 for `95%`.
    ShareOfBase(f64),
}

impl ScoreBound {
    /// Understands a bound on one of these scores. `≤` and `≥` are accepted, too, and blanks around every part.
    fn parse(text: &str, scores: &[BoundedScore]) -> Result<Self> {
        let wrong = |what: String| Error::mistake(format!("bound `{text}`: {what}"));
        let is_sign = |c: char| "<>=≤≥".contains(c);
        let found = text.trim();
        let Some(start) = found.find(is_sign) else {
            return Err(wrong(format!("found no `<=` or `>=`; {ACCEPTED}")));
        };
        let (name, rest) = found.split_at(start);
        let (sign, value) = rest.split_at(rest.find(|c| !is_sign(c)).unwrap_or(rest.len()));
        let (name, value) = (name.trim(), value.trim());
        let side = match sign {
            "<=" | "≤" => BoundSide::AtMost,
            ">=" | "≥" => BoundSide::AtLeast,
            other => return Err(wrong(format!("found `{other}`; accepted are `<=` and `>=`"))),
        };
        let bounded = scores
            .iter()
            .find(|score| score.names.iter().any(|known| known.eq_ignore_ascii_case(name)))
            .ok_or_else(|| wrong(unknown(name, scores)))?;
        let score = bounded.name().to_owned();
        let needed = match bounded.better {
            Better::Lower => BoundSide::AtMost,
            Better::Higher => BoundSide::AtLeast,
        };
        if side != needed {
            let less = if needed == BoundSide::AtMost { "less" } else { "more" };
            return Err(wrong(format!(
                "found `{sign}`; {less} of {score} is better, accepted is `{needed}`"
            )));
        }
        let limit = bounded.limit(value).map_err(wrong)?;
        let figure = bounded.figure;
        let met_by_compressing = bounded.values == BoundedValues::Bytes;
        Ok(Self { score, figure, side, limit, met_by_compressing, written: value.into() })
    }

    /// Refuses a bound that no level of a recipe can have anything to do with.
    ///
    /// # Errors
    /// [`Error::Mistake`] for a size where levels differ in zeros alone.
    pub(crate) fn check_recipe(&self, recipe: &OpenRecipe) -> Result<()> {
        if self.figure == BoundedFigure::Size && recipe.only_adds_zeros() {
            return Err(Error::mistake(format!(
                "bound `{self}`: the levels of {recipe} differ in zeros, and an export stores a zero like any other weight; \
                 accepted are scores (js<=0.05), or a recipe that quantises"
            )));
        }
        Ok(())
    }

    /// The limit in the score's unit, given the base's value; `None` where it is a share of the base's and that is
    /// unknown, not finite or zero, of which every share is the same.
    pub(crate) fn limit(&self, base: Option<f64>) -> Option<f64> {
        match self.limit {
            BoundLimit::Value(value) => Some(value),
            BoundLimit::ShareOfBase(share) => {
                base.filter(|base| base.is_finite() && *base > 0.0).map(|base| share * base)
            }
        }
    }

    /// Whether a value keeps the bound, given the base's; at the limit it does. What is no number does not. `None` where
    /// [`Self::limit`] is unknown.
    pub(crate) fn holds(&self, value: f64, base: Option<f64>) -> Option<bool> {
        let limit = self.limit(base)?;
        let slack = ROUNDING * limit.abs();
        Some(match self.side {
            BoundSide::AtMost => value <= limit + slack,
            BoundSide::AtLeast => value >= limit - slack,
        })
    }
}

/// `js<=0.05`, and `f1>=95% of the base` where the base matters.
impl fmt::Display for ScoreBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = if matches!(self.limit, BoundLimit::ShareOfBase(_)) { " of the base" } else { "" };
        write!(f, "{}{}{}{of}", self.score, self.side, self.written)
    }
}

impl fmt::Display for BoundSide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
        })
    }
}

impl FromStr for ScoreBound {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text, &bounded_scores())
    }
}

impl BoundedScore {
    /// Understands the value of a bound; a mistake says what was found and what is accepted.
    fn limit(&self, text: &str) -> Result<BoundLimit, String> {
        let name = self.name();
        let wrong = || {
            let found = if text.is_empty() { "nothing".to_owned() } else { format!("`{text}`") };
            format!("found {found}; accepted for {name} is {}", self.values.accepted())
        };
        let percentage = text.strip_suffix('%').map(str::trim_end);
        let value = match (percentage, self.values) {
            (Some(number), BoundedValues::OfEveryModel | BoundedValues::Bytes) => {
                let share = non_negative(number).filter(|number| *number > 0.0).ok_or_else(wrong)?;
                return Ok(BoundLimit::ShareOfBase(share / 100.0));
            }
            (Some(number), BoundedValues::ShareAgainstBase) => {
                non_negative(number).map(|number| number / 100.0)
            }
            (Some(_), BoundedValues::NumberAgainstBase) => None,
            (None, BoundedValues::Bytes) => bytes(text),
            (None, _) => non_negative(text),
        };
        let value = value.ok_or_else(wrong)?;
        let [least, greatest] = self.range;
        if !(least..=greatest).contains(&value) {
            return Err(format!("found `{text}`; {name} lies between {least} and {greatest}"));
        }
        Ok(BoundLimit::Value(value))
    }
}

impl BoundedValues {
    /// What is accepted, for messages.
    fn accepted(self) -> String {
        match self {
            Self::OfEveryModel => "a number (0.5), or a percentage of the base's value (95%)".into(),
            Self::ShareAgainstBase => "a percentage (2%), or a share (0.02)".into(),
            Self::NumberAgainstBase => "a number (0.05)".into(),
            Self::Bytes => {
                let units = UNITS.map(|(unit, _)| unit).join(", ");
                format!(
                    "a number with a unit (4.5GiB; units: {units}), or a percentage of the base's size (40%)"
                )
            }
        }
    }
}

fn unknown(name: &str, scores: &[BoundedScore]) -> String {
    let found = if name.is_empty() { "no score".to_owned() } else { format!("the unknown score `{name}`") };
    let names: Vec<&str> = scores.iter().map(BoundedScore::name).collect();
    format!("found {found}; accepted are {}", names.join(", "))
}

/// A number without a sign: `12`, `0.05`, `.5`, `1e-3`.
fn non_negative(text: &str) -> Option<f64> {
    // What Rust reads besides begins with a sign or a letter: `+1`, `inf`, `nan`.
    let plain = text.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

/// A size in bytes: `4.5GiB`, `300 MB`.
fn bytes(text: &str) -> Option<f64> {
    let unit_at = text.rfind(|c: char| !c.is_ascii_alphabetic()).map(|last| last + 1)?;
    // A unit begins behind an ASCII digit, point or blank; of any other character this would be its middle.
    let (number, unit) = text.split_at_checked(unit_at)?;
    let (_, factor) = UNITS.iter().find(|(known, _)| *known == unit)?;
    non_negative(number.trim_end()).map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "limits are read from the text that they are compared with")]

    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<ScoreBound> {
        text.parse()
    }

    fn mistake(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn bounds_say_score_side_and_limit() {
        use BoundLimit::{ShareOfBase, Value};
        for (text, score, side, limit) in [
            ("js<=0.05", "js", BoundSide::AtMost, Value(0.05)),
            ("JS_divergence ≤ .05", "js", BoundSide::AtMost, Value(0.05)),
            ("f1>=95%", "f1", BoundSide::AtLeast, ShareOfBase(0.95)),
            (" f1 ≥ 0.6 ", "f1", BoundSide::AtLeast, Value(0.6)),
            ("flips<=2%", "flips", BoundSide::AtMost, Value(0.02)),
            ("flips<=0.02", "flips", BoundSide::AtMost, Value(0.02)),
            ("size<=4.5GiB", "size", BoundSide::AtMost, Value(4.5 * 1_073_741_824.0)),
            ("size <= 300 MB", "size", BoundSide::AtMost, Value(3e8)),
            ("size<=40%", "size", BoundSide::AtMost, ShareOfBase(0.4)),
            ("perplexity<=12", "perplexity", BoundSide::AtMost, Value(12.0)),
            ("ppl<=110 %", "perplexity", BoundSide::AtMost, ShareOfBase(1.1)),
            ("js<=1e-3", "js", BoundSide::AtMost, Value(0.001)),
        ] {
            let found = parse(text).unwrap();
            assert_eq!((found.score.as_str(), found.side, found.limit), (score, side, limit), "{text}");
            assert_eq!(found.met_by_compressing, score == "size");
        }
    }

    #[test]
    fn mistakes_say_what_was_found_and_what_is_accepted() {
        for (text, expected) in [
            ("js<0.05", "found `<`; accepted are `<=` and `>=`"),
            ("js==0.05", "found `==`; accepted are `<=` and `>=`"),
            ("js=<0.05", "found `=<`; accepted are `<=` and `>=`"),
            (
                "js 0.05",
                "found no `<=` or `>=`; accepted is SCORE<=VALUE or SCORE>=VALUE (js<=0.05, f1>=95%, flips<=2%, \
                 size<=4.5GiB, perplexity<=12)",
            ),
            ("f1<=95%", "found `<=`; more of f1 is better, accepted is `>=`"),
            ("js>=0.05", "found `>=`; less of js is better, accepted is `<=`"),
            ("js<=5%", "found `5%`; accepted for js is a number (0.05)"),
            ("js<=", "found nothing; accepted for js is a number (0.05)"),
            ("js<=0,05", "found `0,05`; accepted for js is a number (0.05)"),
            ("js<=nan", "found `nan`; accepted for js is a number (0.05)"),
            ("js<=-0.1", "found `-0.1`; accepted for js is a number (0.05)"),
            ("js<=2", "found `2`; js lies between 0 and 1"),
            ("perplexity<=0.5", "found `0.5`; perplexity lies between 1 and inf"),
            ("flips<=200%", "found `200%`; flips lies between 0 and 1"),
            (
                "f1>=0%",
                "found `0%`; accepted for f1 is a number (0.5), or a percentage of the base's value (95%)",
            ),
            ("flips<=two", "found `two`; accepted for flips is a percentage (2%), or a share (0.02)"),
            (
                "size<=4.5",
                "found `4.5`; accepted for size is a number with a unit (4.5GiB; units: B, kB, MB, GB, TB, KiB, MiB, \
                 GiB, TiB), or a percentage of the base's size (40%)",
            ),
        ] {
            assert_eq!(mistake(text), format!("bound `{text}`: {expected}"));
        }
        for (text, expected) in [("speed<=3", "found the unknown score `speed`"), ("<=3", "found no score")] {
            let start = format!("bound `{text}`: {expected}; accepted are perplexity, js, kl, ");
            let message = mistake(text);
            assert!(message.starts_with(&start) && message.ends_with(", flips, size"), "{message}");
        }
        for text in ["size<=GiB", "size<=4.5 Gib", "size<=4.5é", "size<=é", "size<=4é5GB", ""] {
            assert!(mistake(text).starts_with(&format!("bound `{text}`: found ")), "{}", mistake(text));
        }
    }

    #[test]
    fn a_value_at_the_limit_holds() {
        let f1 = parse("f1>=95%").unwrap();
        assert_eq!(f1.holds(0.76, Some(0.8)), Some(true));
        assert_eq!(f1.holds(0.7599, Some(0.8)), Some(false));
        assert_eq!(f1.holds(0.9, None), None);
        assert_eq!(f1.holds(0.9, Some(0.0)), None);
        assert_eq!(f1.holds(0.9, Some(f64::NAN)), None);
        assert_eq!(f1.holds(f64::NAN, Some(0.8)), Some(false));
        let flips = parse("flips<=2%").unwrap();
        assert_eq!([4.0, 5.0].map(|flipped| flips.holds(flipped / 200.0, None)), [Some(true), Some(false)]);
        let perplexity = parse("perplexity<=12").unwrap();
        assert_eq!(perplexity.holds(f64::INFINITY, None), Some(false));
        let none = parse("js<=0").unwrap();
        assert_eq!([0.0, 1e-9].map(|bits| none.holds(bits, None)), [Some(true), Some(false)]);
    }

    #[test]
    fn a_bound_is_shown_as_it_was_written() {
        let shown = |text: &str| parse(text).unwrap().to_string();
        assert_eq!(shown(" JS ≤ 0.050"), "js<=0.050");
        assert_eq!(shown("f1>=95%"), "f1>=95% of the base");
        assert_eq!(shown("flips<=2%"), "flips<=2%");
        assert_eq!(shown("size<=4.5 GiB"), "size<=4.5 GiB");
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-zé1]{0,6}[<>=≤ ]{0,3}[0-9.eé%iGB -]{0,8}") {
            if let Ok(bound) = parse(&text) {
                prop_assert!(bound.limit(Some(1.0)).unwrap() >= 0.0);
            }
        }

        #[test]
        fn a_better_value_never_breaks_what_a_worse_one_keeps(a in 0.0..1.0_f64, b in 0.0..1.0_f64, percent in 1..200_u32) {
            let bound = parse(&format!("f1>={percent}%")).unwrap();
            prop_assert!(!bound.holds(a.min(b), Some(0.7)).unwrap() || bound.holds(a.max(b), Some(0.7)).unwrap());
            let bound = parse(&format!("js<={a}")).unwrap();
            prop_assert_eq!(bound.holds(a, None), Some(true));
            prop_assert!(b <= a || b - a < 1e-9 || bound.holds(b, None) == Some(false));
        }
    }
}
