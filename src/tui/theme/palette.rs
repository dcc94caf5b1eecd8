//! The values of all colours, for dark and for light backgrounds.

use ratatui::style::Color;

use super::background::Background;
use super::color::{Lab, Rgb};

/// A colour for terminals that have many, and the one of the sixteen that stands for it elsewhere.
pub(crate) type Pair = (Rgb, Color);

#[derive(Debug, PartialEq)]
pub(crate) struct Palette {
    pub background: Rgb,
    pub foreground: Rgb,
    pub dim: Pair,
    pub border: Pair,
    pub grid: Pair,
    pub selected: Rgb,
    pub accent: Pair,
    pub good: Pair,
    pub warn: Pair,
    pub bad: Pair,
    pub base_line: Pair,
    /// Told apart by people with each of the three kinds of colour blindness: hue alternates with lightness.
    pub series: [Pair; 8],
    /// Control points of the heat scale.
    pub heat: [Lab; 3],
    /// Where the shade of a token on which two models disagree wholly ends.
    pub shade: Rgb,
    /// What the sixteen named colours look like in a picture.
    pub ansi: [Rgb; 16],
}

pub(crate) const fn of(background: Background) -> &'static Palette {
    match background {
        Background::Dark => &DARK,
        Background::Light => &LIGHT,
    }
}

static DARK: Palette = Palette {
    background: Rgb::hex(0x0011_151c),
    foreground: Rgb::hex(0x00d9_dee7),
    dim: (Rgb::hex(0x0087_919f), Color::DarkGray),
    border: (Rgb::hex(0x003d_4656), Color::DarkGray),
    grid: (Rgb::hex(0x0029_303c), Color::DarkGray),
    selected: Rgb::hex(0x0025_3650),
    accent: (Rgb::hex(0x0066_c7f4), Color::Cyan),
    good: (Rgb::hex(0x003f_c79a), Color::Green),
    warn: (Rgb::hex(0x00f2_b84b), Color::Yellow),
    bad: (Rgb::hex(0x00ff_6b5b), Color::LightRed),
    base_line: (Rgb::hex(0x00a9_b2c0), Color::Gray),
    series: [
        (Rgb::hex(0x00f5_a623), Color::Yellow),
        (Rgb::hex(0x005c_c3f5), Color::LightCyan),
        (Rgb::hex(0x000f_a07e), Color::Green),
        (Rgb::hex(0x00d8_73c0), Color::LightMagenta),
        (Rgb::hex(0x00f7_ec70), Color::LightYellow),
        (Rgb::hex(0x00e8_502e), Color::LightRed),
        (Rgb::hex(0x0074_74f0), Color::LightBlue),
        (Rgb::hex(0x00c3_c9d2), Color::Gray),
    ],
    heat: [
        Lab { l: 0.27, a: 0.035, b: -0.115 },
        Lab { l: 0.60, a: -0.17, b: -0.03 },
        Lab { l: 0.93, a: -0.03, b: 0.15 },
    ],
    shade: Rgb::hex(0x00a8_3a16),
    ansi: [
        Rgb::hex(0x001b_212b),
        Rgb::hex(0x00d8_4a3a),
        Rgb::hex(0x0038_a97c),
        Rgb::hex(0x00d8_9b2c),
        Rgb::hex(0x004d_83d6),
        Rgb::hex(0x00b8_5fb0),
        Rgb::hex(0x0046_aabf),
        Rgb::hex(0x00b4_bcc8),
        Rgb::hex(0x0068_7282),
        Rgb::hex(0x00ff_6b5b),
        Rgb::hex(0x0056_d6a8),
        Rgb::hex(0x00f7_e070),
        Rgb::hex(0x007a_a6f0),
        Rgb::hex(0x00e3_8ad6),
        Rgb::hex(0x0066_c7f4),
        Rgb::hex(0x00f0_f3f7),
    ],
};

static LIGHT: Palette = Palette {
    background: Rgb::hex(0x00fc_fcfa),
    foreground: Rgb::hex(0x0022_2932),
    dim: (Rgb::hex(0x0068_7280), Color::DarkGray),
    border: (Rgb::hex(0x00bd_c4cd), Color::Gray),
    grid: (Rgb::hex(0x00e3_e6ea), Color::Gray),
    selected: Rgb::hex(0x00d3_e4f8),
    accent: (Rgb::hex(0x0008_66b0), Color::Blue),
    good: (Rgb::hex(0x000b_7a54), Color::Green),
    warn: (Rgb::hex(0x009a_5b00), Color::Magenta),
    bad: (Rgb::hex(0x00c0_2617), Color::Red),
    base_line: (Rgb::hex(0x0055_5f6d), Color::DarkGray),
    series: [
        (Rgb::hex(0x00d0_7000), Color::Red),
        (Rgb::hex(0x001f_7fd0), Color::Blue),
        (Rgb::hex(0x0000_664a), Color::Green),
        (Rgb::hex(0x00b0_209a), Color::Magenta),
        (Rgb::hex(0x006e_5600), Color::Yellow),
        (Rgb::hex(0x001c_2f7a), Color::Black),
        (Rgb::hex(0x00c6_2034), Color::LightRed),
        (Rgb::hex(0x006b_7480), Color::DarkGray),
    ],
    heat: [
        Lab { l: 0.95, a: -0.02, b: 0.10 },
        Lab { l: 0.70, a: -0.17, b: 0.0 },
        Lab { l: 0.30, a: 0.03, b: -0.12 },
    ],
    shade: Rgb::hex(0x00ff_9468),
    ansi: [
        Rgb::hex(0x0022_2932),
        Rgb::hex(0x00c0_2617),
        Rgb::hex(0x000b_7a54),
        Rgb::hex(0x008a_6500),
        Rgb::hex(0x0008_66b0),
        Rgb::hex(0x00a0_2c8c),
        Rgb::hex(0x0000_6f7d),
        Rgb::hex(0x00bd_c4cd),
        Rgb::hex(0x0068_7280),
        Rgb::hex(0x00d8_4a3a),
        Rgb::hex(0x0018_946a),
        Rgb::hex(0x00b0_8300),
        Rgb::hex(0x001f_7fd0),
        Rgb::hex(0x00c0_4aae),
        Rgb::hex(0x0010_8fa0),
        Rgb::hex(0x00fc_fcfa),
    ],
};

