//! The Pareto front: the models that none beats in both size and score.

/// What a model costs and how much speaks against it; the less of both the better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tradeoff {
    /// Its size, in any unit.
    pub cost: f64,
    /// As of [`Score::damage`](super::Score::damage).
    pub damage: f64,
}

impl Tradeoff {
    /// A tradeoff of numbers; `None` where one of them is infinite or none.
    pub(crate) fn new(cost: f64, damage: f64) -> Option<Self> {
        // Adding zero makes both zeros the same one.
        (cost.is_finite() && damage.is_finite()).then_some(Self { cost: cost + 0.0, damage: damage + 0.0 })
    }

    /// From the least cost to the greatest; of the same cost, from the least damage.
    fn order(self, other: Self) -> std::cmp::Ordering {
        self.cost.total_cmp(&other.cost).then(self.damage.total_cmp(&other.damage))
    }
}

/// The places of those on the Pareto front, from the least cost to the greatest: no other has at most as much of both,
/// and less of one. Two that are the same are both on it; what is `None` is not.
pub(crate) fn pareto_front(models: &[Option<Tradeoff>]) -> Vec<usize> {
    let known = models.iter().enumerate().filter_map(|(place, model)| Some((place, (*model)?)));
    let mut known: Vec<(usize, Tradeoff)> = known.collect();
    known.sort_by(|(_, a), (_, b)| a.order(*b));
    let mut front: Vec<(usize, Tradeoff)> = Vec::new();
    for (place, model) in known {
        let better = front.last().is_none_or(|(_, last)| model.damage < last.damage || model == *last);
        if better {
            front.push((place, model));
        }
    }
    front.into_iter().map(|(place, _)| place).collect()
}

/// The place of the one with the least damage among those whose cost is at most `limit`; of several, the least cost.
pub(crate) fn best_within(models: &[Option<Tradeoff>], limit: f64) -> Option<usize> {
    let known = models.iter().enumerate().filter_map(|(place, model)| Some((place, (*model)?)));
    let within = known.filter(|(_, model)| model.cost <= limit);
    let least = within.min_by(|(_, a), (_, b)| a.damage.total_cmp(&b.damage).then(a.order(*b)));
    least.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few values, so that many are the same.
    fn models() -> impl Strategy<Value = Vec<Option<Tradeoff>>> {
        let number = prop::sample::select(vec![-2.5, -1.0, -0.0, 0.0, 1.0, 2.0, 3.5, 1e300]);
        let model = (number.clone(), number).prop_map(|(cost, damage)| Tradeoff::new(cost, damage));
        prop::collection::vec(prop_oneof![9 => model, 1 => Just(None)], 0..12)
    }

    /// By the definition.
    fn beats(a: Tradeoff, b: Tradeoff) -> bool {
        a.cost <= b.cost && a.damage <= b.damage && (a.cost < b.cost || a.damage < b.damage)
    }

    proptest! {
        #[test]
        fn the_front_is_what_nothing_beats(models in models()) {
            let mut front = pareto_front(&models);
            let costs: Vec<f64> = front.iter().map(|place| models[*place].unwrap().cost).collect();
            prop_assert!(costs.windows(2).all(|pair| pair[0] <= pair[1]), "{costs:?}");
            front.sort_unstable();
            let beaten = |model: Tradeoff| models.iter().flatten().any(|other| beats(*other, model));
            let expected: Vec<usize> =
                (0..models.len()).filter(|i| models[*i].is_some_and(|model| !beaten(model))).collect();
            prop_assert_eq!(front, expected);
        }

        #[test]
        fn the_best_within_a_limit_is_on_the_front(models in models(), limit in -3.0..5.0_f64) {
            let best = best_within(&models, limit);
            let within = || models.iter().flatten().filter(|model| model.cost <= limit);
            prop_assert_eq!(best.is_some(), within().next().is_some());
            if let Some(best) = best {
                let best = models[best].unwrap();
                prop_assert!(within().all(|other| best.damage <= other.damage));
                prop_assert!(!models.iter().flatten().any(|other| beats(*other, best)));
            }
        }
    }

    #[test]
    fn what_is_no_number_takes_no_part() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!((Tradeoff::new(odd, 1.0), Tradeoff::new(1.0, odd)), (None, None));
        }
        assert_eq!((pareto_front(&[None]), best_within(&[None], 1.0)), (vec![], None));
    }
}
