//! Branch and bound over the ReLUs that may switch in a ball of images, each part bounded by its Lagrangian dual.
//!
//! In the form v = Ŵ z + ĉ, z = relu(v), of [`affine`](super::affine), let v_i be in \[l_i, u_i\], and let w be the difference of two
//! classes' rows of the classifier. For **any** q, with p = w + Ŵᵀ q,
//!
//! > w·z = Σ_i (p_i z_i − q_i v_i) + q·ĉ ≥ Σ_i min_{v ∈ \[l_i, u_i\]} (p_i relu(v) − q_i v) + min_x q·ĉ(x),
//!
//! and each minimum is at an end, or at 0. Nothing is inverted and nothing need be solved: a poor q is a poor bound, not a wrong
//! one. The maximum over q, a concave function, is that of the linear program with the convex hull of each ReLU, which no choice of
//! slopes in a zonotope surpasses (Salman et al. 2019, arXiv 1902.08722; for DEQs the adjoint p is implicit, as the state is).
//! It is approached by supergradients from the dual of the affine form. Where it does not suffice, a unit is split into v_i ≤ 0 and
//! v_i ≥ 0 (Wang et al. 2021, arXiv 2103.06624): q then also weighs these constraints, and ranges of other units are narrowed by
//! the affine form of each part. A ball is shown when all of its parts are.

use std::sync::Arc;

use super::affine::{Form, Known, Ranges, SLIGHTLY, Set, most};
use super::{Affine, Ball, Centre, Interval, Network};
use crate::certify::matrix::Matrix;
use crate::certify::upper::{UNIT, Upper, dot, gamma, less};

/// Parts that are looked at before a ball is given up.
pub(crate) const PARTS: usize = 1000;
/// Steps of ascent in a part, and in one whose ReLUs are all decided.
const STEPS: usize = 20;
const LAST_STEPS: usize = 300;
/// The first step, in units of the weights' root mean square, and what each is of the one before.
const RATE: f64 = 0.05;
const DECAY: f64 = 0.97;

/// What leads lose to the deployed network, by class, given a box of its fixed points.
type Lost<'a> = &'a dyn Fn(&Interval) -> Option<Vec<f64>>;

/// A network whose balls are split.
pub(crate) struct Branching {
    affine: Arc<Affine>,
    parts: usize,
}

/// A part of a ball: ranges, and the classes of which it is not shown yet, with the multipliers that were reached.
struct Part {
    ranges: Ranges,
    open: Vec<(usize, Vec<f64>)>,
}

/// What all parts share.
struct Problem<'a> {
    affine: &'a Affine,
    ball: &'a Ball<'a>,
    set: Set,
    /// By unit k, what |q_k| is multiplied by in the bound's error.
    doubts: Vec<f64>,
    /// w and its offset, by class.
    rivals: Vec<(Vec<f64>, f64)>,
}

/// The dual function at a q.
struct Value {
    /// A lower bound of w·z + offset.
    bound: f64,
    /// Σ_i's terms, and the z and v and the change of the image at which they are attained.
    terms: Vec<f64>,
    states: Vec<f64>,
    units: Vec<f64>,
    change: Vec<f64>,
}

/// How each unit is relaxed in a part: between its ends with this slope, 0 or 1 where it is decided.
struct Slopes {
    slopes: Vec<f64>,
    undecided: Vec<bool>,
    /// About (I − Ŵᵀ Λ)⁻¹.
    inverse: Matrix,
}

impl Branching {
    pub(crate) fn new(network: &Network) -> Self {
        Self { affine: Arc::new(Affine::new(network)), parts: PARTS }
    }

    /// What it begins with.
    pub(crate) fn affine(&self) -> &Arc<Affine> {
        &self.affine
    }

