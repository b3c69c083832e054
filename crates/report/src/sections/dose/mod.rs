//! Dose and response: how large the gap of each readout is against the residual of the state that it reads, and against
//! the cosine of the training gradient to the true one, all models in one picture.
//!
//! A point is an evaluated readout with a control whose model file was diagnosed too.

mod csv;
mod epochs;
mod figures;
mod page;
mod points;
mod tables;

pub use self::csv::dose_csv;
pub(super) use page::GapAgainstResidual;

use self::points::Point;
use crate::{derived, numbers};
use equipoise_record::{ArmRun, Arms, Diagnosis, Evaluation};
use equipoise_verdict::{Estimate, FEWEST_CLUSTERS, LEAST_DIFFERENCE, Observation, Trend};

/// How to read the figures and tables, to be said once beside them.
const ABOUT: &str = "Each point is one model behind one readout. Gap: (b − c)/n, what the white-box arm broke \
    beyond its twins through the training gradient, in points, at the largest ε. Residual: relative, of the state that is \
    read: z_t behind early(t); behind final z_T, T the steps of the deployed solver; of an ensemble the geometric mean over \
    z_1 to z_T. Cosine: of the training gradient to the true gradient of the readout (through-solver); of ensembles it is \
    not measured. Both are medians over clean images, of a solver that does not stop at its tolerance. Trends are fitted \
    to readouts of one state, final and early(t), by weighted least squares; ensembles are shown only. Their intervals \
    come from a bootstrap over training runs, since epochs and readouts of one run are not independent; of few runs such \
    intervals are somewhat too narrow. A trend is an association: what else differs between the models is not held fixed.";

/// Which gradients the white-box arm had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    /// `through-solver` among them.
    TrueGradient,
    /// Others only, such as those of the paper.
    OtherGradients,
}

impl Rung {
    fn name(self) -> &'static str {
        match self {
            Self::TrueGradient => "true gradient",
            Self::OtherGradients => "other gradients",
        }
    }
}

/// What a gap is held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dose {
    /// The relative residual of the state that is read.
    Residual,
    /// The cosine of the training gradient to the true one.
    Cosine,
}

impl Dose {
    const ALL: [Self; 2] = [Self::Residual, Self::Cosine];

    fn name(self) -> &'static str {
        match self {
            Self::Residual => "residual",
            Self::Cosine => "cosine",
        }
    }

    /// What was measured of a point.
    fn of(self, point: &Point) -> Option<f64> {
        match self {
            Self::Residual => point.residual.map(|measured| measured.median),
            Self::Cosine => point.cosine.map(|measured| measured.median),
        }
    }

    /// The scale on which a trend is a line; on it the gap is expected to rise.
    fn scaled(self, measured: f64) -> f64 {
        match self {
            Self::Residual => measured.log10(),
            Self::Cosine => 1.0 - measured,
        }
    }

    /// What was measured, of its place on that scale.
    fn unscaled(self, scaled: f64) -> f64 {
        match self {
            Self::Residual => 10_f64.powf(scaled),
            Self::Cosine => 1.0 - scaled,
        }
    }
}

/// Points that may be compared: of one data set, budget and count, and of one rung.
struct Group<'a> {
    pub setting: String,
    pub rung: Rung,
    pub points: Vec<Point<'a>>,
    trends: [Option<Trend>; 2],
}

/// Everything that can be said of some evaluations and diagnoses.
struct Dosed<'a> {
    pub groups: Vec<Group<'a>>,
    /// What has no point, or is missing in a figure, and why.
    pub notes: Vec<String>,
}

impl<'a> Dosed<'a> {
    /// Nothing with fewer than two points: it takes two to show a relation.
    fn of(models: &'a [Evaluation], diagnoses: &'a [Diagnosis]) -> Option<Self> {
        let found = points::find(models, diagnoses);
        if found.points.len() < 2 {
            return None;
        }
        let mut notes = found.left_out;
        notes.extend(points::missing(&found.points));
        let mut groups: Vec<Group> = Vec::new();
        for point in found.points {
            let setting = derived::setting(point.model);
            match groups.iter_mut().find(|g| g.setting == setting && g.rung == point.rung) {
                Some(group) => group.points.push(point),
                None => {
                    let (rung, points) = (point.rung, vec![point]);
                    groups.push(Group { setting, rung, points, trends: [None, None] });
                }
            }
        }
        for group in &mut groups {
            group.trends = Dose::ALL.map(|dose| Trend::of(&group.observations(dose)));
        }
        Some(Self { groups, notes })
    }
}

