use std::path::Path;

use proptest::prelude::*;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{Tokenizer, TruncationParams};

use super::*;
use crate::study::Sampling;

/// A tokenizer whose tokens are the numbers `0 … 999`, separated by blanks.
pub(super) fn numbers() -> Tokenizer {
    let vocabulary = (0..1000_u32).map(|n| (n.to_string(), n)).chain([("?".to_string(), 1000)]).collect();
    let model = WordLevel::builder().vocab(vocabulary).unk_token("?".into()).build().unwrap();
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(WhitespaceSplit));
    tokenizer
}

pub(super) fn counting(range: std::ops::Range<u32>) -> String {
    range.map(|n| n.to_string()).collect::<Vec<_>>().join(" ")
}

fn whole(content: &str) -> Text {
    Text::new("numbers", TextContent::Whole(content.into()))
}

fn calibrate(
    text: &Text,
    samples: usize,
    seq_len: usize,
    sampling: Sampling,
    seed: u64,
) -> Result<Vec<Vec<u32>>> {
    calibration_windows(text, &numbers(), samples, seq_len, sampling, seed).map(|drawn| drawn.windows)
}

#[test]
fn evaluation_cuts_the_whole_text_and_drops_the_tail() {
    let windows = |text: &Text, max| evaluation_windows(text, &numbers(), 4, max).unwrap();
    let text = whole(&counting(0..11));
    assert_eq!(windows(&text, None), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    assert_eq!(windows(&text, Some(1)), [[0, 1, 2, 3]]);
    assert_eq!(windows(&text, Some(9)).len(), 2);
    let text = Text::new("docs", documents(&["0 1 2", "3 4", "5 6 7"]));
    assert_eq!(windows(&text, None), [[0, 1, 2, 3], [4, 5, 6, 7]]);
}

#[test]
fn special_tokens_are_added_and_limits_of_the_tokenizer_are_not() {
    let mut tokenizer = numbers();
    let template = TemplateProcessing::builder()
        .try_single("? $A")
        .unwrap()
        .special_tokens(vec![("?", 1000)])
        .build()
        .unwrap();
    tokenizer.with_post_processor(Some(template));
    tokenizer
        .with_truncation(Some(TruncationParams { max_length: 3, ..TruncationParams::default() }))
        .unwrap();
    let windows = evaluation_windows(&whole(&counting(0..7)), &tokenizer, 4, None).unwrap();
    assert_eq!(windows, [[1000, 0, 1, 2], [3, 4, 5, 6]]);
}

#[test]
fn a_text_too_short_for_a_window_says_both_lengths() {
    let text = whole(&counting(0..7));
    let results = [
        evaluation_windows(&text, &numbers(), 8, None),
        calibrate(&text, 1, 8, Sampling::Head, 0),
        calibrate(&text, 1, 8, Sampling::Random, 0),
        calibrate(&Text::new("numbers", documents(&["0 1 2", "3 4 5 6"])), 1, 8, Sampling::Random, 0),
    ];
    for result in results {
        let message = mistake("numbers", result);
        assert!(message.contains("7 tokens") && message.contains('8'), "{message}");
    }
    for message in [
        calibrate(&text, 0, 4, Sampling::Head, 0).unwrap_err().to_string(),
        calibrate(&text, 1, 0, Sampling::Random, 0).unwrap_err().to_string(),
        evaluation_windows(&text, &numbers(), 0, None).unwrap_err().to_string(),
    ] {
        assert!(message.contains("at least 1"), "{message}");
    }
}

#[test]
fn head_takes_consecutive_windows_and_says_how_many_there_are() {
    let text = whole(&counting(0..11));
    assert_eq!(calibrate(&text, 2, 4, Sampling::Head, 3).unwrap(), [[0, 1, 2, 3], [4, 5, 6, 7]]);
    let message = mistake("numbers", calibrate(&text, 3, 4, Sampling::Head, 0));
    assert!(message.contains("has 2 windows") && message.contains('3'), "{message}");
}

#[test]
fn random_windows_come_from_documents_that_are_longer_than_one() {
    // Short, exactly a window, longer: only the last can be drawn from.
    let content = TextContent::Documents(vec![counting(0..5), counting(100..120), counting(200..260)]);
    let text = Text::new("docs", content);
    let windows = calibrate(&text, 40, 20, Sampling::Random, 1).unwrap();
    assert_eq!(windows.len(), 40);
    for window in &windows {
        assert!((200..240).contains(&window[0]), "{window:?}");
        assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1), "{window:?}");
    }
    assert!(windows.iter().any(|window| window != &windows[0]));
}