    /// Whether the centre's class leads each other one by more than is `lost` of it, given a box of the fixed points, for every
    /// image of a ball; `None` if nothing is known of that. Of some classes leads may be known already. `reach` as in [`Affine::margins`]. Gives up where an image is found whose class does not, and after so many parts.
    pub(crate) fn leads(
        &self,
        network: &Network,
        centre: &Centre,
        ball: &Ball<'_>,
        reach: Upper,
        (known, lost): (&[f64], Lost<'_>),
    ) -> bool {
        let class = centre.class;
        let Known { set, ranges, form } = self.affine.known(network, centre, ball, reach);
        let (Some(form), Some(lost)) = (form, lost(&ranges.states())) else { return false };
        let lost: &dyn Fn(usize) -> f64 = &|j| lost[j];
        let zero = vec![0.0; ranges.low.len()];
        let open: Vec<(usize, Vec<f64>)> = (0..network.classes())
            .filter(|&j| j != class && known[j] <= lost(j) && !form.shows(network, (class, j), ball, lost))
            .map(|j| (j, zero.clone()))
            .collect();
        if open.is_empty() {
            return true;
        }
        let problem = Problem::new(&self.affine, network, class, ball, set, &ranges);
        let mut parts = vec![Part { ranges, open }];
        for seen in 0..self.parts {
            let Some(mut part) = parts.pop() else { return true };
            if seen > 0 && !problem.narrow(network, class, &mut part, lost) {
                continue;
            }
            let Some(slopes) = problem.slopes(&part.ranges) else { return false };
            let mut scores = vec![0.0; zero.len()];
            let mut left = Vec::new();
            for (j, multipliers) in part.open {
                let enough = lost(j);
                let (value, multipliers) = problem.ascended(&part.ranges, &slopes, j, multipliers, enough);
                if value.bound > enough {
                    continue;
                }
                if let Ball::Pixels { middle, .. } = ball {
                    let image: Vec<f64> = middle.iter().zip(&value.change).map(|(x, d)| x + d).collect();
                    let (w, offset) = &problem.rivals[j];
                    if dot(w, &network.centre(&image).state) + offset <= enough {
                        return false;
                    }
                }
                scores.iter_mut().zip(&value.terms).for_each(|(score, term)| *score -= term.min(0.0));
                left.push((j, multipliers));
            }
            if left.is_empty() {
                continue;
            }
            let undecided = (0..zero.len()).filter(|&i| slopes.undecided[i]);
            let Some(unit) = undecided.max_by(|&a, &b| scores[a].total_cmp(&scores[b])) else { return false };
            let (mut off, mut on) = (part.ranges.clone(), part.ranges);
            (off.high[unit], on.low[unit]) = (0.0, 0.0);
            parts.push(Part { ranges: off, open: left.clone() });
            parts.push(Part { ranges: on, open: left });
        }
        parts.is_empty()
    }
}

impl<'a> Problem<'a> {
    /// `ranges`: those of the whole ball.
    fn new(
        affine: &'a Affine,
        network: &Network,
        class: usize,
        ball: &'a Ball<'a>,
        set: Set,
        ranges: &Ranges,
    ) -> Self {
        let rounding = gamma(ranges.low.len() + 8, UNIT).value();
        let most: Vec<f64> = ranges.high.iter().map(|high| high.max(0.0)).collect();
        // p is computed from q: what it is off by meets z ≤ u.
        let doubt = |k: usize| {
            let sizes = affine.weight.row(k).iter().zip(affine.doubt.row(k)).zip(&most);
            let of_product: f64 = sizes.map(|((w, doubt), most)| (rounding * w.abs() + doubt) * most).sum();
            (of_product + set.off[k]) * SLIGHTLY
        };
        let doubts = (0..most.len()).map(doubt).collect();
        let (head, bias) = (&network.parameters.head, &network.parameters.bias);
        let rival = |j: usize| {
            let w = head.row(class).iter().zip(head.row(j)).map(|(own, rival)| own - rival).collect();
            (w, bias[class] - bias[j])
        };
        let rivals = (0..network.classes()).map(rival).collect();
        Self { affine, ball, set, doubts, rivals }
    }

    /// Narrows a part's ranges by the affine form that follows from them, which may also show it of some classes. `false` where
    /// nothing is left: no fixed point lies in the part, or all is shown.
    fn narrow(&self, network: &Network, class: usize, part: &mut Part, lost: &dyn Fn(usize) -> f64) -> bool {
        let Some(form) = self.affine.form(&part.ranges, &self.set) else { return true };
        part.ranges = part.ranges.met(&form.ranges(part.ranges.low.len(), self.ball));
        if part.ranges.low.iter().zip(&part.ranges.high).any(|(low, high)| low > high) {
            return false;
        }
        part.open.retain(|(j, _)| !form.shows(network, (class, *j), self.ball, lost));
        !part.open.is_empty()
    }

