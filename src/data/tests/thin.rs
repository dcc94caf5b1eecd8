//! How much of a calibration set its windows show.

use super::super::calibration::Origin;
use super::windows::{counting, numbers};
use super::*;
use crate::study::Sampling;

fn coverage(content: TextContent, samples: usize, seq_len: usize, sampling: Sampling) -> Coverage {
    let text = Text::new("set", content);
    let found = calibration_windows(&text, &numbers(), samples, seq_len, sampling, 7).unwrap();
    assert_eq!(found.windows.len(), samples);
    found.coverage
}

fn set(lengths: impl IntoIterator<Item = u32>) -> TextContent {
    TextContent::Documents(lengths.into_iter().map(|length| counting(0..length)).collect())
}

#[test]
fn one_long_record_among_many_is_a_thin_set() {
    // 500 records, one of them longer than a window: all windows are of that one.
    let lengths = (0..500).map(|n| if n == 321 { 40 } else { 5 });
    let found = coverage(set(lengths), 128, 32, Sampling::Random);
    assert_eq!(found.origin, Origin::Documents { drawn: 1, of: 500 });
    assert_eq!((found.windows, found.distinct, found.apart), (128, 8, 1));
    assert_eq!(
        found.describe(),
        "128 windows of 32 tokens from 1 of 500 documents: 8 different, 1 without overlap"
    );
    let warning = found.warning().unwrap();
    assert!(
        warning.starts_with("thin calibration, 128 windows of 32 tokens from 1 of 500 documents"),
        "{warning}"
    );
    assert!(warning.contains("different documents") && warning.contains("--seq-len"), "{warning}");
    // However long it is: of the set little is seen.
    let lengths = (0..500).map(|n| if n == 321 { 999 } else { 5 });
    assert!(
        coverage(set(lengths), 16, 8, Sampling::Random).warning().unwrap().contains("different documents")
    );
}

#[test]
fn few_long_documents_are_no_thin_set_and_one_short_text_is() {
    // Twenty books, and nothing else in the set: fewer documents than half the windows, but different places.
    let books = coverage(set([900; 20]), 64, 8, Sampling::Random);
    assert!(matches!(books.origin, Origin::Documents { drawn: 19..=20, of: 20 }), "{books:?}");
    assert_eq!(books.warning(), None);
    let book = TextContent::Whole(counting(0..990));
    assert_eq!(coverage(book.clone(), 16, 8, Sampling::Random).warning(), None);
    // The same book for many long windows: places, not documents.
    let thin = coverage(book.clone(), 64, 100, Sampling::Random);
    assert!(thin.apart <= 9 && thin.distinct > 32, "{thin:?}");
    let warning = thin.warning().unwrap();
    assert!(
        warning.contains("64 windows of 100 tokens from one text") && warning.contains("different places")
    );
    // Consecutive windows never overlap.
    let head = coverage(book, 9, 100, Sampling::Head);
    assert_eq!((head.distinct, head.apart, head.warning()), (9, 9, None));
}

#[test]
fn a_text_that_repeats_itself_is_thin_though_nothing_overlaps() {
    let page = counting(0..20) + " ";
    let found = coverage(TextContent::Whole(page.repeat(50)), 40, 20, Sampling::Head);
    assert_eq!((found.distinct, found.apart), (1, 40));
    assert!(found.warning().unwrap().contains("1 different"));
}

#[test]
fn short_documents_are_joined_and_their_places_counted() {
    let found = coverage(set([10; 60]), 8, 25, Sampling::Random);
    assert_eq!((found.origin, found.warning()), (Origin::Joined(60), None));
    let found = coverage(set([10; 6]), 8, 25, Sampling::Random);
    assert!(found.apart <= 2, "{found:?}");
    assert!(found.warning().unwrap().contains("6 documents joined"));
}

#[test]
fn half_of_the_windows_is_enough() {
    let coverage =
        |windows, apart, origin| Coverage { windows, seq_len: 8, distinct: windows, apart, origin };
    assert_eq!(coverage(8, 4, Origin::Whole).warning(), None);
    assert!(coverage(8, 3, Origin::Whole).warning().is_some());
    assert_eq!(coverage(9, 5, Origin::Whole).warning(), None);
    assert!(coverage(9, 4, Origin::Whole).warning().is_some());
    assert_eq!(coverage(1, 1, Origin::Whole).warning(), None);
    let drawn = |drawn, of| coverage(128, 128, Origin::Documents { drawn, of });
    assert_eq!(drawn(64, 356_000).warning(), None);
    assert!(drawn(63, 356_000).warning().is_some());
    assert_eq!(drawn(63, 100).warning(), None);
}
