//! Arithmetic on colours: `OKLab`, the xterm palette, contrast.

use ratatui::style::Color;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Rgb(pub u8, pub u8, pub u8);

/// A colour in Björn Ottosson's `OKLab` space: lightness `0 … 1`, green to red, blue to yellow. Equal distances look
/// about equally different.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Lab {
    pub l: f32,
    pub a: f32,
    pub b: f32,
}

impl Rgb {
    pub(crate) const fn hex(value: u32) -> Self {
        Self((value >> 16) as u8, (value >> 8) as u8, value as u8)
    }

    /// The colour as SVG writes it: `#rrggbb`.
    pub(crate) fn css(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }

    /// The colour `t` of the way to `other`, `0 … 1`, straight through sRGB.
    #[must_use]
    pub(crate) fn mix(self, other: Self, t: f32) -> Self {
        let one = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * t).round() as u8;
        Self(one(self.0, other.0), one(self.1, other.1), one(self.2, other.2))
    }

    /// Light intensities `0 … 1` of red, green and blue.
    pub(crate) fn linear(self) -> [f32; 3] {
        [self.0, self.1, self.2].map(|c| {
            let c = f32::from(c) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        })
    }

    /// The nearest colour of these light intensities; what a screen cannot show is cut off.
    pub(crate) fn from_linear(rgb: [f32; 3]) -> Self {
        let [r, g, b] = rgb.map(|c| {
            let c = c.clamp(0.0, 1.0);
            let c = if c <= 0.003_130_8 { c * 12.92 } else { 1.055 * c.powf(1.0 / 2.4) - 0.055 };
            (c * 255.0).round() as u8
        });
        Self(r, g, b)
    }

    /// Contrast of two colours, `1 … 21`, as WCAG 2 defines it.
    pub(crate) fn contrast(self, other: Self) -> f32 {
        let luminance = |c: Self| {
            let [r, g, b] = c.linear();
            0.2126 * r + 0.7152 * g + 0.0722 * b
        };
        let (a, b) = (luminance(self), luminance(other));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// The index `16 … 255` of the xterm palette's colour that looks nearest.
    pub(crate) fn nearest_indexed(self) -> u8 {
        let level = |c: u8| if c < 48 { 0 } else { (c.max(115) - 75 + 20) / 40 };
        let cube = 16 + 36 * level(self.0) + 6 * level(self.1) + level(self.2);
        let mean = (u16::from(self.0) + u16::from(self.1) + u16::from(self.2)) / 3;
        let grey = 232 + (mean.saturating_sub(3) / 10).min(23) as u8;
        let wanted = Lab::from(self);
        let away = |index| wanted.distance(indexed(index).into());
        if away(grey) < away(cube) { grey } else { cube }
    }
}

impl Lab {
    /// How different two colours look; black and white are 1 apart.
    pub(crate) fn distance(self, other: Self) -> f32 {
        let (l, a, b) = (self.l - other.l, self.a - other.a, self.b - other.b);
        (l * l + a * a + b * b).sqrt()
    }

    /// Light intensities of the colour, possibly outside of `0 … 1`.
    pub(crate) fn linear(self) -> [f32; 3] {
        let l = (self.l + 0.396_337_78 * self.a + 0.215_803_76 * self.b).powi(3);
        let m = (self.l - 0.105_561_346 * self.a - 0.063_854_17 * self.b).powi(3);
        let s = (self.l - 0.089_484_18 * self.a - 1.291_485_5 * self.b).powi(3);
        [
            4.076_741_7 * l - 3.307_711_6 * m + 0.230_969_94 * s,
            -1.268_438 * l + 2.609_757_4 * m - 0.341_319_4 * s,
            -0.004_196_086 * l - 0.703_418_6 * m + 1.707_614_7 * s,
        ]
    }
}

impl From<Rgb> for Lab {
    fn from(rgb: Rgb) -> Self {
        Self::from(rgb.linear())
    }
}

impl From<[f32; 3]> for Lab {
    /// From light intensities `0 … 1`.
    fn from([r, g, b]: [f32; 3]) -> Self {
        let l = (0.412_221_46 * r + 0.536_332_55 * g + 0.051_445_995 * b).cbrt();
        let m = (0.211_903_5 * r + 0.680_699_5 * g + 0.107_396_96 * b).cbrt();
        let s = (0.088_302_46 * r + 0.281_718_85 * g + 0.629_978_7 * b).cbrt();
        Self {
            l: 0.210_454_26 * l + 0.793_617_8 * m - 0.004_072_047 * s,
            a: 1.977_998_5 * l - 2.428_592_2 * m + 0.450_593_7 * s,
            b: 0.025_904_037 * l + 0.782_771_77 * m - 0.808_675_77 * s,
        }
    }
}

/// The colour that xterm gives an index of `16 … 255`: a cube of six levels, then 24 greys.
pub(crate) fn indexed(index: u8) -> Rgb {
    let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
    if index >= 232 {
        let grey = 8 + 10 * (index - 232);
        return Rgb(grey, grey, grey);
    }
    let n = index.saturating_sub(16);
    Rgb(level(n / 36), level(n / 6 % 6), level(n % 6))
}

/// The place of a named colour among the sixteen that every terminal has; `None` for other kinds of colour.
pub(crate) fn ansi_index(color: Color) -> Option<usize> {
    Some(match color {
        Color::Black => 0,
        Color::Red => 1,
        Color::Green => 2,
        Color::Yellow => 3,
        Color::Blue => 4,
        Color::Magenta => 5,
        Color::Cyan => 6,
        Color::Gray => 7,
        Color::DarkGray => 8,
        Color::LightRed => 9,
        Color::LightGreen => 10,
        Color::LightYellow => 11,
        Color::LightBlue => 12,
        Color::LightMagenta => 13,
        Color::LightCyan => 14,
        Color::White => 15,
        Color::Indexed(index @ 0..16) => usize::from(index),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lab_of_known_colours() {
        // Published values: white is L 1, pure red is (0.628, 0.225, 0.126).
        let white = Lab::from(Rgb(255, 255, 255));
        assert!((white.l - 1.0).abs() < 1e-3 && white.a.abs() < 1e-3 && white.b.abs() < 1e-3, "{white:?}");
        let red = Lab::from(Rgb(255, 0, 0));
        assert!((red.l - 0.628).abs() < 1e-3 && (red.a - 0.225).abs() < 1e-3 && (red.b - 0.126).abs() < 1e-3);
    }

    #[test]
    fn contrast_of_black_and_white_is_21() {
        assert!((Rgb(0, 0, 0).contrast(Rgb(255, 255, 255)) - 21.0).abs() < 1e-3);
    }

    #[test]
    fn xterm_colours_are_their_own_nearest() {
        for index in 16..=255 {
            assert_eq!(indexed(indexed(index).nearest_indexed()), indexed(index), "{index}");
        }
    }

    proptest! {
        #[test]
        fn lab_and_back_is_the_same_colour(r: u8, g: u8, b: u8) {
            let back = Rgb::from_linear(Lab::from(Rgb(r, g, b)).linear());
            for (x, y) in [(r, back.0), (g, back.1), (b, back.2)] {
                prop_assert!(x.abs_diff(y) <= 1, "{back:?}");
            }
        }

        #[test]
        fn the_nearest_of_256_is_near(r: u8, g: u8, b: u8) {
            let near = indexed(Rgb(r, g, b).nearest_indexed());
            prop_assert!(Lab::from(Rgb(r, g, b)).distance(near.into()) < 0.2, "{near:?}");
        }
    }
}
