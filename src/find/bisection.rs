//! Finding the edge among ordered levels: the last that holds and the first that breaks, with as few cells as can be.
//!
//! # How many cells it takes
//!
//! Of L levels, the edge lies before the first, behind the last or between two: there are L + 1 outcomes, the number of
//! levels that hold being 0 … L. A cell answers yes or no, so that k cells tell at most 2^k outcomes apart. Hence **no
//! search can promise less than ⌈log2(L + 1)⌉ cells**, and the search below never asks for more:
//!
//! Let m be the number of outcomes that are left, at first L + 1. While m is above 1, the search asks for the level that
//! splits them into ⌊m/2⌋ and ⌈m/2⌉. (Between the last level that holds and the first that breaks there are m − 1 levels
//! nobody knows, one for each way of splitting m outcomes in two.) At most ⌈m/2⌉ are left. Halving with rounding up,
//! ⌈log2 m⌉ times, leads from m to 1: from m ≤ 2^k follows ⌈m/2⌉ ≤ 2^(k−1), and 2^0 is 1.
//!
//! ⌈log2 L⌉ is the same number unless L is a power of two, where it is one less. It is kept where one outcome is ruled out
//! beforehand. So it is where the first level is the base itself, which every study measures anyway: if the base holds, L
//! outcomes are left, and if it breaks, only one. The L counts the base; of the levels that compress there are L − 1.
//!
//! Known outcomes come on top. Those that are told before the search are outcomes ruled out, so that
//! [`Bisection::cells_at_most`] falls with them.

/// A search for the edge. Levels are numbered from 0, the least compression.
///
/// For a bound that compressing meets rather than breaks, such as a size, levels are listed the other way round: 0 is the
/// greatest compression, and the last that holds is the least one that meets the bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bisection {
    /// Whether each level holds, where it is known.
    outcomes: Vec<Option<bool>>,
}

impl Bisection {
    /// A search among so many levels, of which nothing is known: at most `⌈log2(levels + 1)⌉` cells; once one of them is
    /// told, at most `⌈log2(levels)⌉`.
    pub(crate) fn new(levels: usize) -> Self {
        Self { outcomes: vec![None; levels] }
    }

    /// The level to ask for next; `None` once the edge is known. It stays the same until something is told.
    pub(crate) fn next(&self) -> Option<usize> {
        let (holds, breaks) = self.places();
        let outcomes = breaks - holds;
        // Counted from the number of levels that hold for certain, so that no place is below zero.
        (outcomes > 1).then(|| holds + outcomes / 2 - 1)
    }

    /// Says whether a level holds the bound: one that was asked for, or one that was run before. What is said later of a
    /// level takes the place of what was said of it. A level that is not on the list is ignored.
    pub(crate) fn tell(&mut self, level: usize, holds: bool) {
        if let Some(outcome) = self.outcomes.get_mut(level) {
            *outcome = Some(holds);
        }
    }

    /// What is known of the edge: the last level that holds and the first that breaks. `None` on the left while no level
    /// is known to hold, and on the right while none is known to break.
    ///
    /// Where outcomes are not in order (a level breaks and a greater one holds, as noise can have it), the edge is before
    /// the first level that breaks: what holds behind it is in [`Self::holds_behind_edge`].
    pub(crate) fn interval(&self) -> (Option<usize>, Option<usize>) {
        let breaks = self.outcomes.iter().position(|outcome| *outcome == Some(false));
        let before = &self.outcomes[..breaks.unwrap_or(self.outcomes.len())];
        (before.iter().rposition(|outcome| *outcome == Some(true)), breaks)
    }

    /// Levels that hold although a lesser one breaks, in order. Where there are any, the bound has no single edge.
    pub(crate) fn holds_behind_edge(&self) -> impl Iterator<Item = usize> {
        let first = self.interval().1.unwrap_or(self.outcomes.len());
        (first..self.outcomes.len()).filter(|level| self.outcomes[*level] == Some(true))
    }

    /// How many more cells the search asks for at most.
    pub(crate) fn cells_at_most(&self) -> u32 {
        let (holds, breaks) = self.places();
        // ⌈log2 m⌉ is the number of binary digits of m − 1.
        usize::BITS - (breaks - holds - 1).leading_zeros()
    }

