//! Numbers as they stand in table and read-out: short, and honest about what is missing or infinite.

use crate::scores::{Notation, Score};
use crate::tui::theme::Theme;

/// A value of a score; `relative` ones are ratios to the base's.
pub(crate) fn of_score(score: &Score, theme: Theme, value: Option<f64>, relative: bool) -> String {
    let relative = relative && !score.compares();
    match score.notation {
        Notation::Magnitude if relative => ratio(theme, value),
        Notation::Magnitude => size(theme, value),
        Notation::Decimal | Notation::Percent | Notation::Fraction if relative => share(theme, value),
        Notation::Decimal | Notation::Fraction => unit(theme, value),
        Notation::Percent => share(theme, value),
    }
}

/// A number, or the sign for one that is missing, infinite or none; `write` is called for finite ones.
fn shown(theme: Theme, value: Option<f64>, write: impl FnOnce(f64) -> String) -> String {
    let symbols = theme.symbols();
    match value {
        None => symbols.dot.to_owned(),
        Some(value) if value.is_nan() => "nan".to_owned(),
        Some(value) if value.is_infinite() => {
            let sign = if value < 0.0 { minus(theme) } else { "" };
            let infinity = if theme.ascii { "inf" } else { symbols.infinity };
            format!("{sign}{infinity}")
        }
        Some(value) => write(value),
    }
}

fn minus(theme: Theme) -> &'static str {
    if theme.ascii { "-" } else { "−" }
}

/// A positive figure of any size with about four digits: `8.75`, `183.2`, `20144`, `1.2e9`.
pub(crate) fn size(theme: Theme, value: Option<f64>) -> String {
    shown(theme, value, |value| match value.abs() {
        0.0..100.0 => format!("{value:.2}"),
        100.0..10_000.0 => format!("{value:.1}"),
        10_000.0..1e6 => format!("{value:.0}"),
        _ => format!("{value:.1e}"),
    })
}

/// A figure of `0 … 1`, or a little more: `0.053`.
pub(crate) fn unit(theme: Theme, value: Option<f64>) -> String {
    shown(
        theme,
        value,
        |value| if value.abs() < 1e3 { format!("{value:.3}") } else { format!("{value:.1e}") },
    )
}

/// A share as percentage: `87.5%`.
pub(crate) fn share(theme: Theme, value: Option<f64>) -> String {
    shown(theme, value, |value| format!("{}%", percents(value * 100.0)))
}

/// A ratio: `1.14×`.
pub(crate) fn ratio(theme: Theme, value: Option<f64>) -> String {
    let text = size(theme, value);
    if value.is_some_and(f64::is_finite) { text + theme.symbols().times } else { text }
}

/// A change as percentage with its sign: `+14.2%`, `+1250%`, `−3.0%`.
pub(crate) fn change(theme: Theme, value: Option<f64>) -> String {
    let text = signed(theme, value, |value| percents(value * 100.0));
    if value.is_some_and(f64::is_finite) { text + "%" } else { text }
}

/// A difference of two figures of `0 … 1` with its sign: `−0.102`.
pub(crate) fn difference(theme: Theme, value: Option<f64>) -> String {
    signed(theme, value, |value| format!("{value:.3}"))
}

fn signed(theme: Theme, value: Option<f64>, write: impl Fn(f64) -> String) -> String {
    shown(theme, value, |value| {
        let text = write(value.abs());
        // What is rounded to nothing has no sign.
        let zero = !text.bytes().any(|b| (b'1'..=b'9').contains(&b));
        let sign = match value {
            _ if zero => "",
            value if value < 0.0 => minus(theme),
            _ => "+",
        };
        format!("{sign}{text}")
    })
}

fn percents(value: f64) -> String {
    match value.abs() {
        0.0..100.0 => format!("{value:.1}"),
        100.0..1e5 => format!("{value:.0}"),
        _ => format!("{value:.0e}"),
    }
}

/// A sparsity in percent, without more digits than it has: `50%`, `66.67%`.
pub(crate) fn sparsity(percent: f64) -> String {
    format!("{}%", (percent * 100.0).round() / 100.0)
}

/// Seconds: `4.2`, `190`.
pub(crate) fn seconds(theme: Theme, value: Option<f64>) -> String {
    shown(theme, value, |value| if value < 99.95 { format!("{value:.1}") } else { format!("{value:.0}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::theme::{Background, ColorMode};

    const FULL: Theme = Theme::new(ColorMode::TrueColor, Background::Dark, false);
    const ASCII: Theme = Theme::new(ColorMode::None, Background::Dark, true);

    #[test]
    fn figures_keep_to_about_four_digits() {
        let sizes = [8.754, 99.994, 183.24, 20_144.2, 1.234e9].map(|v| size(FULL, Some(v)));
        assert_eq!(sizes, ["8.75", "99.99", "183.2", "20144", "1.2e9"]);
        assert_eq!([0.0534, 1.2, 4e5].map(|v| unit(FULL, Some(v))), ["0.053", "1.200", "4.0e5"]);
        assert_eq!([0.875, 12.5].map(|v| share(FULL, Some(v))), ["87.5%", "1250%"]);
        assert_eq!(ratio(FULL, Some(1.142)), "1.14×");
        assert_eq!([50.0, 66.666_667, 12.5].map(sparsity), ["50%", "66.67%", "12.5%"]);
        assert_eq!([4.21, 99.99, 190.4].map(|v| seconds(FULL, Some(v))), ["4.2", "100", "190"]);
    }

    #[test]
    fn changes_have_a_sign_unless_they_round_to_nothing() {
        let changes = [0.142, 12.5, -0.03, 0.0001, -0.0001, 1e7].map(|v| change(FULL, Some(v)));
        assert_eq!(changes, ["+14.2%", "+1250%", "−3.0%", "0.0%", "0.0%", "+1e9%"]);
        assert_eq!(
            [0.1, -0.1024, -0.0001].map(|v| difference(ASCII, Some(v))),
            ["+0.100", "-0.102", "0.000"]
        );
    }

    #[test]
    fn what_is_no_number_is_said() {
        for write in [size, unit, share, ratio, change, difference, seconds] {
            assert_eq!(write(FULL, None), "·");
            assert_eq!(write(FULL, Some(f64::NAN)), "nan");
            assert!(write(FULL, Some(f64::INFINITY)).starts_with('∞'));
            assert!(write(ASCII, Some(f64::NEG_INFINITY)).starts_with("-inf"));
            assert!(write(ASCII, None).is_ascii());
        }
    }
}
