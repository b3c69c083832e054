//! Colours by their role. The page leaves them to its style sheet, so that it can be dark; a file has them in full.

use std::borrow::Cow;

/// What a colour is for; how it looks stands in `colours.css`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Card,
    Ink,
    Soft,
    Grid,
    Clean,
    ReadyMade,
    Robust,
    Adaptive,
    BlackBox,
    Wrong,
    Unknown,
    OnDark,
    OnLight,
    /// A curve's, by its number; after [`SERIES`] they begin again.
    Series(usize),
}

/// How many curves differ in colour.
pub(crate) const SERIES: usize = 7;

impl Colour {
    /// Its name in the style sheet.
    fn name(self) -> &'static str {
        match self {
            Colour::Card => "card",
            Colour::Ink => "ink",
            Colour::Soft => "soft",
            Colour::Grid => "grid",
            Colour::Clean => "clean",
            Colour::ReadyMade => "ready-made",
            Colour::Robust => "robust",
            Colour::Adaptive => "adaptive",
            Colour::BlackBox => "black-box",
            Colour::Wrong => "wrong",
            Colour::Unknown => "unknown",
            Colour::OnDark => "on-dark",
            Colour::OnLight => "on-light",
            Colour::Series(i) => ["s0", "s1", "s2", "s3", "s4", "s5", "s6"][i % SERIES],
        }
    }

    /// The light scheme's value as the style sheet writes it, `#1f6fa8`: the one place that states it.
    pub(crate) fn light(self) -> &'static str {
        let sheet = include_str!("../export/colours.css");
        // The dark scheme comes after the light one, and the first entry is taken.
        let value = sheet.split_once(&format!("--{}:", self.name())).map(|(_, rest)| rest);
        let value = value.and_then(|rest| rest.split([';', '}']).next());
        value.unwrap_or("#000") // a test shows that none is missing
    }

    /// Red, green and blue of the light scheme, from 0 to 1.
    pub(crate) fn rgb(self) -> [f32; 3] {
        let digits = self.light().trim_start_matches('#');
        let channel = |i: usize| {
            let pair = match digits.len() {
                3 => digits.get(i..i + 1).map(|digit| digit.repeat(2)),
                _ => digits.get(2 * i..2 * i + 2).map(str::to_owned),
            };
            let value = pair.and_then(|pair| u8::from_str_radix(&pair, 16).ok());
            f32::from(value.unwrap_or(0)) / 255.0
        };
        [channel(0), channel(1), channel(2)]
    }
}

/// How colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Palette {
    /// By name: the page's style sheet knows them, light and dark.
    Page,
    /// In full, light: for programs that know no variables and for paper.
    Paper,
}

impl Palette {
    pub(crate) fn css(self, colour: Colour) -> Cow<'static, str> {
        match self {
            Palette::Page => Cow::Owned(format!("var(--{})", colour.name())),
            Palette::Paper => Cow::Borrowed(colour.light()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_colour_stands_in_the_style_sheet() {
        use Colour::*;
        let roles = [Card, Ink, Soft, Grid, Clean, ReadyMade, Robust, Adaptive, BlackBox, Wrong, Unknown];
        let all = roles.into_iter().chain([OnDark, OnLight]).chain((0..SERIES).map(Series));
        for colour in all {
            let value = colour.light();
            let hex = value.strip_prefix('#').unwrap_or_default();
            assert!(
                matches!(hex.len(), 3 | 6) && hex.chars().all(|c| c.is_ascii_hexdigit()),
                "{colour:?}: {value}"
            );
            assert!(value == "#000" || colour.rgb() != [0.0; 3], "{colour:?}");
            assert_ne!(value, "#000", "{colour:?} is missing");
        }
        assert_eq!(Robust.rgb(), [0x1f, 0x6f, 0xa8].map(|v| f32::from(v as u8) / 255.0));
        assert_eq!(Card.rgb(), [1.0; 3]);
    }
}
