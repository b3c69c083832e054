//! How far the state that a float32 solver returns may be from z*, everywhere in a ball of images.
//!
//! The network is deployed with Picard's iteration z ← (1−τ) z + τ f(z) from 0, f the cell, here that of forward-backward splitting;
//! with [Peaceman-Rachford](super::reflected) the same holds of its state u. Its bound is found before anything
//! is run, in four steps. (1) The injection is rounded: that moves the fixed point by ‖error‖/m at most. Let z* be that of the
//! rounded injection, Z ≤ ‖z*‖ ≤ Z′ over the ball, from how far fixed points move in it or from a box that holds them. (2) f contracts by κ = ‖(1−α) I + α W‖, the iteration by k = (1−τ) + τκ, so
//! ‖z_t − z*‖ ≤ kᵗ ‖z*‖ + n_t, with n_t from the roundings of t steps. (3) Which iterate is read is the solver's choice: the one
//! of the smallest relative residual r. That is below the tolerance where the solver stops by it, and where it takes all T steps no
//! more than that of step T, which (2) bounds. [`solve`](crate::solve) also gives up where it found no better iterate in 30 steps:
//! then r is no more than that of step 30, and, absolute residuals being contracted by k a step, than what is left of itself after 30
//! steps and the roundings of those, so that it is of their size. (4) From a residual back to a distance: ‖z − z*‖ ≤ ‖f(z) − z‖/(1−κ). The tail's
//! applications contract once more.
//!
//! Distances are in the norm of the network, residuals as the solver measures them, in L2: ‖v‖₂ ≤ c ‖v‖ and ‖v‖ ≤ C ‖v‖₂ go from
//! one to the other. Roundings are counted with γ_n, in any order of a sum, with fused products or without, underflow flushed or not: what holds
//! of float32 on a CPU, but of no shorter format that an accelerator may multiply in.

use super::{Centre, Interval, Network, Spread};
use crate::certify::upper::{Upper, gamma, length, less};
use crate::solve::{DIVERGENCE, PATIENCE};

/// A float32 solver, and the arithmetic that it runs in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Deployed {
    /// T.
    pub(crate) steps: usize,
    pub(crate) tolerance: f64,
    /// τ.
    pub(crate) damping: f64,
    /// Undamped applications of f after the solver, and damped ones with their λ.
    pub(crate) lead: usize,
    pub(crate) tail: usize,
    pub(crate) tail_damping: f64,
    /// The unit roundoff: 2⁻²⁴.
    pub(crate) unit: f64,
}

/// More than underflow can take from a sum of this library's sizes.
const UNDERFLOW: f64 = 1e-30;
/// The same of a residual's norm: its squares are summed.
const SQUARES: f64 = 1e-15;
/// Numbers up to here have squares and sums that are far from the end of float32's range.
const LARGE: f64 = 1e15;

/// What the deployed state and logits are off by.
pub(crate) struct Error {
    /// ‖p − z*‖, p the state that the head sees and z* the ideal fixed point of the same image.
    pub(crate) state: Upper,
    /// The rounding of each logit.
    pub(crate) logits: Vec<Upper>,
}

/// The map that is iterated: that of the cell, whose state is z, or u with relu(u*) = z*.
struct Iterated {
    /// How many numbers its state has.
    units: usize,
    contraction: Upper,
    /// The length of its fixed point at most, in the network's norm and in L2.
    most: Upper,
    longest: Upper,
    /// What rounding does to it, relatively to a state's length and beside that.
    relative: Upper,
    fixed: Upper,
    /// What the largest number on the way comes to at most, relatively to a value's length.
    largest: Upper,
}

impl Iterated {
    /// Given how long z* and the injection are at most.
    fn new(network: &Network, unit: f64, [most, longest]: [Upper; 2], injection: Upper) -> Self {
        let (contraction, step) = (network.contraction(), network.parameters.step);
        let Some(known) = &network.reflected else {
            let relative = network.evaluation(unit, Upper::exact(1.0), Upper::exact(0.0));
            let fixed = network.evaluation(unit, Upper::exact(0.0), injection);
            let (units, largest) = (network.hidden(), network.coupling);
            return Self { units, contraction, most, longest, relative, fixed, largest };
        };
        let [relative, of_injection] = known.rounding(unit);
        let [down, _] = network.metric().euclidean();
        // u* = (1−α) z* + α (W z* + c).
        let most = known.averaged * most + injection * step;
        let fixed = of_injection * injection * step;
        let (units, longest, largest) = (known.units, down * most, known.largest());
        Self { units, contraction, most, longest, relative, fixed, largest }
    }
}

