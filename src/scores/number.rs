//! The number that an answer ends with: how it is found in the text, and when two are equal.
//!
//! Where it is found is what lm-evaluation-harness (0.4.13, task `gsm8k` 3.0) has: *strict* is the number behind `####`,
//! *flexible* the last one of the text. When two are equal is asked twice: as the harness does, which compares texts, so
//! that `7.50` is not `7.5`; and as numbers, so that it is.

use super::notation::Notation;
use super::overlap::best;
use super::score::{Better, Measure, Scale, Score};

/// Share of answers whose last number is that of a reference.
pub static NUMBER_MATCH: Score = Score {
    id: "number",
    csv: "number",
    title: "Number",
    name: "number",
    short: "num",
    unit: "",
    about: "Share of answers whose last number equals the reference's, compared as numbers (GSM8K, flexible): where \
            every reference is a number.",
    better: Better::Higher,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Fraction,
    of_itself: None,
    paired: None,
    flips_rank: Some(1),
    headline: true,
    seldom: false,
    interval_in_tables: false,
    details: &[],
    measure: Measure::Answers { score: number_match, applies: are_numbers, right_or_wrong: true },
};

/// The same of the number after `#### `.
pub static STRICT_NUMBER_MATCH: Score = Score {
    id: "number_strict",
    csv: "number_strict",
    title: "Number after ####",
    name: "number, strict",
    short: "strict",
    unit: "",
    about: "Share of answers whose number after `#### ` equals the reference's (GSM8K, strict): where every reference \
            is a number.",
    better: Better::Higher,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Fraction,
    of_itself: None,
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: true,
    interval_in_tables: false,
    details: &[],
    measure: Measure::Answers { score: strict_number_match, applies: are_numbers, right_or_wrong: true },
};

/// Whether all of them are numbers.
pub(crate) fn are_numbers(references: &[String]) -> bool {
    !references.is_empty() && references.iter().all(|reference| is_number(reference))
}

/// What stands before the number in the answers of GSM8K.
const MARK: &str = "#### ";

/// The number behind the first `#### ` that has one: `-` or nothing, then ASCII digits, commas and full stops.
pub fn strict(text: &str) -> Option<&str> {
    text.match_indices(MARK).find_map(|(at, mark)| marked(&text[at + mark.len()..]))
}

/// The last number of a text in the widest sense: `-` or nothing, then a run of ASCII digits, `$`, `,` and `.` that is
/// two characters long or is a digit. A run need not hold a digit: of `42 apples...` it is `...`.
pub fn flexible(text: &str) -> Option<&str> {
    runs_from_the_end(text).next()
}

/// Whether the harness takes an extract for the reference. Of both it deletes every `,`, every `$`, everything up to the
/// last `#### ` and the full stop at the end, and compares what is left as text, without case.
pub fn harness_equal(extract: &str, reference: &str) -> bool {
    harness_form(extract) == harness_form(reference)
}

/// 1 where the last number of the answer equals that of one of the references, else 0.
///
/// Numbers are equal as numbers: `1,000`, `1000` and `1000.0` are. What [`flexible`] finds without a digit in it is
/// passed over. A reference's number is the one behind its last `#### ` if there is one, else its last.
pub fn number_match(answer: &str, references: &[String]) -> f64 {
    matches(last_number(answer), references)
}

/// The same for the number behind the first `#### ` of the answer: without one the answer is wrong.
pub fn strict_number_match(answer: &str, references: &[String]) -> f64 {
    matches(strict(answer).and_then(Decimal::read), references)
}

/// Whether a reference is a number and nothing else (`-1,250.5`, `$40`, `75%`), or ends a calculation with one behind
/// `#### `. Scores that ignore punctuation cannot judge it: to them `3.14` equals `314`.
pub(crate) fn is_number(reference: &str) -> bool {
    let text = reference.trim();
    if last_marked(text).is_some() {
        return true;
    }
    let bare = text.strip_suffix('%').unwrap_or(text).trim_end();
    // All of it, but for a sign and a dollar before the sign, has to be one run.
    let run = bare.strip_prefix(['+', '-']).unwrap_or(bare);
    !run.is_empty() && run.bytes().all(is_numeric) && Decimal::read(run).is_some()
}

