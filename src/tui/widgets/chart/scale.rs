//! Axes: what they span, where a value stands on them, which values are labelled.

use super::YScale;

/// The values between which an axis is kept, so that its arithmetic stays finite.
const LARGEST: f64 = 1e300;
/// The least positive value that a logarithmic axis shows.
const SMALLEST: f64 = 1e-300;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Axis {
    /// The value at its beginning.
    pub low: f64,
    /// The value at its end, above `low`.
    pub high: f64,
    scale: YScale,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    pub value: f64,
    pub label: String,
}

impl Axis {
    /// An axis over the finite `values` (positive ones, if logarithmic), with `margin` of its length added at both ends.
    /// Without any it spans `0 … 1`, or `1 … 10`.
    pub(crate) fn around(values: impl Iterator<Item = f64>, scale: YScale, margin: f64) -> Self {
        let usable = |v: &f64| v.is_finite() && (scale == YScale::Linear || *v > 0.0);
        let least = if scale == YScale::Linear { -LARGEST } else { SMALLEST };
        let (low, high) = values
            .filter(usable)
            .map(|v| v.clamp(least, LARGEST))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            let (low, high) = if scale == YScale::Linear { (0.0, 1.0) } else { (1.0, 10.0) };
            return Self { low, high, scale };
        }
        if scale == YScale::Log10 {
            let (low, high) = (low.log10(), high.log10());
            let pad = if high - low < 1e-6 { 0.1 } else { (high - low) * margin };
            let value = |log: f64| 10_f64.powf(log.clamp(-302.0, 302.0));
            return Self { low: value(low - pad), high: value(high + pad), scale };
        }
        let span = high - low;
        let size = low.abs().max(high.abs());
        let pad = if span > size * 1e-9 && span > SMALLEST {
            span * margin
        } else if size > SMALLEST {
            size * 0.05
        } else {
            1.0
        };
        // A quantity that is never negative gets no negative axis.
        let floor = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        Self { low: (low - pad).max(floor), high: high + pad, scale }
    }

    /// An axis between two values, or `None` if one is not finite or there is no length between them.
    pub(crate) fn between((low, high): (f64, f64), scale: YScale) -> Option<Self> {
        let least = if scale == YScale::Linear { -LARGEST } else { SMALLEST };
        if !(low.is_finite() && high.is_finite()) {
            return None;
        }
        let (low, high) = (low.max(least), high.min(LARGEST));
        let axis = Self { low, high, scale };
        let length = axis.to(high) - axis.to(low);
        let size = axis.to(low).abs().max(axis.to(high).abs());
        (length.is_finite() && length > size * 1e-12 && length > SMALLEST).then_some(axis)
    }

    /// The value itself or its logarithm; of what has none, negative infinity.
    fn to(&self, value: f64) -> f64 {
        match self.scale {
            YScale::Linear => value,
            YScale::Log10 if value <= 0.0 => f64::NEG_INFINITY,
            YScale::Log10 => value.log10(),
        }
    }

    /// Where a value stands: 0 at the beginning, 1 at the end, possibly beyond either. Not finite for an infinite value,
    /// a value up to 0 on a logarithmic axis, and NaN.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let (low, high) = (self.to(self.low), self.to(self.high));
        // Halved, so that the difference of two large values stays finite.
        (self.to(value) / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)
    }

    /// Up to `most` round values on the axis, evenly spread, with labels that tell them apart.
    pub(crate) fn ticks(&self, most: usize) -> Vec<Tick> {
        if most == 0 {
            return Vec::new();
        }
        if self.scale == YScale::Log10 {
            let ticks = self.log_ticks(most);
            // Within a decade the round values of a linear axis are more.
            if ticks.len() >= most.min(3) || self.high / self.low > 20.0 {
                return ticks;
            }
        }
        self.linear_ticks(most)
    }

    /// Multiples of 1, 2 or 5 times a power of ten, by the least step that gives no more than `most`.
    fn linear_ticks(&self, most: usize) -> Vec<Tick> {
        let span = self.high - self.low;
        let mut exponent = (span / most as f64).log10().floor() as i32;
        for _ in 0..3 {
            for digit in [1.0, 2.0, 5.0] {
                let step = digit * 10_f64.powi(exponent);
                let (first, last) = ((self.low / step).ceil(), (self.high / step).floor());
                if !(first.is_finite() && last.is_finite()) || last - first >= most as f64 {
                    continue;
                }
                let count = (last - first + 1.0).max(0.0) as usize;
                return (0..count).map(|i| Tick::new((first + i as f64) * step, exponent)).collect();
            }
            exponent += 1;
        }
        Vec::new()
    }

    /// Powers of ten with their double and fivefold if those fit, else every so many powers of ten.
    fn log_ticks(&self, most: usize) -> Vec<Tick> {
        let (low, high) = (self.low.log10(), self.high.log10());
        let (first, last) = (low.floor() as i32, high.ceil() as i32);
        let on = |v: &f64| (self.low..=self.high).contains(v);
        let of = |digits: &[f64], every: usize| -> Vec<f64> {
            let powers = (first..=last).filter(|e| e.rem_euclid(every as i32) == 0);
            powers.flat_map(|e| digits.iter().map(move |d| d * 10_f64.powi(e))).filter(on).collect()
        };
        let mut ticks = of(&[1.0, 2.0, 5.0], 1);
        if ticks.len() > most {
            ticks = of(&[1.0], 1);
        }
        let mut every = 2;
        while ticks.len() > most && every < 1000 {
            ticks = of(&[1.0], every);
            every += if every < 10 { 1 } else { 10 };
        }
        ticks.into_iter().map(|v| Tick::new(v, v.log10().floor() as i32)).collect()
    }
}

