//! A chart of curves as plain data: what a diagnosis draws, without saying how.

use serde::{Deserialize, Deserializer, Serialize};

/// A chart with one or more series over a common pair of axes.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Figure {
    /// What is shown, in a few words.
    pub title: String,
    /// How to read it and where it comes from: data set, budget, count, estimator, readout.
    pub caption: String,
    /// Name and unit of the horizontal axis.
    pub x_label: String,
    /// Name and unit of the vertical axis.
    pub y_label: String,
    /// Scale of the horizontal axis.
    pub x_scale: Scale,
    /// Scale of the vertical axis.
    pub y_scale: Scale,
    /// Whether a linear vertical axis begins at zero, so that small differences look small.
    pub from_zero: bool,
    /// How the points are drawn.
    pub kind: Kind,
    /// The series, in the order of the legend.
    pub series: Vec<Series>,
    /// What was fitted to the points: lines without marks, after the series in the legend. Their bands are areas.
    pub trends: Vec<Series>,
    /// Places on the horizontal axis that are marked by a line, such as the setting that is deployed.
    pub marks: Vec<Mark>,
}

/// A marked place on the horizontal axis.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Mark {
    /// Where.
    pub at: f64,
    /// What is there, in a few words.
    pub says: String,
}

/// One curve.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Points (x, y) in drawing order. A point that is not finite, or not positive on a logarithmic axis,
    /// is left out and interrupts the curve; the data table below the figure still lists it.
    #[serde(deserialize_with = "pairs")]
    pub points: Vec<(f64, f64)>,
    /// A band around the curve, such as the 10th to 90th percentile: one pair (low, high) for each point.
    #[serde(deserialize_with = "optional_pairs")]
    pub band: Option<Vec<(f64, f64)>>,
}

/// The scale of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// Equal steps are equal differences.
    #[default]
    Linear,
    /// Equal steps are equal ratios.
    Log,
}

/// How the points of a figure are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Joined by lines, with a mark at each point where there is room.
    #[default]
    Lines,
    /// Marks alone.
    Points,
}

/// JSON has no NaN: serde_json writes `null`, which is read back as NaN.
fn pairs<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<(f64, f64)>, D::Error> {
    let pairs = Vec::<(Option<f64>, Option<f64>)>::deserialize(from)?;
    Ok(pairs.into_iter().map(nulls_to_nan).collect())
}

fn optional_pairs<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<(f64, f64)>>, D::Error> {
    let pairs = Option::<Vec<(Option<f64>, Option<f64>)>>::deserialize(from)?;
    Ok(pairs.map(|p| p.into_iter().map(nulls_to_nan).collect()))
}

fn nulls_to_nan((a, b): (Option<f64>, Option<f64>)) -> (f64, f64) {
    (a.unwrap_or(f64::NAN), b.unwrap_or(f64::NAN))
}
