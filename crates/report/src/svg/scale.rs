//! From numbers to positions, and round numbers to label an axis with.

use crate::figure::Scale;
use crate::numbers;

/// One axis of a chart.
#[derive(Debug, Clone)]
pub(crate) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    /// Whether it counts something (iterates, steps): few enough counts are all labelled.
    counts: bool,
    /// Positions of `low` and `high` in the drawing.
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis over all drawable `values`, widened to round numbers on a linear scale. Without any, 0 to 1.
    pub(crate) fn new(scale: Scale, values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut counts = true;
        for value in values.filter(|v| drawable(scale, *v)) {
            (low, high) = (low.min(value), high.max(value));
            counts &= value.fract() == 0.0;
        }
        if low > high {
            (low, high) = if scale == Scale::Log { (0.1, 1.0) } else { (0.0, 1.0) };
        }
        let mut axis = Axis { scale, low, high, counts, from, to };
        axis.widen();
        axis
    }

    fn widen(&mut self) {
        match self.scale {
            Scale::Log => {
                // Half a step of room at a decade's end, whole decades where the range spans several.
                if self.high / self.low > 30.0 {
                    self.low = 10f64.powf(self.low.log10().floor());
                    self.high = 10f64.powf(self.high.log10().ceil());
                } else {
                    (self.low, self.high) = (self.low / 1.25, self.high * 1.25);
                }
            }
            Scale::Linear => {
                if self.high - self.low <= f64::EPSILON * self.high.abs().max(self.low.abs()) {
                    let room = if self.high == 0.0 { 1.0 } else { 0.5 * self.high.abs() };
                    (self.low, self.high) = (self.low - room, self.high + room);
                }
            }
        }
    }

    /// Widens a linear axis to whole steps, so that the grid encloses the data; one that nearly starts at
    /// zero starts there.
    pub(crate) fn over_whole_steps(mut self) -> Self {
        if self.scale == Scale::Linear {
            if self.low > 0.0 && self.low < 0.25 * self.high {
                self.low = 0.0;
            }
            let step = step(self.low, self.high);
            self.low = (self.low / step + 1e-9).floor() * step;
            self.high = (self.high / step - 1e-9).ceil() * step;
        }
        self
    }

    /// Where a value stands; nothing for one that cannot be drawn.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        if !drawable(self.scale, value) {
            return None;
        }
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Log => (value / self.low).log10() / (self.high / self.low).log10(),
        };
        let position = self.from + share * (self.to - self.from);
        position.is_finite().then_some(position)
    }

    /// Round values with their labels.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        match self.scale {
            Scale::Linear => {
                let few = self.counts && self.high - self.low <= 12.0;
                let step = if few { 1.0 } else { step(self.low, self.high) };
                let first = (self.low / step - 1e-9).ceil() as i64;
                let last = (self.high / step + 1e-9).floor() as i64;
                (first..=last.min(first + 20))
                    .map(|i| i as f64 * step)
                    .map(|v| (v, numbers::number(v)))
                    .collect()
            }
            Scale::Log => self.log_ticks(),
        }
    }

    fn log_ticks(&self) -> Vec<(f64, String)> {
        let first = self.low.log10().floor() as i32;
        let last = self.high.log10().ceil() as i32;
        let decades = last - first;
        let within = |v: f64| v >= self.low * 0.999 && v <= self.high * 1.001;
        if self.high / self.low < 30.0 {
            let values = (first..=last).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)));
            values.filter(|v| within(*v)).map(|v| (v, numbers::number(v))).collect()
        } else {
            let every = (decades / 8 + 1) as usize;
            let exponents = (first..=last).step_by(every);
            exponents.map(|e| (10f64.powi(e), power_of_ten(e))).filter(|(v, _)| within(*v)).collect()
        }
    }
}

fn drawable(scale: Scale, value: f64) -> bool {
    value.is_finite() && (scale == Scale::Linear || value > 0.0)
}

/// The step of about five between round numbers.
fn step(low: f64, high: f64) -> f64 {
    let rough = (high - low) / 5.0;
    let magnitude = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|m| m * magnitude >= rough * 0.999).unwrap_or(10.0);
    step * magnitude
}

fn power_of_ten(exponent: i32) -> String {
    match exponent {
        0 => "1".to_owned(),
        1 => "10".to_owned(),
        _ => {
            let raised = |c| match c {
                '-' => '⁻',
                '0' => '⁰',
                '1' => '¹',
                '2' => '²',
                '3' => '³',
                '4' => '⁴',
                '5' => '⁵',
                '6' => '⁶',
                '7' => '⁷',
                '8' => '⁸',
                _ => '⁹',
            };
            format!("10{}", exponent.to_string().chars().map(raised).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_ticks_are_round() {
        let axis = Axis::new(Scale::Linear, [1.0, 8.0].into_iter(), 0.0, 100.0).over_whole_steps();
        let labels: Vec<String> = axis.ticks().into_iter().map(|t| t.1).collect();
        assert_eq!(labels, ["0", "1", "2", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(axis.place(8.0), Some(100.0));
        assert_eq!(axis.place(f64::NAN), None);
    }

    #[test]
    fn log_ticks_are_decades_and_leave_out_what_has_no_logarithm() {
        let axis = Axis::new(Scale::Log, [0.0, -1.0, 1e-4, 0.5].into_iter(), 0.0, 100.0);
        let labels: Vec<String> = axis.ticks().into_iter().map(|t| t.1).collect();
        assert_eq!(labels, ["10⁻⁴", "10⁻³", "10⁻²", "10⁻¹", "1"]);
        assert_eq!(axis.place(0.0), None);
        assert!((axis.place(1e-2).unwrap() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn degenerate_ranges_have_an_axis() {
        for values in
            [vec![], vec![3.0], vec![0.0], vec![-2.0, -2.0], vec![f64::NAN], vec![f64::MIN, f64::MAX]]
        {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = Axis::new(scale, values.iter().copied(), 0.0, 100.0).over_whole_steps();
                assert!(axis.ticks().len() <= 21, "{values:?}");
            }
        }
    }
}