/// What is known of a step's iterate.
struct Met {
    /// Its distance from z*, and the rounding of an evaluation there or before.
    off: Upper,
    rounding: Upper,
    /// Its relative residual and its absolute one, as the solver measures them, and the length of f there at least.
    relative: Upper,
    absolute: Upper,
    value: f64,
    /// What the roundings of 30 steps leave of an absolute residual, and how large the relative one is at most if it is the first of 30 that
    /// are not better: r ‖f̃(z_t)‖₂ ≤ C c k³⁰ r ‖f̃(z_{t−30})‖₂ + lost.
    lost: Upper,
    stalled: Upper,
}

impl Met {
    /// A residual of the iterate that is read, no larger than any that was met: those of all steps, or those of the first
    /// [`PATIENCE`] where the solver gave up later, which it does with so large a one at most.
    fn sure(all: &[Self], quantity: impl Fn(&Self) -> Upper, stalled: impl Fn(&Self) -> Upper) -> Upper {
        let least = |met: &[Self]| met.iter().map(&quantity).fold(Upper::INFINITE, Upper::min);
        let (early, late) = all.split_at(PATIENCE.min(all.len()));
        let stalled = late.iter().map(stalled).fold(Upper::exact(0.0), Upper::max);
        least(all).max(least(early).min(stalled))
    }
}

