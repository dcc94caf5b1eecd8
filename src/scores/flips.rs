//! Records that one model gets right and another wrong, and tests of whether that is chance.

use super::notation::Notation;
use super::score::{Better, Detail, Measure, Scale, Score};

/// Share of the records that the base gets right and the cell wrong, or the other way round.
pub static FLIPS: Score = Score {
    id: "flips",
    csv: "flips",
    title: "Flips",
    name: "flips",
    short: "flips",
    unit: "",
    about: "Share of the records that are right in the base and wrong in the cell or the other way round: by accuracy \
            where there are choices, by the number where references are numbers, else by exact match.",
    better: Better::Lower,
    range: [0.0, 1.0],
    scale: Scale::Linear,
    notation: Notation::Fraction,
    of_itself: Some(0.0),
    paired: None,
    flips_rank: None,
    headline: false,
    seldom: false,
    interval_in_tables: false,
    details: &[
        Detail { name: "right_to_wrong", about: "Records that the base gets right and the cell wrong." },
        Detail { name: "wrong_to_right", about: "Records that the base gets wrong and the cell right." },
        Detail { name: "changed", about: "Records that are answered differently, right or wrong." },
        Detail { name: "mcnemar_p", about: "McNemar's exact two-sided p of the two directions." },
    ],
    measure: Measure::Flips,
};

/// How often right and wrong changed places between two models on the same records.
///
/// *Accuracy is Not All You Need* (arXiv 2407.09141): two models can be right equally often and yet on other records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flips {
    /// Records that the base gets right and the cell wrong.
    pub right_to_wrong: usize,
    /// Records that the base gets wrong and the cell right.
    pub wrong_to_right: usize,
    /// Records that were compared.
    pub records: usize,
}

impl Flips {
    /// Compares two models record by record; `None` where the lists are not equally long, and so not of the same
    /// records.
    pub fn between(base: &[bool], cell: &[bool]) -> Option<Self> {
        if base.len() != cell.len() {
            return None;
        }
        let count = |before: bool, after: bool| {
            base.iter().zip(cell).filter(|pair| *pair == (&before, &after)).count()
        };
        let (right_to_wrong, wrong_to_right) = (count(true, false), count(false, true));
        Some(Self { right_to_wrong, wrong_to_right, records: base.len() })
    }

    /// Share of the records that flipped either way, `0 … 1`; NaN without records.
    pub fn share(&self) -> f64 {
        self.count() as f64 / self.records as f64
    }

    /// `McNemar`'s exact two-sided p: how likely it is, were both directions equally likely, that they differ as much
    /// as they do or more. 1 without flips.
    pub fn mcnemar_p(&self) -> f64 {
        two_sided_p(self.right_to_wrong, self.wrong_to_right)
    }

    fn count(&self) -> usize {
        self.right_to_wrong + self.wrong_to_right
    }
}

/// Records on which two models answered differently, right or wrong; `None` where the lists are not equally long.
pub(crate) fn changed_answers<T: PartialEq>(base: &[T], cell: &[T]) -> Option<usize> {
    (base.len() == cell.len())
        .then(|| base.iter().zip(cell).filter(|(before, after)| before != after).count())
}

/// The sign test: on how many records a score went up, and on how many down. It needs no distribution of the scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignTest {
    /// Records on which the cell scores higher than the base.
    pub higher: usize,
    /// Records on which it scores lower.
    pub lower: usize,
    /// Records on which it scores the same. They are dropped: they say nothing of the direction.
    pub equal: usize,
}

impl SignTest {
    /// Compares two models record by record; `None` where the lists are not equally long. A record without a score (NaN)
    /// on either side is left out.
    pub fn between(base: &[f64], cell: &[f64]) -> Option<Self> {
        if base.len() != cell.len() {
            return None;
        }
        let mut test = Self { higher: 0, lower: 0, equal: 0 };
        for (before, after) in base.iter().zip(cell) {
            match after.partial_cmp(before) {
                Some(std::cmp::Ordering::Greater) => test.higher += 1,
                Some(std::cmp::Ordering::Less) => test.lower += 1,
                Some(std::cmp::Ordering::Equal) => test.equal += 1,
                None => {}
            }
        }
        Some(test)
    }

    /// Two-sided p, as [`Flips::mcnemar_p`] has it. 1 where all records tie.
    pub fn p_two_sided(&self) -> f64 {
        two_sided_p(self.lower, self.higher)
    }

    /// One-sided p: how likely so many or more records score higher, were both directions equally likely. 1 where all
    /// records tie.
    pub fn p_higher(&self) -> f64 {
        // As many heads or more are as likely as as many tails or fewer.
        tail_of_fair_coin(self.higher + self.lower, self.lower)
    }
}

fn two_sided_p(one: usize, other: usize) -> f64 {
    (2.0 * tail_of_fair_coin(one + other, one.min(other))).min(1.0)
}

