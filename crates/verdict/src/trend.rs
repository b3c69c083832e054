//! How gaps depend on something that was measured: a line, a rising fit and a rank correlation, bootstrapped over clusters.
//!
//! Gaps behind several readouts and after several epochs of one training run are not independent. The clusters, not the
//! points, are therefore drawn with replacement (Davison and Hinkley 1997, Bootstrap Methods and their Application,
//! section 3.8), and intervals are percentiles of what the draws give. Of few clusters such intervals are somewhat too
//! narrow.

use std::collections::BTreeMap;

use equipoise_record::Interval;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Fewest clusters to which a trend is fitted.
pub const FEWEST_CLUSTERS: usize = 4;

/// Draws of the bootstrap.
const DRAWS: usize = 2000;
/// Keys the draws: the same observations always have the same trend.
const SEED: u64 = 0;
/// The least standard error that an interval is taken for, lest one of no width outweigh all others.
const LEAST_ERROR: f64 = 1e-4;

/// One gap and what it is held against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observation {
    /// What was measured.
    pub x: f64,
    /// The gap.
    pub y: f64,
    /// Its 95% interval.
    pub interval: Interval,
    /// Observations of one cluster are not independent of each other.
    pub cluster: usize,
}

/// A number with its 95% interval over clusters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Its interval.
    pub interval: Interval,
}

/// A fit at one place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fitted {
    /// Where.
    pub x: f64,
    /// The fit with its pointwise interval.
    pub y: Estimate,
}

/// How a gap depends on what it is held against.
#[derive(Debug, Clone, PartialEq)]
pub struct Trend {
    /// How many observations there are.
    pub points: usize,
    /// And how many clusters.
    pub clusters: usize,
    /// Slope of the line.
    pub slope: Estimate,
    /// Spearman's rank correlation. Absent where all gaps are the same.
    pub rank_correlation: Option<Estimate>,
    /// The line of weighted least squares, at every x that was observed, from the smallest up.
    pub line: Vec<Fitted>,
    /// The weighted least-squares fit among all that never fall, at the same places: a step function, constant from each
    /// x to the next.
    pub rising: Vec<Fitted>,
}

impl Trend {
    /// The trend of some observations, each weighted by 1/(s² + τ²): s is the standard error that its interval says, τ²
    /// the scatter of the gaps around the line beyond s, by the method of moments (DerSimonian and Laird 1986; for
    /// regressions Thompson and Sharp 1999, Statistics in Medicine 18:2693). Without τ², the gaps near 0, whose intervals
    /// are the narrowest, would decide the line alone.
    ///
    /// `None` with fewer than [`FEWEST_CLUSTERS`] clusters, or where every x is the same.
    pub fn of(observations: &[Observation]) -> Option<Self> {
        let mut clusters: BTreeMap<usize, Vec<Observation>> = BTreeMap::new();
        for observation in observations {
            clusters.entry(observation.cluster).or_default().push(*observation);
        }
        let clusters: Vec<Vec<Observation>> = clusters.into_values().collect();
        if clusters.len() < FEWEST_CLUSTERS {
            return None;
        }
        let all = Fits::of(observations)?;
        let mut places: Vec<f64> = observations.iter().map(|observation| observation.x).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();

        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let draws = (0..DRAWS).filter_map(|_| {
            let draw = (0..clusters.len()).flat_map(|_| &clusters[rng.random_range(0..clusters.len())]);
            // A draw whose x are all the same has no line, and is left out.
            Fits::of(&draw.copied().collect::<Vec<_>>())
        });
        let draws: Vec<Fits> = draws.collect();
        if draws.is_empty() {
            return None;
        }
        let estimate = |of: &dyn Fn(&Fits) -> f64| Estimate {
            value: of(&all),
            interval: percentiles(draws.iter().map(of).collect()),
        };
        let fit = |of: &dyn Fn(&Fits, f64) -> f64| {
            let at = |&x: &f64| Fitted { x, y: estimate(&|fits| of(fits, x)) };
            places.iter().map(at).collect::<Vec<_>>()
        };
        let rank_correlation = all.rank_correlation.map(|value| Estimate {
            value,
            interval: percentiles(draws.iter().filter_map(|fits| fits.rank_correlation).collect()),
        });
        Some(Self {
            points: observations.len(),
            clusters: clusters.len(),
            slope: estimate(&|fits| fits.line.slope),
            rank_correlation,
            line: fit(&|fits, x| fits.line.at(x)),
            rising: fit(&|fits, x| fits.rising.at(x)),
        })
    }

    /// The smallest x that was observed at which the lower bound of [`rising`](Self::rising) lies above `margin`. It lies
    /// above it at all larger ones too. `None` if it does so nowhere.
    pub fn exceeds(&self, margin: f64) -> Option<f64> {
        self.rising.iter().find(|fitted| fitted.y.interval[0] > margin).map(|fitted| fitted.x)
    }
}

