//! Figures as characters: small lines in tables, larger graphs over time.

/// Eight levels and nothing.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// The same for terminals that have only ASCII.
const ASCII: [char; 9] = [' ', '.', ',', ':', '-', '=', '+', '*', '#'];

/// Which characters may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Glyphs {
    Unicode,
    Ascii,
}

impl Glyphs {
    const fn levels(self) -> &'static [char; 9] {
        match self {
            Self::Unicode => &BLOCKS,
            Self::Ascii => &ASCII,
        }
    }

    /// A column that is filled to `eighths`.
    fn level(self, eighths: usize) -> char {
        self.levels()[eighths.min(8)]
    }

    /// A line from left to right.
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Unicode => "─",
            Self::Ascii => "-",
        }
    }
}

/// How many eighths of `height` cells a value fills. What is not zero shows at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and that is meant"
)]
fn eighths(value: f64, most: f64, height: usize) -> usize {
    if value <= 0.0 || most <= 0.0 {
        return 0;
    }
    let all = height * 8;
    let filled = (value / most * all as f64).round() as usize;
    filled.clamp(1, all)
}

/// The last `width` values as one line of text; the newest is at the right.
pub(super) fn line(values: &[Option<f64>], most: f64, width: usize, glyphs: Glyphs) -> String {
    let skip = values.len().saturating_sub(width);
    let empty = width.saturating_sub(values.len());
    let shown = values[skip..].iter().map(|value| match value {
        Some(value) => glyphs.level(eighths(*value, most, 1).max(1)),
        None => ' ',
    });
    std::iter::repeat_n(' ', empty).chain(shown).collect()
}

/// Columns of `height` rows, top row first. Values are spread over the whole width.
pub(super) fn columns(
    values: &[Option<f64>],
    most: f64,
    width: usize,
    height: usize,
    glyphs: Glyphs,
) -> Vec<String> {
    let mut rows = vec![String::with_capacity(width * 3); height];
    for column in 0..width {
        let value = if values.is_empty() {
            None
        } else {
            // Where several values share a column, the highest is shown: a peak must not vanish.
            let from = column * values.len() / width.max(1);
            let to = ((column + 1) * values.len() / width.max(1)).max(from + 1);
            let those = values[from..to.min(values.len())].iter().flatten();
            those.copied().reduce(f64::max)
        };
        let filled = value.map_or(0, |value| eighths(value, most, height));
        for (row, text) in rows.iter_mut().enumerate() {
            let below = (height - 1 - row) * 8;
            let cell = match value {
                // Zero and nothing are not the same.
                Some(_) if filled == 0 && row + 1 == height => glyphs.level(1),
                Some(_) => glyphs.level(filled.saturating_sub(below)),
                None => ' ',
            };
            text.push(cell);
        }
    }
    rows
}

/// A round number at or above the highest value, for the top of a graph.
pub(super) fn ceiling(values: &[Option<f64>], least: f64, binary: bool) -> f64 {
    let most = values.iter().flatten().copied().fold(least, f64::max);
    let base: f64 = if binary { 2.0 } else { 10.0 };
    let power = base.powf(most.log(base).floor());
    let steps: &[f64] = if binary {
        &[1.0, 1.25, 1.5, 1.75, 2.0]
    } else {
        &[1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
    };
    steps
        .iter()
        .map(|step| step * power)
        .find(|top| *top >= most)
        .unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_the_newest_values_at_the_right() {
        let values = [Some(9.0), Some(0.0), Some(4.0), None, Some(8.0)];
        assert_eq!(line(&values, 8.0, 4, Glyphs::Unicode), "▁▄ █");
        assert_eq!(line(&values[..1], 9.0, 3, Glyphs::Ascii), "  #");
    }

    #[test]
    fn columns_fill_from_below_and_keep_peaks() {
        let values: Vec<Option<f64>> = [0.0, 16.0, 8.0, 1.0].map(Some).to_vec();
        assert_eq!(columns(&values, 16.0, 4, 2, Glyphs::Unicode), [" █  ", "▁██▁"]);
        assert_eq!(columns(&values, 16.0, 2, 1, Glyphs::Unicode), ["█▄"]);
        assert_eq!(columns(&[], 1.0, 3, 1, Glyphs::Unicode), ["   "]);
    }

    #[test]
    fn a_ceiling_is_round_and_high_enough() {
        assert!((ceiling(&[Some(37.0)], 1.0, false) - 40.0).abs() < 1e-9);
        assert!((ceiling(&[Some(100.0 * 1024.0)], 1.0, true) - 112.0 * 1024.0).abs() < 1e-6);
        assert!((ceiling(&[], 1.0, false) - 1.0).abs() < 1e-9);
    }
}