/// P(X ≤ most) of X ~ Binomial(tosses, ½).
///
/// Binomial coefficients overflow, and their logarithms lose digits as they grow. So every coefficient is taken relative
/// to the largest one, of which the others follow by one multiplication each, falling towards the end; the sum of all of
/// them, in the same unit, stands for the `2^tosses` that would divide them. Nothing is subtracted, so that the relative
/// error is that of some 40·√tosses multiplications: below 2e-14 for 200,000 tosses. A tail of less than about 1e-300
/// is 0.
fn tail_of_fair_coin(tosses: usize, most: usize) -> f64 {
    if most >= tosses {
        return 1.0;
    }
    if most > tosses / 2 {
        // The tail is more than half, so that the subtraction loses nothing.
        return 1.0 - tail_of_fair_coin(tosses, tosses - most - 1);
    }
    let middle = tosses / 2;
    let (mut coefficient, mut lower_half, mut tail) = (1.0, 0.0, 0.0);
    for heads in (0..=middle).rev() {
        lower_half += coefficient;
        if heads <= most {
            tail += coefficient;
        }
        coefficient *= heads as f64 / (tosses - heads + 1) as f64;
        // What follows falls ever faster: it is below a digit of the tail, or so small that nothing is left of it.
        let negligible = if heads <= most { tail * f64::EPSILON * 1e-6 } else { f64::MIN_POSITIVE };
        if coefficient <= negligible {
            break;
        }
    }
    // Both halves are alike. An even number of tosses has a middle, which belongs to both.
    let all = if tosses.is_multiple_of(2) { 2.0 * lower_half - 1.0 } else { 2.0 * lower_half };
    tail / all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "0, 1 and sums of powers of two are exact")]

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    fn golden(name: &str) -> Option<Value> {
        let path = crate::skip::shared(&format!("golden/eval/{name}"))?;
        Some(serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn count(value: &Value) -> usize {
        value.as_u64().unwrap() as usize
    }

    fn assert_near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-12 * expected, "{found:e} is not {expected:e}");
    }

    /// P(X ≤ most) from whole numbers, exact up to 60 tosses.
    fn tail_by_counting(tosses: u32, most: u32) -> f64 {
        let (mut ways, mut sum) = (1_u64, 1_u64);
        for heads in 1..=most.min(tosses) {
            ways = ways * u64::from(tosses - heads + 1) / u64::from(heads);
            sum += ways;
        }
        sum as f64 / 2_f64.powi(tosses as i32)
    }

    #[test]
    fn flips_are_counted_each_way() {
        let base = [true, true, true, false, false, true];
        let cell = [true, false, false, true, false, true];
        let flips = Flips::between(&base, &cell).unwrap();
        assert_eq!(flips, Flips { right_to_wrong: 2, wrong_to_right: 1, records: 6 });
        assert_eq!(flips.share(), 0.5);
        assert_eq!(flips.mcnemar_p(), 1.0);
        assert_eq!(Flips::between(&base, &cell[1..]), None);
        assert!(Flips::between(&[], &[]).unwrap().share().is_nan());
        assert_eq!(changed_answers(&["4", "5", "x"], &["4", "6", "y"]), Some(2));
        assert_eq!(changed_answers(&[1], &[1, 2]), None);
    }

    #[test]
    fn mcnemar_agrees_with_the_golden_tables() {
        let Some(golden) = golden("paired_tests.json") else { return };
        for table in golden["mcnemar"].as_array().unwrap() {
            let flips = Flips {
                right_to_wrong: count(&table["right_to_wrong"]),
                wrong_to_right: count(&table["wrong_to_right"]),
                records: count(&table["n"]),
            };
            assert_near(flips.mcnemar_p(), table["p_exact"].as_f64().unwrap());
            assert_near(flips.share(), table["flips"].as_f64().unwrap());
        }
    }

    #[test]
    fn sign_tests_agree_with_the_golden_tables() {
        let Some(golden) = golden("paired_tests.json") else { return };
        for table in golden["sign"].as_array().unwrap() {
            let test = SignTest {
                higher: count(&table["higher"]),
                lower: count(&table["lower"]),
                equal: count(&table["equal"]),
            };
            assert_near(test.p_two_sided(), table["p_two_sided"].as_f64().unwrap());
            assert_near(test.p_higher(), table["p_higher"].as_f64().unwrap());
        }
        let scores = &golden["sign_from_scores"];
        let list = |name: &str| -> Vec<f64> {
            scores[name].as_array().unwrap().iter().map(|score| score.as_f64().unwrap()).collect()
        };
        let test = SignTest::between(&list("base"), &list("cell")).unwrap();
        let counts = ["higher", "lower", "equal"].map(|name| count(&scores[name]));
        assert_eq!([test.higher, test.lower, test.equal], counts);
        assert_near(test.p_two_sided(), scores["p_two_sided"].as_f64().unwrap());
    }

    /// Every set, cell and score for which the harness gave predictions.
    #[test]
    fn flips_of_the_golden_choices_agree() {
        let Some(golden) = golden("choice.json") else { return };
        let mut compared = 0;
        for task in golden["tasks"].as_object().unwrap().values() {
            let gold: Vec<u64> =
                task["gold"].as_array().unwrap().iter().map(|item| item.as_u64().unwrap()).collect();
            for (key, scores) in task.as_object().unwrap() {
                let Some(cell) = key.strip_prefix("flips_base_to_") else { continue };
                for (score, expected) in scores.as_object().unwrap() {
                    let predictions = |model: &str| -> Vec<u64> {
                        let digits = task[model][format!("prediction_{score}")].as_str().unwrap();
                        digits.chars().map(|digit| u64::from(digit.to_digit(10).unwrap())).collect()
                    };
                    let (before, after) = (predictions("base"), predictions(cell));
                    let right = |predictions: &[u64]| -> Vec<bool> {
                        predictions.iter().zip(&gold).map(|(one, gold)| one == gold).collect()
                    };
                    let flips = Flips::between(&right(&before), &right(&after)).unwrap();
                    assert_eq!(flips.right_to_wrong, count(&expected["right_to_wrong"]));
                    assert_eq!(flips.wrong_to_right, count(&expected["wrong_to_right"]));
                    assert_near(flips.share(), expected["flips"].as_f64().unwrap());
                    assert_near(flips.mcnemar_p(), expected["mcnemar_p"].as_f64().unwrap());
                    assert_eq!(changed_answers(&before, &after), Some(count(&expected["all_flips"])));
                    compared += 1;
                }
            }
        }
        assert!(compared >= 22, "{compared}");
    }

    /// The expected values come from Python's whole numbers, which are exact, and are rounded once.
    #[test]
    fn p_keeps_its_digits_with_hundreds_of_thousands_of_flips() {
        for (right_to_wrong, wrong_to_right, expected) in [
            (501, 499, 9.747_749_818_216_392e-1),
            (2_600, 2_400, 4.883_649_737_517_518e-3),
            (10_100, 9_900, 1.593_834_359_847_337_8e-1),
            (50_500, 49_500, 1.582_359_878_851_595_6e-3),
            (101_000, 99_000, 7.824_328_515_380_865e-6),
            (11_000, 9_000, 1.954_082_770_582_896_3e-45),
        ] {
            let flips = Flips { right_to_wrong, wrong_to_right, records: 1_000_000 };
            let p = flips.mcnemar_p();
            assert!((p / expected - 1.0).abs() < 2e-14, "{p:e} is not {expected:e}");
        }
        // Far out nothing is left; equally many each way are no surprise at all.
        assert_eq!(two_sided_p(1_000_000, 10), 0.0);
        assert_eq!(two_sided_p(400_000, 400_000), 1.0);
        // With none the other way it is a power of two.
        assert_eq!(two_sided_p(0, 900), 2_f64.powi(-899));
    }

    #[test]
    fn records_without_a_score_are_left_out_of_a_sign_test() {
        let test = SignTest::between(&[1.0, f64::NAN, 0.0, 0.5], &[0.0, 1.0, f64::NAN, 0.5]).unwrap();
        assert_eq!(test, SignTest { higher: 0, lower: 1, equal: 1 });
        assert_eq!(SignTest::between(&[1.0], &[]), None);
        let tied = SignTest { higher: 0, lower: 0, equal: 9 };
        assert_eq!((tied.p_two_sided(), tied.p_higher()), (1.0, 1.0));
    }

    proptest! {
        #[test]
        fn a_tail_is_what_counting_gives(tosses in 0_u32..=60, most in 0_u32..=60) {
            let (found, expected) =
                (tail_of_fair_coin(tosses as usize, most as usize), tail_by_counting(tosses, most));
            prop_assert!((found - expected).abs() <= 1e-14 * expected, "{found:e} is not {expected:e}");
        }

        #[test]
        fn both_tails_make_one(tosses in 1_usize..5_000, share in 0.0..1.0_f64) {
            let most = (share * tosses as f64) as usize;
            let both = if most < tosses { tail_of_fair_coin(tosses, tosses - most - 1) } else { 0.0 };
            prop_assert!((tail_of_fair_coin(tosses, most) + both - 1.0).abs() < 1e-13);
        }

        #[test]
        fn a_p_is_a_probability_and_blind_to_the_direction(a in 0_usize..3_000, b in 0_usize..3_000) {
            let p = two_sided_p(a, b);
            prop_assert!((0.0..=1.0).contains(&p));
            prop_assert_eq!(p, two_sided_p(b, a));
            // One more flip to the side that leads is more of a surprise, if not so small that it is 0.
            prop_assert!(a <= b || two_sided_p(a + 1, b) <= p);
        }
    }
}