#[test]
fn random_windows_of_short_documents_come_from_all_of_them_joined() {
    let content = TextContent::Documents((0..50).map(|d| counting(d * 10..d * 10 + 10)).collect());
    let windows = calibrate(&Text::new("docs", content), 30, 25, Sampling::Random, 5).unwrap();
    assert_eq!(windows.len(), 30);
    assert!(windows.iter().all(|window| window.windows(2).all(|pair| pair[1] == pair[0] + 1)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_windows_are_pieces_of_the_text_and_follow_the_seed(
        length in 1..200_u32, seq_len in 1..60_usize, samples in 1..8_usize, seed: u64,
    ) {
        let text = whole(&counting(0..length));
        let drawn = calibrate(&text, samples, seq_len, Sampling::Random, seed);
        if seq_len > length as usize {
            prop_assert!(drawn.is_err());
        } else {
            let drawn = drawn.unwrap();
            prop_assert_eq!(drawn.len(), samples);
            for window in &drawn {
                prop_assert_eq!(window.len(), seq_len);
                prop_assert!(window.windows(2).all(|pair| pair[1] == pair[0] + 1));
            }
            prop_assert_eq!(drawn, calibrate(&text, samples, seq_len, Sampling::Random, seed).unwrap());
        }
    }

    #[test]
    fn evaluation_windows_are_the_text_again(length in 1..200_u32, seq_len in 1..60_usize) {
        let windows = evaluation_windows(&whole(&counting(0..length)), &numbers(), seq_len, None);
        let count = length as usize / seq_len;
        if count == 0 {
            prop_assert!(windows.is_err());
        } else {
            let joined = windows.unwrap().concat();
            prop_assert_eq!(joined, (0..(count * seq_len) as u32).collect::<Vec<_>>());
        }
    }
}

/// A text of the built-in study and its tokenizer, which splits words as GPT-2's does.
fn stories() -> (String, Tokenizer) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
    let text = fs::read_to_string(demo.join("data/stories.txt")).unwrap();
    (text, Tokenizer::from_file(demo.join("model/tokenizer.json")).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_limit_of_windows_changes_none_of_them(
        start in 0..20_000_usize, strange in "\\PC{1,30}", times in 0..400_usize, limit in 1..80_usize,
        in_words in any::<bool>(), special in any::<bool>(),
    ) {
        let (stories, mut tokenizer) = stories();
        // Runs of letters without an end where a beginning is cut, and whatever Unicode has.
        let (first, rest) = stories[start..].split_at(3000);
        let text = whole(&[first, &strange.repeat(times), rest].concat());
        if !in_words {
            // As tokenizers made by SentencePiece: all of a text is one word.
            tokenizer.with_pre_tokenizer(None::<WhitespaceSplit>);
        }
        if special {
            let mut processor = TemplateProcessing::builder();
            processor.try_single("a:0 $A:0 b:0").unwrap().special_tokens(vec![("a", 3), ("b", 4)]);
            tokenizer.with_post_processor(Some(processor.build().unwrap()));
        }
        let all = evaluation_windows(&text, &tokenizer, 32, None).unwrap();
        let some = evaluation_windows(&text, &tokenizer, 32, Some(limit)).unwrap();
        prop_assert_eq!(&all[..limit.min(all.len())], &some);
        let head = calibration_windows(&text, &tokenizer, limit.min(all.len()), 32, Sampling::Head, 0).unwrap();
        prop_assert_eq!(some, head.windows);
    }
}