impl Tick {
    /// A tick whose label shows digits down to `10^exponent`.
    fn new(value: f64, exponent: i32) -> Self {
        // Multiples of a step of the other sign can give -0.
        let value = if value == 0.0 { 0.0 } else { value };
        let label = if value != 0.0 && (value.abs() >= 1e5 || exponent < -4) {
            let digits = (value.abs().log10().floor() as i32 - exponent).clamp(0, 6) as usize;
            format!("{value:.digits$e}")
        } else {
            format!("{value:.*}", (-exponent).clamp(0, 6) as usize)
        };
        Self { value, label }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "exact values are meant")]

    use proptest::prelude::*;

    use super::*;

    fn labels(low: f64, high: f64, scale: YScale, most: usize) -> Vec<String> {
        let axis = Axis::between((low, high), scale).unwrap();
        axis.ticks(most).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_are_round() {
        use YScale::{Linear, Log10};
        assert_eq!(labels(0.0, 1.0, Linear, 6), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(-3.0, 103.0, Linear, 6), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(0.0, 0.0007, Linear, 4), ["0.0000", "0.0002", "0.0004", "0.0006"]);
        assert_eq!(labels(0.0, 2e9, Linear, 3), ["0", "1e9", "2e9"]);
        assert_eq!(labels(10.0, 1000.0, Log10, 8), ["10", "20", "50", "100", "200", "500", "1000"]);
        assert_eq!(labels(10.0, 1000.0, Log10, 4), ["10", "100", "1000"]);
        assert_eq!(labels(1.0, 1e12, Log10, 5), ["1", "1000", "1e6", "1e9", "1e12"]);
        // Less than a decade: 1, 2 and 5 would leave one label.
        assert_eq!(labels(27.0, 44.0, Log10, 4), ["30", "35", "40"]);
    }

    #[test]
    fn values_without_number_do_not_bend_the_axis() {
        let values = [f64::NAN, f64::INFINITY, 2.0, f64::NEG_INFINITY, 4.0];
        let axis = Axis::around(values.into_iter(), YScale::Linear, 0.0);
        assert_eq!((axis.low, axis.high), (2.0, 4.0));
        let axis = Axis::around([-5.0, 0.0, 1.0, 100.0].into_iter(), YScale::Log10, 0.0);
        assert!((axis.low - 1.0).abs() < 1e-12 && (axis.high - 100.0).abs() < 1e-9);
        assert!((axis.place(10.0) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn what_is_never_negative_gets_no_negative_axis() {
        assert_eq!(Axis::around([0.0, 1.0].into_iter(), YScale::Linear, 0.1).low, 0.0);
        assert!(Axis::around([-0.1, 1.0].into_iter(), YScale::Linear, 0.1).low < -0.1);
    }

    #[test]
    fn a_window_without_length_is_none() {
        let infinite = (0.0, f64::INFINITY);
        for window in [(1.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), infinite, (0.0, f64::MIN_POSITIVE)] {
            assert_eq!(Axis::between(window, YScale::Linear), None, "{window:?}");
        }
        assert_eq!(Axis::between((-1.0, 0.0), YScale::Log10), None);
        assert!(Axis::between((-1.0, 10.0), YScale::Log10).is_some());
    }

    proptest! {
        #[test]
        fn any_values_give_an_axis_with_ticks_on_it(
            values in prop::collection::vec(any::<f64>(), 0..6), log: bool, most in 0_usize..20
        ) {
            let scale = if log { YScale::Log10 } else { YScale::Linear };
            let axis = Axis::around(values.into_iter(), scale, 0.05);
            prop_assert!(axis.low < axis.high && axis.low.is_finite() && axis.high.is_finite(), "{axis:?}");
            let ticks = axis.ticks(most);
            prop_assert!(ticks.len() <= most);
            for tick in &ticks {
                prop_assert!((-1e-9..=1.0 + 1e-9).contains(&axis.place(tick.value)), "{tick:?} on {axis:?}");
                prop_assert!(tick.label.len() < 16, "{}", tick.label);
            }
            prop_assert!(ticks.windows(2).all(|w| w[0].value < w[1].value));
        }

        #[test]
        fn common_axes_have_ticks_with_labels_of_their_own(
            low in -1e4_f64..1e4, length in 1e-3_f64..1e4, log: bool, most in 3_usize..12
        ) {
            let scale = if log { YScale::Log10 } else { YScale::Linear };
            let low = if log { low.abs() + 0.01 } else { low };
            let ticks = Axis::between((low, low + length), scale).unwrap().ticks(most);
            prop_assert!(!ticks.is_empty());
            prop_assert!(ticks.windows(2).all(|w| w[0].label != w[1].label), "{ticks:?}");
        }
    }
}