impl Deployed {
    /// Over all images so far from that of a centre, whose fixed points lie in a box, if one is known. `None` where nothing
    /// follows: a step does not contract, or the ball reaches images whose fixed point may be 0.
    pub(crate) fn error(
        &self,
        network: &Network,
        centre: &Centre,
        spread: &Spread,
        states: Option<&Interval>,
    ) -> Option<Error> {
        let one = Upper::exact(1.0);
        let unit = |n: usize| gamma(n, self.unit);
        let (m, reach) = (network.monotonicity(), network.reach(spread));
        let [down, up] = network.metric().euclidean();
        let underflow = up * UNDERFLOW;

        let size = centre.magnitude + spread.sizes;
        let injection_error = unit(network.pixels() + 8) * size + underflow;
        let injection = centre.injection + spread.injection + injection_error;
        let drift = injection_error.over(m);
        let metric = network.metric();
        let mut ends = [centre.norm + reach, centre.longest + down * reach];
        let mut least = [less(centre.least, reach), less(centre.shortest, down * reach)];
        if let Some(Interval { low, high }) = states {
            let bounds = [metric.length(high), length(high)];
            ends.iter_mut()
                .zip(bounds)
                .filter(|(end, bound)| *bound < **end)
                .for_each(|(end, bound)| *end = bound);
            let bounds = [metric.length(low), length(low)].map(|bound| bound.value() * (1.0 - 1e-9));
            least.iter_mut().zip(bounds).for_each(|(least, bound)| *least = least.max(bound));
        }
        // In the network's norm, and in L2.
        let [least, shortest] = [less(least[0], drift), less(least[1], down * drift)];
        let z = [ends[0] + drift, ends[1] + down * drift];
        let Iterated { units, contraction, most, longest, relative, fixed, largest } =
            Iterated::new(network, self.unit, z, injection);
        if contraction.value() >= 1.0 || least <= 0.0 {
            return None;
        }
        // An evaluation's rounding at a state of this length, and the length of its value at this distance from the fixed point.
        let fixed = fixed + underflow;
        let evaluation = |size: Upper| relative * size + fixed;
        let value = |off: Upper| most + contraction * off + evaluation(most + off);

        let damping = self.damping;
        let step = Upper::exact(1.0 - damping) + Upper::exact(f64::EPSILON) + contraction * damping;
        let norms = unit(units + 8);
        let loose = (one + norms) * (one + norms + norms);
        let faded = (0..PATIENCE).fold(one, |power, _| power * step);
        let both = up * down;
        let kept = both * faded * loose * (one + norms);
        let (mut power, mut noise) = (one, Upper::exact(0.0));
        let mut met = Vec::with_capacity(self.steps);
        for t in 0..=self.steps {
            // ‖z_t − z*‖ ≤ power ‖z*‖ + noise, and ‖z*‖ is at least `least`: the quotient of residual and value is largest there. So it is
            // at ‖z*‖₂ = `shortest`, with ‖z*‖ ≤ C ‖z*‖₂; one of them says more while z_t is far from z*, the other then.
            let (near, off) = (power * least + noise, power * most + noise);
            let near_by_length = power * up * shortest.max(0.0) + noise;
            let rounding = evaluation(most + off);
            let value_by_norm = less(less(least, contraction * near), rounding);
            let value_by_length = less(shortest, down * (contraction * near_by_length + rounding));
            // The first residual is that of z = 0, to which divergence is relative: it is 1 but for the guard against f = 0.
            if t == 0 && value_by_norm < 1e-6 * up.value() {
                return None;
            }
            if t > 0 {
                if value_by_norm <= 0.0 {
                    return None;
                }
                let apart = |off: Upper| {
                    (down * ((one + contraction) * off + rounding) + Upper::exact(SQUARES)) * loose
                };
                let mut relative = (up * apart(near)).over(value_by_norm);
                // It diverges at a thousand times the first one.
                if relative.value() >= 0.9 * DIVERGENCE {
                    return None;
                }
                if value_by_length > 0.0 {
                    relative = apart(near_by_length).over(value_by_length).min(relative);
                }
                let value = value_by_length.max((value_by_norm / up.value()).next_down());
                let rounding = evaluation(most + most + noise);
                let lost = down * ((one + contraction) * noise + rounding * 2.0) + Upper::exact(SQUARES);
                let mut here = Met {
                    off,
                    rounding,
                    relative,
                    absolute: apart(off),
                    value,
                    lost: lost * loose,
                    stalled: Upper::INFINITE,
                };
                // The lengths are at least ‖z*‖₂ (1 − C c κ power) and at most ‖z*‖₂ (1 + C c κ), but for c (κ noise + a rounding).
                let share = less(1.0, both * contraction * power + kept * (one + both * contraction));
                let beside = down * (contraction * noise + rounding);
                let lengths =
                    less((share * shortest).next_down(), beside + kept * (beside + Upper::exact(2e-9)));
                if share > 0.0 && shortest > 0.0 && lengths > 0.0 {
                    here.stalled = here.lost.over(lengths);
                }
                met.push(here);
            }
            let size = value(off) + (most + off) + (most + off);
            noise = step * noise + rounding * damping + unit(8) * size;
            power = power * step;
        }
        let tolerance = Upper::exact(self.tolerance);
        let residual = Met::sure(&met, |met| met.relative, |met| met.stalled).max(tolerance);
        let residual = residual * (one + norms) * (one + norms);

        // d (1 − κ) ≤ ‖f(z) − z‖ ≤ e + C r (‖f̃(z)‖₂ + 2e-9) with e ≤ relative (Z′ + d) + fixed, ‖f̃(z)‖₂ ≤ Z′₂ + c (κd + e).
        let scaled = both * residual;
        let left = less(less(less(1.0, contraction), relative * (one + scaled)), scaled * contraction);
        if left <= 0.0 {
            return None;
        }
        let right =
            evaluation(most) * (one + scaled) + up * residual * (longest + Upper::exact(2e-9)) + up * SQUARES;
        let off = right.over(left);

        // Once more: ‖f̃‖₂ of two iterates of one image differ by c (κ (d + d′) + 2e) at most, so that their absolute residuals compare
        // almost as the relative ones do.
        let ratio = |met: &Met| {
            let apart = down * (contraction * (off + met.off) + met.rounding * 2.0) + Upper::exact(2e-9);
            (one + apart.over(met.value)) * loose
        };
        let stalled = |met: &Met| {
            let left = less(1.0, kept * ratio(met));
            if left > 0.0 { (met.lost * ratio(met)).over(left) } else { Upper::INFINITE }
        };
        let value_at_most =
            longest + down * (contraction * off + evaluation(most + off)) + Upper::exact(2e-9);
        let absolute =
            Met::sure(&met, |met| met.absolute * ratio(met), stalled).max(tolerance * value_at_most);
        let absolute = absolute * (one + norms) * (one + norms);
        let right = evaluation(most + off) + up * absolute + up * SQUARES;
        let mut off = off.min(right.over(less(1.0, contraction)));
        let applied = |off: Upper| contraction * off + evaluation(most + off);
        for _ in 0..self.lead {
            off = applied(off);
        }
        for _ in 0..self.tail {
            let rounding = unit(6) * (most + off + value(off));
            let kept = Upper::exact(1.0 - self.tail_damping) + Upper::exact(f64::EPSILON);
            off = kept * off + applied(off) * self.tail_damping + rounding;
        }
        let state = off + drift;

        let size = ends[0] + state;
        let (head, bias) = (&network.parameters.head, &network.parameters.bias);
        let logit = |k: usize| {
            let terms = network.metric().dual(head.row(k)) * size + Upper::exact(bias[k].abs());
            unit(network.parameters.reading) * terms + Upper::exact(UNDERFLOW) * network.parameters.scale
        };
        let logits: Vec<Upper> = (0..network.classes()).map(logit).collect();
        let largest = down * (largest * value(most) + injection + size);
        (largest.value() < LARGE && state.value() < LARGE).then_some(Error { state, logits })
    }
}
