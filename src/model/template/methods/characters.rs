//! What Python says of characters.

use unicode_general_category::{GeneralCategory as Category, get_general_category};

fn category(c: char) -> Category {
    get_general_category(c)
}

pub(super) fn is_letter(c: char) -> bool {
    use Category::{LowercaseLetter, ModifierLetter, OtherLetter, TitlecaseLetter, UppercaseLetter};
    matches!(category(c), LowercaseLetter | ModifierLetter | OtherLetter | TitlecaseLetter | UppercaseLetter)
}

/// A digit of a decimal number, in any script.
pub(super) fn is_decimal(c: char) -> bool {
    category(c) == Category::DecimalNumber
}

/// Also digits that are no part of a number, such as those set higher, lower or in circles.
pub(super) fn is_digit(c: char) -> bool {
    is_decimal(c)
        || matches!(u32::from(c),
            0xb2 | 0xb3 | 0xb9 | 0x1369..=0x1371 | 0x19da | 0x2070 | 0x2074..=0x2079 | 0x2080..=0x2089
            | 0x2460..=0x2468 | 0x2474..=0x247c | 0x2488..=0x2490 | 0x24ea | 0x24f5..=0x24fd | 0x24ff
            | 0x2776..=0x277e | 0x2780..=0x2788 | 0x278a..=0x2792 | 0x10a40..=0x10a43 | 0x10e60..=0x10e68
            | 0x11052..=0x1105a | 0x1f100..=0x1f10a)
}

/// Also fractions and numerals of other kinds.
pub(super) fn is_numeric(c: char) -> bool {
    use Category::{LetterNumber, OtherNumber};
    is_digit(c)
        || matches!(category(c), LetterNumber | OtherNumber)
        || "一二三四五六七八九十百千万億兆〇零".contains(c)
}

/// A letter, digit or underscore.
pub(in super::super) fn is_word(c: char) -> bool {
    c == '_' || is_letter(c) || is_numeric(c)
}

/// White space, among which Python has four separators that Unicode has not.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

/// What `repr` writes as it is.
pub(in super::super) fn is_printable(c: char) -> bool {
    use Category::{
        Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, SpaceSeparator, Surrogate, Unassigned,
    };
    c == ' '
        || !matches!(
            category(c),
            Control
                | Format
                | LineSeparator
                | ParagraphSeparator
                | PrivateUse
                | SpaceSeparator
                | Surrogate
                | Unassigned
        )
}

/// Whether a letter is of a case.
pub(in super::super) fn is_cased(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase() || category(c) == Category::TitlecaseLetter
}

/// A character as the first of a word.
pub(super) fn titlecase(c: char) -> String {
    match c {
        'Ǆ' | 'ǅ' | 'ǆ' => return "ǅ".into(),
        'Ǉ' | 'ǈ' | 'ǉ' => return "ǈ".into(),
        'Ǌ' | 'ǋ' | 'ǌ' => return "ǋ".into(),
        'Ǳ' | 'ǲ' | 'ǳ' => return "ǲ".into(),
        // Georgian letters have capitals, but no word begins with one.
        'ა'..='ჿ' => return c.into(),
        _ => {}
    }
    let mut upper = c.to_uppercase();
    let first: String = upper.next().into_iter().collect();
    first + &upper.collect::<String>().to_lowercase()
}

/// The first character as that of a word, the others small.
pub(in super::super) fn capitalize(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map(titlecase).unwrap_or_default() + &characters.as_str().to_lowercase()
}

/// Words with their first letters large.
pub(super) fn title(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut inside = false;
    for c in text.chars() {
        if inside {
            result.extend(c.to_lowercase());
        } else {
            result.push_str(&titlecase(c));
        }
        inside = is_cased(c);
    }
    result
}

/// Whether every word, and nothing else, begins large.
pub(super) fn is_title(text: &str) -> bool {
    let (mut inside, mut any) = (false, false);
    for c in text.chars() {
        let begins = c.is_uppercase() || category(c) == Category::TitlecaseLetter;
        if (begins && inside) || (c.is_lowercase() && !inside) {
            return false;
        }
        inside = is_cased(c);
        any |= inside;
    }
    any
}

/// Whether there are letters of a case and all are of this one.
pub(super) fn all_of_case(text: &str, case: fn(char) -> bool) -> bool {
    text.chars().any(is_cased) && text.chars().filter(|c| is_cased(*c)).all(case)
}

pub(super) fn swapcase(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_uppercase() {
            result.extend(c.to_lowercase());
        } else {
            result.extend(c.to_uppercase());
        }
    }
    result
}

/// A text that is the same for all that differ by case alone.
pub(super) fn casefold(text: &str) -> String {
    let fold = |c: char| match c {
        'ı' => "ı".to_string(),
        'ẞ' => "ss".into(),
        c => c.to_uppercase().flat_map(char::to_lowercase).collect(),
    };
    text.chars().map(fold).collect()
}