impl Palette {
    /// The heat scale at `t` of `0 … 1`: a quadratic Bézier curve through `OKLab`, walked at constant speed, so that
    /// equal steps of the value look equally large. Lightness runs one way, which also those see who see no hue; the
    /// far end stands out most from the background.
    pub(crate) fn heat(&self, t: f32) -> Rgb {
        const STEPS: usize = 64;
        let [p, q, r] = self.heat;
        let at = |t: f32| {
            let curve = |p: f32, q: f32, r: f32| (1.0 - t).powi(2) * p + 2.0 * t * (1.0 - t) * q + t * t * r;
            Lab { l: curve(p.l, q.l, r.l), a: curve(p.a, q.a, r.a), b: curve(p.b, q.b, r.b) }
        };
        let points: [Lab; STEPS + 1] = std::array::from_fn(|i| at(i as f32 / STEPS as f32));
        let length: f32 = points.windows(2).map(|w| w[0].distance(w[1])).sum();
        let mut left = t.clamp(0.0, 1.0) * length;
        let mut found = points[STEPS];
        for (i, w) in points.windows(2).enumerate() {
            let step = w[0].distance(w[1]);
            if left <= step {
                found = at((i as f32 + left / step) / STEPS as f32);
                break;
            }
            left -= step;
        }
        Rgb::from_linear(found.linear())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Machado, Oliveira and Fernandes (2009), severity 1: protanopia, deuteranopia, tritanopia, on light intensities.
    const BLIND: [[[f32; 3]; 3]; 3] = [
        [
            [0.152_286, 1.052_583, -0.204_868],
            [0.114_503, 0.786_281, 0.099_216],
            [-0.003_882, -0.048_116, 1.051_998],
        ],
        [
            [0.367_322, 0.860_646, -0.227_968],
            [0.280_085, 0.672_501, 0.047_413],
            [-0.011_820, 0.042_940, 0.968_881],
        ],
        [
            [1.255_528, -0.076_749, -0.178_779],
            [-0.078_411, 0.930_809, 0.147_602],
            [0.004_733, 0.691_367, 0.303_900],
        ],
    ];

    /// A colour as each of the three kinds of the colour-blind sees it, after the colour itself.
    fn seen(colour: Rgb) -> [Lab; 4] {
        let rgb = colour.linear();
        let through = |m: &[[f32; 3]; 3]| {
            Lab::from(m.map(|row| row.iter().zip(rgb).map(|(a, b)| a * b).sum::<f32>().clamp(0.0, 1.0)))
        };
        [colour.into(), through(&BLIND[0]), through(&BLIND[1]), through(&BLIND[2])]
    }

    #[test]
    fn series_differ_for_every_eye() {
        for palette in [&DARK, &LIGHT] {
            for (i, (a, _)) in palette.series.iter().enumerate() {
                for (j, (b, _)) in palette.series.iter().enumerate().skip(i + 1) {
                    // The first three are the methods and meet in every chart.
                    let least = if j < 3 { 0.09 } else { 0.05 };
                    for (eye, (a, b)) in seen(*a).into_iter().zip(seen(*b)).enumerate() {
                        assert!(
                            a.distance(b) > least,
                            "{i} and {j} of {palette:?} for eye {eye}: {}",
                            a.distance(b)
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn everything_stands_out_from_its_background() {
        for palette in [&DARK, &LIGHT] {
            let p = palette;
            for colour in p.series.iter().map(|c| c.0) {
                assert!(colour.contrast(p.background) >= 3.0, "{colour:?}: graphics want 3");
            }
            for (colour, _) in [p.dim, p.accent, p.good, p.warn, p.bad, p.base_line] {
                assert!(colour.contrast(p.background) >= 4.5, "{colour:?}: text wants 4.5");
            }
            assert!(p.foreground.contrast(p.background) >= 7.0);
            for under in [p.selected, p.shade] {
                assert!(p.foreground.contrast(under) >= 4.5, "text on {under:?}");
            }
        }
    }

    #[test]
    fn the_heat_scale_is_even_and_its_lightness_runs_one_way_for_every_eye() {
        for palette in [&DARK, &LIGHT] {
            let scale: Vec<Rgb> = (0..=20).map(|i| palette.heat(i as f32 / 20.0)).collect();
            let steps: Vec<f32> = scale.windows(2).map(|w| Lab::from(w[0]).distance(w[1].into())).collect();
            let mean = steps.iter().sum::<f32>() / 20.0;
            for step in steps {
                assert!((0.8..1.2).contains(&(step / mean)), "a step of {step}, {mean} on the average");
            }
            for eye in 0..4 {
                let lightness: Vec<f32> = scale.iter().map(|c| seen(*c)[eye].l).collect();
                let rising = lightness[20] > lightness[0];
                assert!(lightness.windows(2).all(|w| (w[1] > w[0]) == rising), "eye {eye}: {lightness:?}");
            }
            let (low, high) = (scale[0].contrast(palette.background), scale[20].contrast(palette.background));
            assert!(high > 8.0 && low < 2.0, "{low} {high}");
        }
    }
}