/// Whether a reference holds a word in Latin letters without accents. Scores that count words cannot judge one that
/// does not where its script has no blanks between words: to them the whole reference is one word, or none.
pub(crate) fn has_ascii_word(reference: &str) -> bool {
    reference.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// The number right at the beginning of what stands behind a mark.
fn marked(text: &str) -> Option<&str> {
    let sign = usize::from(text.starts_with('-'));
    let digits = text[sign..].bytes().take_while(|byte| is_numeric(*byte) && *byte != b'$').count();
    (digits > 0).then(|| &text[..sign + digits])
}

/// The same behind the last mark that has one.
fn last_marked(text: &str) -> Option<&str> {
    text.rmatch_indices(MARK).find_map(|(at, mark)| marked(&text[at + mark.len()..]))
}

/// What [`flexible`] takes for numbers, the last one first.
///
/// A search from the left takes every run whole, since nothing ends one but a character that none can hold. So the runs
/// can as well be walked through from the right. All that is looked at is ASCII, so that no character is cut.
fn runs_from_the_end(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let mut end = bytes.len();
    std::iter::from_fn(move || {
        loop {
            end = bytes[..end].iter().rposition(|byte| is_numeric(*byte))? + 1;
            let start = bytes[..end].iter().rposition(|byte| !is_numeric(*byte)).map_or(0, |at| at + 1);
            let run = start..end;
            end = start;
            if run.len() >= 2 || bytes[start].is_ascii_digit() {
                let sign = usize::from(start > 0 && bytes[start - 1] == b'-');
                return Some(&text[start - sign..run.end]);
            }
        }
    })
}

fn is_numeric(byte: u8) -> bool {
    byte.is_ascii_digit() || matches!(byte, b'$' | b',' | b'.')
}

fn harness_form(text: &str) -> String {
    let kept: String = text.chars().filter(|c| !matches!(c, ',' | '$')).collect();
    let behind = kept.rsplit_once(MARK).map_or(kept.as_str(), |(_, behind)| behind);
    // To the pattern that deletes the full stop, the end is also what stands before a last line break.
    let (line, line_break) = behind.strip_suffix('\n').map_or((behind, ""), |line| (line, "\n"));
    let bare = line.strip_suffix('.').unwrap_or(line);
    (bare.to_owned() + line_break).to_lowercase()
}

fn matches(answer: Option<Decimal>, references: &[String]) -> f64 {
    let Some(answer) = answer else { return 0.0 };
    best(references, |reference| {
        let expected = last_marked(reference).and_then(Decimal::read).or_else(|| last_number(reference));
        f64::from(expected.as_ref() == Some(&answer))
    })
}

/// The last number of a text that has a digit; `None` also where that one cannot be read.
fn last_number(text: &str) -> Option<Decimal> {
    runs_from_the_end(text).find(|run| run.bytes().any(|byte| byte.is_ascii_digit())).and_then(Decimal::read)
}

/// A decimal number of any length. Floating-point numbers would make equal what differs in the 17th digit.
#[derive(Debug, PartialEq, Eq)]
struct Decimal {
    negative: bool,
    /// Digits before the point, without zeros in front.
    whole: String,
    /// Digits behind it, without zeros at the end.
    fraction: String,
}

impl Decimal {
    /// Reads a number as people write it: dollars are left out, and so are commas and full stops at either end, but for
    /// the point of `.5`.
    ///
    /// `None` for what is not one number: `1.2.3`, and `3,14` or `1,2,3`, where a comma separates no thousands (or
    /// lakhs, as in `1,00,000`). To take the commas out would make 314 and 123 of them.
    fn read(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let text: String = text.chars().filter(|c| *c != '$').collect();
        let text = text.trim_end_matches(['.', ',']).trim_start_matches(',');
        // Of several points in front, as of `...5`, none belongs to the number.
        let text = if text.starts_with("..") { text.trim_start_matches('.') } else { text };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = without_separators(whole)?;
        let digits_only = fraction.bytes().all(|byte| byte.is_ascii_digit());
        if !digits_only || (whole.is_empty() && fraction.is_empty()) {
            return None;
        }
        let whole = whole.trim_start_matches('0').to_owned();
        let fraction = fraction.trim_end_matches('0').to_owned();
        // Zero has no sign.
        let negative = negative && !(whole.is_empty() && fraction.is_empty());
        Some(Self { negative, whole, fraction })
    }
}

/// The digits of a whole number without its commas; `None` where these do not separate groups: up to three digits in
/// front, three at the end, two or three between.
fn without_separators(whole: &str) -> Option<String> {
    let groups: Vec<&str> = whole.split(',').collect();
    if let [first, between @ .., last] = groups.as_slice() {
        let well_formed = (1..=3).contains(&first.len())
            && between.iter().all(|group| (2..=3).contains(&group.len()))
            && last.len() == 3;
        if !well_formed {
            return None;
        }
    }
    let digits = groups.concat();
    digits.bytes().all(|byte| byte.is_ascii_digit()).then_some(digits)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "matches are 0 or 1")]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What stands for an answer without a number in the golden file.
    const INVALID: &str = "[invalid]";

    fn items() -> Option<Vec<Value>> {
        let path = crate::skip::shared("golden/eval/gsm8k_extract.json")?;
        let golden: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        Some(golden["items"].as_array().unwrap().clone())
    }

    fn equal(answer: &str, reference: &str) -> bool {
        number_match(answer, &[reference.to_owned()]) == 1.0
    }

    #[test]
    fn extracts_and_matches_are_the_harnesss() {
        let Some(items) = items() else { return };
        assert_eq!(items.len(), 40);
        for item in &items {
            let field = |name: &str| item[name].as_str().unwrap();
            let (text, reference) = (field("text"), field("reference"));
            let (strict, flexible) = (strict(text).unwrap_or(INVALID), flexible(text).unwrap_or(INVALID));
            assert_eq!(strict, field("strict_match"), "{text:?}");
            assert_eq!(flexible, field("flexible_extract"), "{text:?}");
            let matched = |extract: &str| u64::from(harness_equal(extract, reference));
            assert_eq!(matched(strict), item["strict_match_em"].as_u64().unwrap(), "{text:?}");
            assert_eq!(matched(flexible), item["flexible_extract_em"].as_u64().unwrap(), "{text:?}");
        }
    }

    #[test]
    fn numbers_match_where_the_harness_matches_and_where_they_are_only_written_otherwise() {
        let Some(items) = items() else { return };
        let (mut flexible, mut strict) = (Vec::new(), Vec::new());
        for item in &items {
            let text = item["text"].as_str().unwrap();
            let references = [item["reference"].as_str().unwrap().to_owned()];
            for (name, found, more) in [
                ("flexible_extract_em", number_match(text, &references), &mut flexible),
                ("strict_match_em", strict_number_match(text, &references), &mut strict),
            ] {
                let harness = item[name].as_f64().unwrap();
                assert!(found >= harness, "{text:?}");
                if found > harness {
                    more.push(text);
                }
            }
        }
        let two = ["She pays 2.50 for each.\n#### 7.50", "#### .5"];
        assert_eq!(strict, two);
        assert_eq!(flexible, [two[0], "There are 42 apples...", two[1]]);
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        for (answer, reference) in [
            ("1,000", "1000"),
            ("1000.0", "1,000"),
            ("$1,000.00", "1000"),
            ("1,00,000", "100000"),
            ("007", "7"),
            ("-0", "0"),
            ("about .50", "0.5"),
            ("it is 12...", "12"),
            ("a, b, ...5", "5"),
            ("99999999999999999999", "99,999,999,999,999,999,999.0"),
            ("12", "twice 3 is 6, twice 6 is 12"),
            ("12", "a\n#### 12\n"),
            ("12", "#### 10 was wrong\n#### 12 of 13"),
            ("12", "#### $12"),
        ] {
            assert!(equal(answer, reference), "{answer:?} {reference:?}");
        }
        for (answer, reference) in [
            ("3.14", "314"),
            ("3,14", "314"),
            ("1,2,3", "123"),
            ("1.2.3", "1.23"),
            ("-5", "5"),
            ("10000000000000000.1", "10000000000000000.2"),
            ("none", "0"),
            ("...", "0"),
            ("$,.", "0"),
            ("5", "five"),
            ("", ""),
        ] {
            assert!(!equal(answer, reference), "{answer:?} {reference:?}");
        }
        let references = ["7".to_owned(), "8".to_owned()];
        assert_eq!(number_match("I say 8.", &references), 1.0);
        assert_eq!(strict_number_match("I say 8.", &references), 0.0);
        assert_eq!(strict_number_match("#### 8 or 9", &references), 1.0);
        assert_eq!(number_match("8", &[]), 0.0);
    }

    #[test]
    fn the_harness_compares_texts() {
        for (extract, reference, expected) in [
            ("1,000", "1000", true),
            ("1000.0", "1000", false),
            ("5.", "a\n#### 5", true),
            ("5..", "5", false),
            ("5.\n", "5\n", true),
            ("X", "#### x", true),
            ("12", "a #### 11 #### 12", true),
        ] {
            assert_eq!(harness_equal(extract, reference), expected, "{extract:?} {reference:?}");
        }
    }

    #[test]
    fn references_that_are_numbers_are_told_from_words() {
        for number in ["3.14", " -1,250.5 ", "$40", "75%", "75 %", "+8", ".5", "6*7=42\n#### 42"] {
            assert!(is_number(number), "{number:?}");
        }
        for other in ["", "...", "$", "-", "%", "3 apples", "1.2.3", "2024-11-26", "iPhone 4", "四十二"] {
            assert!(!is_number(other), "{other:?}");
        }
        assert!(has_ascii_word("東京 Tower") && has_ascii_word("a"));
        assert!(!has_ascii_word("2008年北京") && !has_ascii_word("Москва") && !has_ascii_word(""));
    }

    /// The pattern of [`flexible`], tried at every place from the left as a matcher does; the last match.
    fn by_the_pattern(text: &str) -> Option<String> {
        let chars: Vec<char> = text.chars().collect();
        let wide = |c: &char| c.is_ascii_digit() || "$.,".contains(*c);
        let (mut at, mut last) = (0, None);
        while at < chars.len() {
            let sign = usize::from(chars[at] == '-');
            let rest = &chars[at + sign..];
            let run = rest.iter().take_while(|c| wide(c)).count();
            let digits = rest.iter().take_while(|c| c.is_ascii_digit()).count();
            let length = if run >= 2 { run } else { digits };
            if length == 0 {
                at += 1;
            } else {
                last = Some(chars[at..at + sign + length].iter().collect());
                at += sign + length;
            }
        }
        last
    }

    proptest! {
        #[test]
        fn walking_from_the_right_finds_what_the_pattern_finds_last(text in "[-0-9$., aé#]{0,24}") {
            prop_assert_eq!(flexible(&text).map(str::to_owned), by_the_pattern(&text));
        }

        #[test]
        fn no_text_is_too_odd(answer in any::<String>(), reference in any::<String>()) {
            let references = [reference.clone()];
            prop_assert!(strict_number_match(&answer, &references) <= 1.0);
            prop_assert!(number_match(&answer, &references) <= 1.0);
            prop_assert!(harness_equal(&answer, &answer));
            let _ = (is_number(&reference), has_ascii_word(&reference));
        }

        #[test]
        fn a_number_equals_itself_however_it_is_written(cents in -10_000_000_i64..10_000_000) {
            let (sign, whole, part) =
                (if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100);
            let plain = format!("{sign}{whole}.{part:02}");
            let grouped = if whole >= 1000 {
                format!("{sign}${},{:03}.{part:02}00.", whole / 1000, whole % 1000)
            } else {
                format!("{sign}0{whole}.{part:02}")
            };
            prop_assert!(equal(&plain, &grouped), "{} {}", plain, grouped);
            prop_assert!(is_number(&plain));
            let other = format!("{plain}1");
            prop_assert!(!equal(&plain, &other), "{} {}", plain, other);
        }
    }
}