/// Everything that is fitted to some observations.
struct Fits {
    line: Line,
    rising: Rising,
    rank_correlation: Option<f64>,
}

impl Fits {
    fn of(observations: &[Observation]) -> Option<Self> {
        let variances: Vec<f64> = observations.iter().map(variance).collect();
        let weights = |scatter: f64| -> Vec<f64> { variances.iter().map(|v| 1.0 / (v + scatter)).collect() };
        let alone = weights(0.0);
        let weights = weights(Line::of(observations, &alone)?.scatter(observations, &alone));
        Some(Self {
            line: Line::of(observations, &weights)?,
            rising: Rising::of(observations, &weights),
            rank_correlation: rank_correlation(observations),
        })
    }
}

/// The variance that an observation's interval says.
fn variance(observation: &Observation) -> f64 {
    let [low, high] = observation.interval;
    // 95% of a normal distribution lie within 1.96 standard errors of its middle.
    ((high - low) / (2.0 * 1.959_964)).max(LEAST_ERROR).powi(2)
}

/// A line, by its height at `middle`, the weighted mean of x.
struct Line {
    middle: f64,
    height: f64,
    slope: f64,
}

impl Line {
    /// Weighted least squares; `None` where every x is the same.
    fn of(observations: &[Observation], weights: &[f64]) -> Option<Self> {
        let first = observations.first()?;
        if observations.iter().all(|o| o.x == first.x) {
            return None;
        }
        let sum = |of: &dyn Fn(&Observation) -> f64| -> f64 {
            observations.iter().zip(weights).map(|(o, w)| w * of(o)).sum()
        };
        let total = sum(&|_| 1.0);
        let (middle, height) = (sum(&|o| o.x) / total, sum(&|o| o.y) / total);
        let slope = sum(&|o| (o.x - middle) * (o.y - height)) / sum(&|o| (o.x - middle).powi(2));
        slope.is_finite().then_some(Self { middle, height, slope })
    }

    fn at(&self, x: f64) -> f64 {
        self.height + self.slope * (x - self.middle)
    }

    /// The variance of the observations around this line beyond that which their intervals say.
    fn scatter(&self, observations: &[Observation], weights: &[f64]) -> f64 {
        let sum = |of: &dyn Fn(&Observation, f64) -> f64| -> f64 {
            observations.iter().zip(weights).map(|(o, w)| of(o, *w)).sum()
        };
        let from = |o: &Observation| o.x - self.middle;
        let misfit = sum(&|o, w| w * (o.y - self.at(o.x)).powi(2));
        // x is centred, so the two columns of the design are orthogonal under the weights.
        let total = sum(&|_, w| w);
        let used = sum(&|_, w| w * w) / total
            + sum(&|o, w| (w * from(o)).powi(2)) / sum(&|o, w| w * from(o).powi(2));
        let excess = misfit - (observations.len() as f64 - 2.0);
        if excess > 0.0 && total > used { excess / (total - used) } else { 0.0 }
    }
}

/// A step function that never falls, by its value at each x, from the smallest up.
struct Rising(Vec<(f64, f64)>);

impl Rising {
    /// Isotonic regression: neighbours that would fall are pooled (Ayer et al. 1955).
    fn of(observations: &[Observation], weights: &[f64]) -> Self {
        let mut order: Vec<(&Observation, f64)> = observations.iter().zip(weights.iter().copied()).collect();
        order.sort_by(|(a, _), (b, _)| a.x.total_cmp(&b.x));
        // Each pool: weighted mean, weight, its places.
        let mut pools: Vec<(f64, f64, Vec<f64>)> = Vec::new();
        for same in order.chunk_by(|(a, _), (b, _)| a.x == b.x) {
            let weight: f64 = same.iter().map(|(_, w)| w).sum();
            let mean = same.iter().map(|(o, w)| w * o.y).sum::<f64>() / weight;
            let mut pool = (mean, weight, vec![same[0].0.x]);
            while let Some(before) = pools.pop_if(|before| before.0 >= pool.0) {
                let weight = before.1 + pool.1;
                let mean = (before.0 * before.1 + pool.0 * pool.1) / weight;
                pool = (mean, weight, [before.2, pool.2].concat());
            }
            pools.push(pool);
        }
        Self(pools.into_iter().flat_map(|(mean, _, xs)| xs.into_iter().map(move |x| (x, mean))).collect())
    }

    /// Below the smallest x, the value there.
    fn at(&self, x: f64) -> f64 {
        let after = self.0.partition_point(|step| step.0 <= x);
        self.0[after.saturating_sub(1)].1
    }
}

