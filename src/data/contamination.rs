//! Whether a text holds tokens in a row of another one.

use std::collections::HashSet;

use crate::study::RUN_TOKENS;

/// All runs of [`RUN_TOKENS`] tokens of some windows. A run does not cross the border of a window. The ids themselves are
/// compared, so two runs that are found equal are equal. A run takes a reference into the windows: 128 windows of 2048
/// tokens take about 9 MB.
pub(crate) struct TokenRuns<'a>(HashSet<&'a [u32]>);

impl<'a> TokenRuns<'a> {
    pub fn of(windows: &'a [Vec<u32>]) -> Self {
        Self(windows.iter().flat_map(|window| window.windows(RUN_TOKENS)).collect())
    }

    /// Whether no window is as long as a run.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether these tokens hold one of the runs. Fewer tokens than a run has hold none.
    pub fn are_in(&self, tokens: &[u32]) -> bool {
        tokens.windows(RUN_TOKENS).any(|run| self.0.contains(run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counting(range: std::ops::Range<u32>) -> Vec<u32> {
        range.collect()
    }

    #[test]
    fn thirteen_tokens_in_a_row_are_a_run_and_twelve_are_none() {
        let windows = [counting(0..20), counting(100..112)];
        let runs = TokenRuns::of(&windows);
        assert!(runs.are_in(&counting(7..20)) && runs.are_in(&[counting(40..50), counting(0..13)].concat()));
        assert!(!runs.are_in(&counting(8..20)), "twelve tokens");
        assert!(!runs.are_in(&counting(8..21)), "the thirteenth is another");
        assert!(!runs.are_in(&[counting(0..12), counting(13..20)].concat()), "not in a row");
        assert!(!runs.are_in(&counting(100..112)), "the window is shorter than a run");
        assert!(!runs.are_in(&[]) && !TokenRuns::of(&[]).are_in(&counting(0..20)));
    }

    #[test]
    fn no_run_crosses_the_border_of_a_window() {
        let windows = [counting(0..14), counting(14..28)];
        let runs = TokenRuns::of(&windows);
        assert!(!runs.are_in(&counting(7..20)));
        assert!(runs.are_in(&counting(14..27)));
    }

    /// The same, position by position.
    fn by_brute_force(windows: &[Vec<u32>], tokens: &[u32]) -> bool {
        let starts = |tokens: &[u32]| 0..(tokens.len() + 1).saturating_sub(RUN_TOKENS);
        starts(tokens).any(|at| {
            windows.iter().any(|window| {
                starts(window).any(|from| (0..RUN_TOKENS).all(|i| tokens[at + i] == window[from + i]))
            })
        })
    }

    proptest! {
        // Few tokens, so that many runs are equal by chance; and a piece of a window, at any place, of about a run's length.
        #[test]
        fn what_brute_force_finds_is_found(
            windows in prop::collection::vec(prop::collection::vec(0_u32..2, 0..40), 0..4),
            before in prop::collection::vec(0_u32..3, 0..20),
            behind in prop::collection::vec(0_u32..3, 0..20),
            (place, length) in (0_usize..40, 0_usize..20),
        ) {
            let piece = windows.first().map_or(&[][..], |window| {
                let from = place.min(window.len());
                &window[from..(from + length).min(window.len())]
            });
            let tokens = [&before[..], piece, &behind].concat();
            prop_assert_eq!(TokenRuns::of(&windows).are_in(&tokens), by_brute_force(&windows, &tokens));
        }
    }
}