    fn slopes(&self, ranges: &Ranges) -> Option<Slopes> {
        let ends = || ranges.low.iter().zip(&ranges.high);
        let slope = |(low, high): (&f64, &f64)| match (*low >= 0.0, *high <= 0.0) {
            (true, _) => 1.0,
            (_, true) => 0.0,
            _ => high / (high - low),
        };
        let slopes: Vec<f64> = ends().map(slope).collect();
        let side = slopes.len();
        let weight = &self.affine.weight;
        let system =
            Matrix::new(side, side, |i, j| f64::from(u8::from(i == j)) - weight.row(j)[i] * slopes[j]);
        let undecided = ends().map(|(low, high)| *low < 0.0 && *high > 0.0).collect();
        Some(Slopes { inverse: system.inverse()?, slopes, undecided })
    }

    /// The dual function at a q, of one class, rounding included.
    fn value(&self, ranges: &Ranges, (w, offset): &(Vec<f64>, f64), q: &[f64]) -> Value {
        let (set, side) = (&self.set, q.len());
        let p = self.affine.weight.combined(q);
        let gradient = self.affine.injection.combined(q);
        let image = most(&gradient, self.ball);
        let (mut terms, mut states, mut units) =
            (Vec::with_capacity(side), Vec::with_capacity(side), Vec::with_capacity(side));
        // All that was added up, for its rounding.
        let (mut sum, mut total, mut doubts) = (dot(q, &set.middle) + offset, offset.abs(), 0.0);
        for i in 0..side {
            let (p, q, low, high) = (p[i] + w[i], q[i], ranges.low[i], ranges.high[i]);
            let at = |v: f64| p * v.max(0.0) - q * v;
            let mut least = if at(low) <= at(high) { low } else { high };
            if low < 0.0 && high > 0.0 && at(least) > 0.0 {
                least = 0.0;
            }
            terms.push(at(least));
            states.push(least.max(0.0));
            units.push(least);
            sum += at(least);
            total += q.abs() * (set.middle[i].abs() + set.moved[i])
                + (p.abs() + q.abs()) * low.abs().max(high.abs())
                + w[i].abs() * high.max(0.0);
            doubts += q.abs() * self.doubts[i];
        }
        let rounding = gamma(4 * side + gradient.len() + 60, UNIT) * Upper::exact(total * SLIGHTLY);
        let bound = less(sum, Upper::exact((image + doubts) * SLIGHTLY) + rounding);
        Value { bound, terms, states, units, change: worst(&gradient, self.ball) }
    }