/// Spearman's: the correlation of the ranks, those of equal numbers being their mean.
fn rank_correlation(observations: &[Observation]) -> Option<f64> {
    let x = ranks(observations.iter().map(|o| o.x).collect());
    let y = ranks(observations.iter().map(|o| o.y).collect());
    // The mean of the ranks, tied or not.
    let mean = (observations.len() as f64 + 1.0) / 2.0;
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let spread = (product(&x, &x) * product(&y, &y)).sqrt();
    (spread > 0.0).then(|| product(&x, &y) / spread)
}

fn ranks(values: Vec<f64>) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for tied in order.chunk_by(|&i, &j| values[i] == values[j]) {
        for &at in tied {
            ranks[at] = before as f64 + (tied.len() as f64 + 1.0) / 2.0;
        }
        before += tied.len();
    }
    ranks
}

/// The 2.5th and the 97.5th percentile, interpolated; NaN of nothing.
fn percentiles(mut values: Vec<f64>) -> Interval {
    values.sort_by(f64::total_cmp);
    [0.025, 0.975].map(|share| {
        let place = share * values.len().saturating_sub(1) as f64;
        match (values.get(place.floor() as usize), values.get(place.ceil() as usize)) {
            (Some(below), Some(above)) => below + (above - below) * place.fract(),
            _ => f64::NAN,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observation(x: f64, y: f64, error: f64, cluster: usize) -> Observation {
        Observation { x, y, interval: [y - 1.96 * error, y + 1.96 * error], cluster }
    }

    /// Twelve clusters of six observations on y = 2 + 3x, each cluster moved as a whole and each observation on its own.
    fn planted(between: f64, within: f64, seed: u64) -> Vec<Observation> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut noise = |size: f64| {
            // Of variance size².
            size * (12.0_f64).sqrt() * (rng.random::<f64>() - 0.5)
        };
        let mut all = Vec::new();
        for cluster in 0..12 {
            // A cluster's observations lie near each other.
            let (x, moved) = (cluster as f64 / 4.0, noise(between));
            for _ in 0..6 {
                let x = x + noise(0.2);
                all.push(observation(x, 2.0 + 3.0 * x + moved + noise(within), within, cluster));
            }
        }
        all
    }

    #[test]
    fn a_planted_slope_lies_within_its_interval() {
        let mut covered = 0;
        for seed in 0..40 {
            let trend = Trend::of(&planted(0.5, 0.2, seed)).unwrap();
            assert_eq!((trend.points, trend.clusters), (72, 12));
            let Estimate { value, interval: [low, high] } = trend.slope;
            assert!(low <= value && value <= high && (value - 3.0).abs() < 0.6, "{:?}", trend.slope);
            assert!(high - low < 1.5, "{:?}", trend.slope);
            covered += usize::from(low <= 3.0 && 3.0 <= high);
        }
        // 38 are expected, and somewhat fewer of twelve clusters; of an exact interval fewer than 32 have a probability
        // below 0.001.
        assert!((32..=40).contains(&covered), "{covered}");
    }

    #[test]
    fn clusters_widen_the_interval_where_their_points_go_together() {
        let width = |trend: &Trend| trend.slope.interval[1] - trend.slope.interval[0];
        let clustered = planted(0.5, 0.1, 1);
        let mut alone = clustered.clone();
        alone.iter_mut().enumerate().for_each(|(at, one)| one.cluster = at);
        let (clustered, alone) = (Trend::of(&clustered).unwrap(), Trend::of(&alone).unwrap());
        assert_eq!(clustered.slope.value, alone.slope.value);
        assert!(width(&clustered) > 1.5 * width(&alone), "{:?} {:?}", clustered.slope, alone.slope);
    }

    #[test]
    fn the_line_is_that_of_weighted_least_squares() {
        // By hand: weights 1, 1, 1/4 at x = 0, 1, 2 and y = 0, 1, 4 have the means 2/3 and 8/9, and the slope
        // (11/3) / 1 of their centred sums: Σw(x−x̄)(y−ȳ) = 3 − 2.25·(2/3)(8/9), Σw(x−x̄)² = 2 − 2.25·(4/9).
        let points = [(0.0, 0.0, 1.0), (1.0, 1.0, 1.0), (2.0, 4.0, 2.0)];
        let points = points.map(|(x, y, error)| observation(x, y, error, 0));
        let weights = [1.0, 1.0, 0.25];
        let line = Line::of(&points, &weights).unwrap();
        let expected = (3.0 - 2.25 * (2.0 / 3.0) * (8.0 / 9.0)) / (2.0 - 2.25 * (4.0 / 9.0));
        assert!((line.slope - expected).abs() < 1e-12, "{}", line.slope);
        assert!((line.at(2.0 / 3.0) - 8.0 / 9.0).abs() < 1e-12);
        assert!(Line::of(&[points[1], points[1]], &[1.0, 1.0]).is_none());
    }

    #[test]
    fn scatter_is_what_the_errors_do_not_explain() {
        // Equal errors: the estimate is the residual variance less theirs. Residuals −3, 3, 3, −3 around a level line.
        let points: Vec<Observation> = [(0.0, -3.0), (1.0, 3.0), (2.0, 3.0), (3.0, -3.0)]
            .map(|(x, y)| observation(x, y, 1.0, 0))
            .to_vec();
        let line = Line::of(&points, &[1.0; 4]).unwrap();
        assert!((line.scatter(&points, &[1.0; 4]) - (36.0 / 2.0 - 1.0)).abs() < 1e-9);
        let weights = [0.01; 4];
        assert_eq!(line.scatter(&points, &weights), 0.0);
    }

    #[test]
    fn the_rising_fit_pools_what_falls() {
        let points = [(1.0, 1.0), (2.0, 4.0), (3.0, 2.0), (4.0, 3.0), (5.0, 9.0), (5.0, 7.0)];
        let points = points.map(|(x, y)| observation(x, y, 1.0, 0));
        let rising = Rising::of(&points, &[1.0; 6]);
        assert_eq!(rising.0, [(1.0, 1.0), (2.0, 3.0), (3.0, 3.0), (4.0, 3.0), (5.0, 8.0)]);
        assert_eq!([0.0, 1.0, 2.5, 4.9, 6.0].map(|x| rising.at(x)), [1.0, 1.0, 3.0, 3.0, 8.0]);
        let heavy = Rising::of(&points[1..3], &[3.0, 1.0]);
        assert_eq!(heavy.0, [(2.0, 3.5), (3.0, 3.5)]);
    }

    #[test]
    fn ranks_of_equal_numbers_are_shared() {
        assert_eq!(ranks(vec![3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]);
        let of = |pairs: &[(f64, f64)]| {
            rank_correlation(&pairs.iter().map(|&(x, y)| observation(x, y, 1.0, 0)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[(1.0, 2.0), (2.0, 30.0), (3.0, 400.0)]), Some(1.0));
        assert_eq!(of(&[(1.0, 2.0), (2.0, 1.0), (3.0, 0.0)]), Some(-1.0));
        // 1 − 6·Σd²/(n(n² − 1)) without ties.
        let found = of(&[(1.0, 2.0), (2.0, 1.0), (3.0, 4.0), (4.0, 3.0), (5.0, 5.0)]).unwrap();
        assert!((found - 0.8).abs() < 1e-12);
        assert_eq!(of(&[(1.0, 2.0), (2.0, 2.0)]), None);
    }

    #[test]
    fn a_threshold_is_found_where_there_is_one() {
        // Nothing up to x = 5, then one more with every step; six clusters that agree but for a little.
        let mut points = Vec::new();
        for cluster in 0..6 {
            for x in 0..10 {
                let y = (f64::from(x) - 5.0).max(0.0) + 0.01 * cluster as f64;
                points.push(observation(f64::from(x), y, 0.1, cluster));
            }
        }
        let trend = Trend::of(&points).unwrap();
        assert_eq!(trend.exceeds(0.5), Some(6.0));
        assert_eq!(trend.exceeds(-1.0), Some(0.0));
        assert_eq!(trend.exceeds(9.0), None);
        let bounds: Vec<f64> = trend.rising.iter().map(|fitted| fitted.y.interval[0]).collect();
        assert!(bounds.is_sorted() && bounds.len() == 10, "{bounds:?}");
        // The straight line, which does not know of the threshold, would place it elsewhere.
        assert!(trend.line[4].y.interval[0] > 0.5, "{:?}", trend.line[4]);
        assert_eq!(Trend::of(&points), Some(trend), "the draws have a fixed seed");
    }

    #[test]
    fn too_few_clusters_have_no_trend() {
        let of = |clusters: usize| {
            let points = (0..12).map(|k| observation(k as f64, k as f64, 1.0, k % clusters));
            Trend::of(&points.collect::<Vec<_>>())
        };
        assert!(of(3).is_none() && of(4).is_some());
        let level: Vec<Observation> = (0..8).map(|k| observation(1.0, k as f64, 1.0, k)).collect();
        assert!(Trend::of(&level).is_none() && Trend::of(&[]).is_none());
        let flat: Vec<Observation> = (0..8).map(|k| observation(k as f64, 0.0, 0.0, k)).collect();
        let flat = Trend::of(&flat).unwrap();
        assert_eq!((flat.slope.value, flat.rank_correlation, flat.exceeds(0.01)), (0.0, None, None));
    }
}