impl Group<'_> {
    fn trend(&self, dose: Dose) -> Option<&Trend> {
        match dose {
            Dose::Residual => self.trends[0].as_ref(),
            Dose::Cosine => self.trends[1].as_ref(),
        }
    }

    /// What a trend is fitted to.
    fn observations(&self, dose: Dose) -> Vec<Observation> {
        let of = |point: &Point| {
            let x = dose.scaled(dose.of(point).filter(|_| point.fitted())?);
            Some(Observation { x, y: point.gap, interval: point.interval, cluster: point.run })
        };
        self.points.iter().filter_map(of).collect()
    }

    /// Where the numbers of some of the points come from: data set, budget, count, models, readouts, gradients, effort,
    /// images of the diagnoses.
    fn provenance(&self, points: &[&Point]) -> String {
        let distinct = |of: &dyn Fn(&Point) -> Vec<String>| {
            let mut all: Vec<String> = Vec::new();
            for one in points.iter().flat_map(|point| of(point)) {
                if !all.contains(&one) {
                    all.push(one);
                }
            }
            all
        };
        let gradients = |of: fn(&Arms) -> &Vec<ArmRun>| {
            let names = |point: &Point| {
                of(&point.readout.verdict.arms).iter().map(|run| run.estimator.clone()).collect()
            };
            match distinct(&names) {
                few if few.len() <= 3 => numbers::list(&few),
                many => format!("{} gradient estimators", many.len()),
            }
        };
        let images = distinct(&|point| {
            let measured = [point.residual, point.cosine, point.radius].into_iter().flatten();
            measured.map(|measured| numbers::thousands(measured.images as u64)).collect()
        });
        let diagnosed = match images.is_empty() {
            true => String::new(),
            false => format!(" Diagnosed on {} clean images.", numbers::list(&images)),
        };
        format!(
            "{}; {} of {} from {}; readouts {}. White-box arm through {}, its twins through the training gradient ({}); {} \
             in each arm.{diagnosed}",
            self.setting,
            counted(points.len(), "point"),
            counted(distinct(&|point| vec![point.file()]).len(), "model"),
            training_runs(points.iter().map(|point| point.run)),
            numbers::list(&distinct(&|point| vec![point.readout.name.clone()])),
            gradients(|arms| &arms.white_box),
            gradients(|arms| &arms.ready_made),
            numbers::list(&distinct(&|point| vec![point.effort()])),
        )
    }

    /// What the trend against one measure is, with its uncertainty, and where obfuscation begins.
    fn sentence(&self, dose: Dose) -> String {
        let fitted = self.observations(dose);
        let subject = format!(
            "Gap against {}, {}: {} of {}",
            dose.name(),
            self.rung.name(),
            counted(fitted.len(), "point"),
            training_runs(fitted.iter().map(|o| o.cluster))
        );
        let Some(trend) = self.trend(dose) else {
            let why = match fitted.iter().any(|o| o.x != fitted[0].x) {
                _ if fitted.is_empty() => "there is nothing to fit".to_owned(),
                true => format!("with fewer than {FEWEST_CLUSTERS} training runs no trend is fitted"),
                false => format!("without different {}s no trend is fitted", dose.name()),
            };
            return format!("{subject}; {why}.");
        };
        // Of the slope in the unit that the sentence names.
        let slope = |unit: f64| {
            let Estimate { value, interval } = trend.slope;
            format!(
                "{} points, 95% interval {}",
                numbers::points(unit * value),
                numbers::points_interval(interval.map(|end| unit * end))
            )
        };
        let changes = match dose {
            Dose::Residual => format!("with every tenfold residual the gap grows by {}", slope(1.0)),
            Dose::Cosine => format!("with every 0.1 that the cosine falls the gap grows by {}", slope(0.1)),
        };
        let rank = trend.rank_correlation.map_or("all gaps are the same".to_owned(), |rank| {
            // Against the cosine itself, which falls where its scale rises.
            let sign = if dose == Dose::Cosine { -1.0 } else { 1.0 };
            let [a, b] = rank.interval.map(|end| sign * end);
            format!(
                "Spearman's rank correlation {} [{}, {}]",
                correlation(sign * rank.value),
                correlation(a.min(b)),
                correlation(a.max(b))
            )
        });
        format!("{subject}; {changes}; {rank}. {}", self.onset(dose, trend))
    }

    /// From where on the gap is above a point.
    fn onset(&self, dose: Dose, trend: &Trend) -> String {
        let least = format!("{} point", numbers::number(100.0 * LEAST_DIFFERENCE));
        let ends = [trend.rising.first(), trend.rising.last()].map(|end| end.map(|fitted| fitted.x));
        let value = |x: Option<f64>| x.map_or(String::new(), |x| numbers::number(dose.unscaled(x)));
        let onset = trend.exceeds(LEAST_DIFFERENCE);
        let beyond = if dose == Dose::Residual { "up" } else { "down" };
        let measure = dose.name();
        let begins = match onset {
            None => format!(
                "lies above {least} nowhere, {beyond} to the {measure} {}: where obfuscation begins cannot be determined",
                value(ends[1])
            ),
            Some(_) if onset == ends[0] => format!(
                "lies above {least} at every {measure} that was measured, from {} on: obfuscation begins before it",
                value(onset)
            ),
            Some(_) => format!(
                "lies above {least} from the {measure} {} {}: obfuscation is shown from there",
                value(onset),
                if dose == Dose::Residual { "on" } else { "down" }
            ),
        };
        format!("The lower 95% bound of a fit that never falls {begins}.")
    }
}

fn counted(n: usize, what: &str) -> String {
    format!("{} {what}{}", numbers::thousands(n as u64), if n == 1 { "" } else { "s" })
}

fn training_runs(runs: impl Iterator<Item = usize>) -> String {
    let distinct: std::collections::BTreeSet<usize> = runs.collect();
    counted(distinct.len(), "training run")
}

/// `0.71`, `−0.08`.
fn correlation(value: f64) -> String {
    format!("{value:.2}").replace('-', "−")
}