    /// The largest value that ascent reaches from q = Λp + t, with its t; it ends where that is above `enough`.
    fn ascended(
        &self,
        ranges: &Ranges,
        slopes: &Slopes,
        rival: usize,
        mut t: Vec<f64>,
        enough: f64,
    ) -> (Value, Vec<f64>) {
        let Slopes { slopes, undecided, inverse } = slopes;
        let rival = &self.rivals[rival];
        let weight = &self.affine.weight;
        let side = t.len();
        // Those that may move: q's weight of a split, and slopes where there is a choice.
        let free: Vec<bool> =
            (0..side).map(|i| undecided[i] || ranges.low[i] == 0.0 || ranges.high[i] == 0.0).collect();
        let steps = if undecided.contains(&true) { STEPS } else { LAST_STEPS };
        let mut rate = RATE * (dot(&rival.0, &rival.0) / side as f64).sqrt();
        let (mut first, mut second) = (vec![0.0; side], vec![0.0; side]);
        let mut best: Option<(Value, Vec<f64>)> = None;
        for step in 1..=steps + 1 {
            let right: Vec<f64> = weight.combined(&t).iter().zip(&rival.0).map(|(a, w)| a + w).collect();
            let p = inverse.times(&right);
            let q: Vec<f64> = (0..side).map(|i| slopes[i] * p[i] + t[i]).collect();
            let value = self.value(ranges, rival, &q);
            // ĉ at the worst image less v: the derivative by q with p held.
            let moved = self.affine.injection.times(&value.change);
            let by_q: Vec<f64> = (0..side).map(|i| self.set.middle[i] + moved[i] - value.units[i]).collect();
            let by_p: Vec<f64> = (0..side).map(|i| value.states[i] + slopes[i] * by_q[i]).collect();
            let done = value.bound > enough || step > steps;
            if best.as_ref().is_none_or(|(best, _)| value.bound > best.bound) {
                best = Some((value, t.clone()));
            }
            if done {
                break;
            }
            let through = weight.times(&inverse.combined(&by_p));
            // Adam (Kingma and Ba 2015).
            let count = step as i32;
            for i in (0..side).filter(|&i| free[i]) {
                let slope = by_q[i] + through[i];
                first[i] = 0.8 * first[i] + 0.2 * slope;
                second[i] = 0.99 * second[i] + 0.01 * slope * slope;
                let scale = (second[i] / (1.0 - 0.99_f64.powi(count))).sqrt() + 1e-12;
                t[i] += rate * first[i] / (1.0 - 0.8_f64.powi(count)) / scale;
            }
            rate *= DECAY;
        }
        best.expect("there is a first value")
    }
}

impl Form {
    /// Whether one class leads another by more than is lost.
    fn shows(
        &self,
        network: &Network,
        (class, other): (usize, usize),
        ball: &Ball<'_>,
        lost: &dyn Fn(usize) -> f64,
    ) -> bool {
        self.margin(network, class, other, ball) > lost(other)
    }
}

/// The change of a ball's image at which a linear function is least.
fn worst(coefficients: &[f64], ball: &Ball<'_>) -> Vec<f64> {
    match ball {
        Ball::Distance(distance) => {
            let size = dot(coefficients, coefficients).sqrt().max(f64::MIN_POSITIVE);
            coefficients.iter().map(|c| -c / size * distance).collect()
        }
        Ball::Pixels { half, .. } => coefficients.iter().zip(*half).map(|(c, h)| -c.signum() * h).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certify::monotone::Zonotopes;
    use crate::certify::monotone::testing::{network, numbers};
    use crate::certify::upper::length;

    /// The most that is shown to be left of all margins.
    fn shown(leads: impl Fn(f64) -> bool) -> f64 {
        let (mut low, mut high) = (-50.0, 50.0);
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if leads(middle) { low = middle } else { high = middle }
        }
        low
    }

    struct Found {
        affine: f64,
        branching: f64,
        zonotopes: f64,
        /// Of an image that descent led to.
        least: f64,
    }

    fn found(network: &Network, eps: f64, linf: bool) -> Found {
        let image: Vec<f64> = numbers(7, 16, 0.4).into_iter().map(|x| x + 0.5).collect();
        let centre = network.centre(&image);
        let half = vec![eps; 16];
        let ball = if linf { Ball::Pixels { middle: &image, half: &half } } else { Ball::Distance(eps) };
        let reach = network.reach(&network.spread(&ball)) + centre.distance;
        let least = |margins: &mut dyn Iterator<Item = f64>| margins.fold(f64::INFINITY, f64::min);
        let others: Vec<usize> = (0..3).filter(|j| *j != centre.class).collect();
        let (affine, _) = Affine::new(network).margins(network, &centre, &ball, reach);
        let branching = Branching::new(network);
        let zonotopes = Zonotopes::new(network).unwrap();
        let margin = |moved: &[f64], j: usize| {
            let state = network.centre(moved).state;
            let logit = |k: usize| dot(network.parameters.head.row(k), &state) + network.parameters.bias[k];
            logit(centre.class) - logit(j)
        };
        let descended = |(j, start): (usize, u64)| {
            let mut change: Vec<f64> = numbers(50 + start, 16, eps);
            let inside = |change: &mut Vec<f64>| {
                let size = length(change).value();
                for d in change.iter_mut() {
                    *d = if linf { d.clamp(-eps, eps) } else { *d * (eps / size).min(1.0) };
                }
            };
            let at =
                |change: &[f64]| margin(&image.iter().zip(change).map(|(x, d)| x + d).collect::<Vec<_>>(), j);
            inside(&mut change);
            let mut best = at(&change);
            for step in 0..12 {
                let slope: Vec<f64> = (0..16)
                    .map(|p| {
                        let mut moved = change.clone();
                        moved[p] += 1e-6;
                        at(&moved) - at(&change)
                    })
                    .collect();
                let size = length(&slope).value().max(1e-300);
                let rate = 2.0 * eps * 0.7_f64.powi(step);
                for (d, slope) in change.iter_mut().zip(&slope) {
                    *d -= rate * if linf { slope.signum() } else { slope / size };
                }
                inside(&mut change);
                best = best.min(at(&change));
            }
            best
        };
        Found {
            affine: least(&mut others.iter().map(|&j| affine[j])),
            branching: shown(|lost| {
                branching.leads(
                    network,
                    &centre,
                    &ball,
                    reach,
                    (&[f64::NEG_INFINITY; 3], &|_| Some(vec![lost; 3])),
                )
            }),
            zonotopes: shown(|lost| zonotopes.leads(network, &centre, &ball, &|_| lost)),
            least: least(
                &mut others.iter().flat_map(|&j| (0..4).map(move |start| (j, start))).map(descended),
            ),
        }
    }

    /// Where no ReLU switches all are exact. Elsewhere no margin is shown that an image falls short of; what is split comes to the truth,
    /// and what a step keeps in a set is no better than what follows from the fixed point itself.
    #[test]
    fn parts_come_to_the_least_margin_of_a_ball() {
        for (monotonicity, skew) in [(6.0, 0.3), (2.0, 0.8)] {
            let network = network(monotonicity, skew);
            for linf in [true, false] {
                let Found { affine, branching, zonotopes, least } = found(&network, 1e-4, linf);
                for shown in [affine, branching, zonotopes] {
                    assert!((shown - least).abs() < 1e-6 * (1.0 + least.abs()), "{linf}: {shown} {least}");
                }
                for eps in [0.1, 0.4] {
                    let eps = if linf { eps } else { 4.0 * eps };
                    let Found { affine, branching, zonotopes, least } = found(&network, eps, linf);
                    eprintln!("{monotonicity} {linf} {eps}: {affine} {zonotopes} {branching} {least}");
                    assert!(
                        branching <= least + 1e-9 && branching >= affine - 1e-9 && zonotopes <= affine + 1e-6
                    );
                    assert!(
                        least - branching <= 0.05 * (least - affine) + 1e-3,
                        "{affine} {branching} {least}"
                    );
                }
            }
        }
    }

    /// Any q at all bounds the margin, rounding included: a bound is no higher than what states of the ball have, by exact arithmetic.
    #[test]
    fn any_multipliers_bound_the_margin() {
        let network = network(2.0, 0.8);
        let affine = Affine::new(&network);
        let image: Vec<f64> = numbers(7, 16, 0.4).into_iter().map(|x| x + 0.5).collect();
        let centre = network.centre(&image);
        let half = vec![0.2; 16];
        let ball = Ball::Pixels { middle: &image, half: &half };
        let reach = network.reach(&network.spread(&ball)) + centre.distance;
        let Known { set, ranges, .. } = affine.known(&network, &centre, &ball, reach);
        let problem = Problem::new(&affine, &network, centre.class, &ball, set, &ranges);
        let states: Vec<Vec<f64>> = (0..50)
            .map(|draw| {
                let noise = numbers(100 + draw, 16, 0.2);
                let moved: Vec<f64> = image.iter().zip(&noise).map(|(x, d)| x + 0.2 * d.signum()).collect();
                network.centre(&moved).state
            })
            .collect();
        for draw in 0..200 {
            for rival in problem.rivals.iter() {
                let least = states.iter().map(|z| dot(&rival.0, z) + rival.1).fold(f64::INFINITY, f64::min);
                let q = numbers(1000 + draw, 10, 3.0);
                assert!(problem.value(&ranges, rival, &q).bound <= least + 1e-9);
            }
        }
    }
}