    /// The interval as places between levels: how many levels hold for certain, and one more than how many may hold. All
    /// outcomes that are left lie from the first to before the second.
    fn places(&self) -> (usize, usize) {
        let (holds, breaks) = self.interval();
        (holds.map_or(0, |level| level + 1), breaks.unwrap_or(self.outcomes.len()) + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks until the edge is known, and returns the levels that were asked for.
    fn run(search: &mut Bisection, holds: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut asked = Vec::new();
        while let Some(level) = search.next() {
            assert!(!asked.contains(&level), "level {level} is asked for twice: {asked:?}");
            assert!(asked.len() <= search.outcomes.len());
            let before = search.cells_at_most();
            asked.push(level);
            search.tell(level, holds(level));
            assert!(search.cells_at_most() < before, "{asked:?}");
        }
        assert_eq!(search.cells_at_most(), 0);
        asked
    }

    /// A search whose level 0 is the base.
    fn from_base(levels: usize, base_holds: bool) -> Bisection {
        let mut search = Bisection::new(levels);
        search.tell(0, base_holds);
        search
    }

    fn ceil_log2(n: usize) -> usize {
        (0..64).find(|k| 1_usize << k >= n).unwrap()
    }

    /// Where the first `holding` of `levels` hold.
    fn edge(levels: usize, holding: usize) -> (Option<usize>, Option<usize>) {
        (holding.checked_sub(1), (holding < levels).then_some(holding))
    }

    #[test]
    fn every_edge_of_up_to_130_levels_is_found_with_as_few_cells_as_can_be() {
        for levels in 0..=130 {
            let mut most = 0;
            for holding in 0..=levels {
                let mut search = Bisection::new(levels);
                let asked = run(&mut search, |level| level < holding);
                assert_eq!(search.interval(), edge(levels, holding));
                most = most.max(asked.len());
            }
            assert_eq!(most, ceil_log2(levels + 1), "{levels} levels");
            assert_eq!(Bisection::new(levels).cells_at_most() as usize, most);
        }
    }

    #[test]
    fn with_the_base_as_first_level_one_outcome_is_ruled_out() {
        for levels in 1..=130 {
            let mut most = 0;
            for holding in 1..=levels {
                let mut search = from_base(levels, true);
                let asked = run(&mut search, |level| level < holding);
                assert!(!asked.contains(&0), "the base needs no cell");
                assert_eq!(search.interval(), edge(levels, holding));
                most = most.max(asked.len());
            }
            assert_eq!(most, ceil_log2(levels), "{levels} levels");
        }
        assert_eq!(from_base(0, true).next(), None);
        let broken = from_base(9, false);
        assert_eq!((broken.next(), broken.interval()), (None, (None, Some(0))));
    }

    #[test]
    fn a_level_is_asked_for_until_it_is_answered() {
        let mut search = Bisection::new(7);
        assert_eq!((search.next(), search.next()), (Some(3), Some(3)));
        search.tell(3, true);
        assert_eq!(search.next(), Some(5));
        assert_eq!(search.interval(), (Some(3), None));
        search.tell(99, false);
        assert_eq!(search.next(), Some(5), "no level 99 is on the list");
    }

    #[test]
    fn outcomes_out_of_order_leave_the_edge_before_the_first_that_breaks() {
        let mut search = Bisection::new(10);
        search.tell(3, false);
        search.tell(7, true);
        assert_eq!(search.interval(), (None, Some(3)));
        assert_eq!(search.holds_behind_edge().collect::<Vec<_>>(), [7]);
        assert_eq!(run(&mut search, |level| level < 2), [1, 2]);
        assert_eq!(search.interval(), (Some(1), Some(2)));
    }

    proptest! {
        #[test]
        fn levels_that_were_run_before_count(
            levels in 1_usize..200, share in 0.0..=1.0_f64, before in prop::collection::vec(0_usize..200, 0..8),
        ) {
            let holding = (share * levels as f64) as usize;
            let mut search = Bisection::new(levels);
            for level in &before {
                search.tell(*level, *level < holding);
            }
            let most = search.cells_at_most() as usize;
            prop_assert!(most <= ceil_log2(levels + 1));
            let asked = run(&mut search, |level| level < holding);
            prop_assert!(asked.len() <= most);
            prop_assert!(asked.iter().all(|level| !before.contains(level)));
            prop_assert_eq!(search.interval(), edge(levels, holding));
            prop_assert_eq!(search.holds_behind_edge().next(), None);
        }

        #[test]
        fn a_search_can_be_resumed_anywhere(levels in 1_usize..200, share in 0.0..=1.0_f64, stop in 0_usize..8) {
            let holding = (share * levels as f64) as usize;
            let mut whole = Bisection::new(levels);
            let asked = run(&mut whole, |level| level < holding);
            let mut resumed = Bisection::new(levels);
            // The order in which known outcomes are told does not matter.
            for level in asked.iter().take(stop).rev() {
                resumed.tell(*level, *level < holding);
            }
            let rest = run(&mut resumed, |level| level < holding);
            prop_assert_eq!(rest.as_slice(), asked.get(stop..).unwrap_or_default());
            prop_assert_eq!(resumed, whole);
        }

        #[test]
        fn any_outcomes_end_at_a_level_that_holds_beside_one_that_breaks(
            outcomes in prop::collection::vec(any::<bool>(), 0..100), before in prop::collection::vec(0_usize..100, 0..8),
        ) {
            let mut search = Bisection::new(outcomes.len());
            for level in before.iter().filter(|level| **level < outcomes.len()) {
                search.tell(*level, outcomes[*level]);
            }
            let most = search.cells_at_most() as usize;
            let asked = run(&mut search, |level| outcomes[level]);
            prop_assert!(asked.len() <= most);
            prop_assert!(asked.iter().all(|level| !before.contains(level)));
            let (holds, breaks) = search.interval();
            prop_assert!(holds.is_none_or(|level| outcomes[level]));
            prop_assert!(breaks.is_none_or(|level| !outcomes[level]));
            // They are neighbours, the ends of the list being neighbours of nothing.
            prop_assert_eq!(holds.map_or(0, |level| level + 1), breaks.unwrap_or(outcomes.len()));
        }
    }
}
