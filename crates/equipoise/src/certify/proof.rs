//! A proof of monotone DEQs by one method, for the ideal fixed point or for the network as it is deployed, and the radii that it shows.

use std::sync::Arc;
use std::time::Instant;

use equipoise_record::{CertifiedExample, CertifiedNetwork};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::method::Method;
use super::metric::Kind;
use super::monotone::{
    Affine, Ball, Boxes, Branching, Centre, Deployed, Error, Interval, Network, Zonotopes,
};
use super::search::largest;
use super::upper::less;
use crate::attack::{Budget, Norm};

/// A method, and the network that it speaks of.
pub struct Proof<'a> {
    pub(super) network: &'a Network,
    pub(super) method: Method,
    /// The same for the ideal network and the deployed one.
    pub(super) tool: Arc<Tool>,
    pub(super) deployed: Option<Deployed>,
    /// The only ones that are tried, the largest first.
    pub(super) radii: Option<Vec<f64>>,
}

/// What a method has made of the network beforehand.
pub(super) enum Tool {
    Lipschitz,
    Affine(Arc<Affine>),
    Branching(Branching),
    Zonotopes(Zonotopes),
    Boxes(Boxes),
}

/// How many images are worth proving side by side by so many proofs: those that keep all threads busy.
pub fn side_by_side(proofs: usize) -> usize {
    rayon::current_num_threads().div_ceil(proofs.max(1))
}

/// Each of some images, with their indices, by each of some proofs, side by side, and the seconds that each took.
pub fn prove(
    proofs: &[Proof<'_>],
    images: &[(usize, &[f32])],
    norm: Norm,
) -> Vec<Vec<(CertifiedExample, f64)>> {
    let timed = |proof: &Proof<'_>, index: usize, image: &[f32]| {
        let start = Instant::now();
        (proof.certified(index, image, norm), start.elapsed().as_secs_f64())
    };
    let each = |&(index, image): &(usize, &[f32])| {
        proofs.par_iter().map(|proof| timed(proof, index, image)).collect()
    };
    images.par_iter().map(each).collect()
}

impl Proof<'_> {
    /// The network that it speaks of.
    pub fn network(&self) -> CertifiedNetwork {
        match self.deployed {
            None => CertifiedNetwork::Ideal,
            Some(_) => CertifiedNetwork::Deployed,
        }
    }

    /// The method.
    pub fn method(&self) -> Method {
        self.method
    }

    /// What is needed to repeat it beside the model file.
    pub fn settings(&self) -> Value {
        let states = match self.network.metric().kind() {
            Kind::Euclidean => "l2",
            Kind::Maximum => "linf",
        };
        let mut settings = json!({
            "lipschitz": self.network.lipschitz().value(),
            "contraction": self.network.contraction().value(),
            "states": states,
        });
        if let Some(radii) = &self.radii {
            settings["radii"] = json!(radii);
        }
        settings
    }

    /// The same proof, which tries no radii but these of an image, from the largest down, and certifies the first that is shown.
    /// Those that are not above 0 and finite are left out.
    pub fn among(self, radii: &[f64]) -> Self {
        let mut radii: Vec<f64> = radii.iter().copied().filter(|eps| *eps > 0.0 && eps.is_finite()).collect();
        radii.sort_by(|a, b| b.total_cmp(a));
        radii.dedup();
        Self { radii: Some(radii), ..self }
    }

    /// The largest radius within which it is shown that an image's class does not change, rounded down. `image` has CHW numbers in
    /// \[0, 1\], and so have the images that it speaks of. What an evaluation counts as within the radius lies within it, rounding
    /// included. Abstains where nothing is shown. A dozen radii and more are tried, unless they
    /// are given ([`among`](Self::among)): with [`Method::Branching`] each may take seconds.
    pub fn certified(&self, index: usize, image: &[f32], norm: Norm) -> CertifiedExample {
        let sample = Sample::new(self.network, image, norm);
        if let Some(radii) = &self.radii {
            let radius = radii.iter().find(|radius| self.reaches(&sample, **radius));
            return sample.example(index, radius.copied());
        }
        // Closed forms are cheap; what is iterated is worth the first three digits, and what takes long two.
        let precision = match *self.tool {
            Tool::Lipschitz => 1e-9,
            Tool::Affine(_) | Tool::Boxes(_) => 1e-3,
            Tool::Branching(_) | Tool::Zonotopes(_) => 1e-2,
        };
        let weaker = match &*self.tool {
            Tool::Branching(branching) => Some(Tool::Affine(Arc::clone(branching.affine()))),
            Tool::Zonotopes(_) => Some(Tool::Lipschitz),
            _ => None,
        };
        let guess = weaker
            .and_then(|weaker| largest(None, sample.most(), 1e-3, |eps| self.shows(&weaker, &sample, eps)));
        let found = largest(guess, sample.most(), precision, |eps| self.shows(&self.tool, &sample, eps));
        let radius = found.map(|radius| (radius - sample.slack).next_down()).filter(|radius| *radius > 0.0);
        sample.example(index, radius)
    }

    /// Whether it is shown that a class is that of an image and of every other one within a radius, as of [`certified`](Self::certified).
    pub fn confirms(&self, image: &[f32], norm: Norm, class: usize, radius: f64) -> bool {
        let sample = Sample::new(self.network, image, norm);
        sample.own.class == class && self.reaches(&sample, radius)
    }

    /// Whether it is shown of all images that an evaluation counts as within a radius.
    fn reaches(&self, sample: &Sample, radius: f64) -> bool {
        radius >= 0.0
            && radius.is_finite()
            && self.shows(&self.tool, sample, (radius + sample.slack).next_up())
    }

    /// Whether it is shown of all images within a radius.
    fn shows(&self, tool: &Tool, sample: &Sample, eps: f64) -> bool {
        match (tool, sample.norm) {
            // ‖δ‖₂ ≤ ‖δ‖₁.
            (
                Tool::Lipschitz | Tool::Affine(_) | Tool::Branching(_) | Tool::Zonotopes(_),
                Norm::L2 | Norm::L1,
            ) => self.holds(tool, &sample.own, &Ball::Distance(eps)),
            // ‖δ‖∞ ≤ ‖δ‖₂.
            // Another centre for each radius would be another solve of a network that is too large for matrices.
            (Tool::Lipschitz, Norm::Linf) if self.network.matrices().is_none() => {
                let reach = |pixel: &f64| eps.min(pixel.max(1.0 - pixel).next_up());
                let half: Vec<f64> = sample.image.iter().map(reach).collect();
                self.holds(tool, &sample.own, &Ball::Pixels { middle: &sample.image, half: &half })
            }
            (Tool::Boxes(_), _) | (_, Norm::Linf) => {
                let (middle, half) = middle(&sample.image, eps);
                let centre = self.network.centre(&middle);
                let ball = Ball::Pixels { middle: &middle, half: &half };
                centre.class == sample.own.class && self.holds(tool, &centre, &ball)
            }
        }
    }

    /// Whether the centre's class is that of every image in a ball.
    fn holds(&self, tool: &Tool, centre: &Centre, ball: &Ball<'_>) -> bool {
        let (network, class) = (self.network, centre.class);
        let spread = network.spread(ball);
        let reach = network.reach(&spread);
        // What each lead loses to the deployed network, all of whose fixed points lie in a box, if one is known; `None` where
        // nothing is known of it.
        let lost = |states: Option<&Interval>| -> Option<Vec<f64>> {
            let Some(deployed) = self.deployed else { return Some(vec![0.0; network.classes()]) };
            let Error { state, logits } = deployed.error(network, centre, &spread, states)?;
            let of = |j: usize| network.gap(class, j) * state + logits[class] + logits[j];
            Some((0..network.classes()).map(|j| of(j).value()).collect())
        };
        let each = |margin: &dyn Fn(usize) -> f64| (0..network.classes()).map(margin).collect::<Vec<_>>();
        let leads = |margins: &[f64], states: Option<&Interval>| {
            let others =
                |lost: Vec<f64>| (0..network.classes()).filter(|j| *j != class).all(|j| margins[j] > lost[j]);
            lost(states).is_some_and(others)
        };
        let bounded = || each(&|j| less(centre.margins[j], network.change(class, j, &spread)));
        match tool {
            Tool::Lipschitz => leads(&bounded(), None),
            Tool::Affine(affine) => {
                let (margins, states) = affine.margins(network, centre, ball, reach + centre.distance);
                let bounded = bounded();
                leads(&each(&|j| margins[j].max(bounded[j])), Some(&states))
            }
            Tool::Branching(branching) => {
                let lost = |states: &Interval| lost(Some(states));
                branching.leads(network, centre, ball, reach + centre.distance, (&bounded(), &lost))
            }
            Tool::Zonotopes(zonotopes) => {
                lost(None).is_some_and(|lost| zonotopes.leads(network, centre, ball, &|j| lost[j]))
            }
            Tool::Boxes(boxes) => {
                let Ball::Pixels { middle, half } = ball else { return false };
                let found = boxes.around(&network.injections(middle, half), &centre.state);
                let Some(found) = found else { return false };
                let near = Interval::around(network.metric(), &centre.state, reach + centre.distance);
                let states = found.met(&near);
                leads(&each(&|j| network.margin(class, j, &states)), Some(&states))
            }
        }
    }
}

/// An image, and what it is given to.
struct Sample {
    image: Vec<f64>,
    norm: Norm,
    own: Centre,
    /// What an evaluation counts as within a radius may be this much beyond it.
    slack: f64,
}

impl Sample {
    fn new(network: &Network, image: &[f32], norm: Norm) -> Self {
        let slack = Budget::new(norm, 1.0).expect("1 is a radius").slack([1, 1, 1, image.len()]);
        let image: Vec<f64> = image.iter().map(|&pixel| f64::from(pixel)).collect();
        Self { own: network.centre(&image), image, norm, slack }
    }

    /// The largest distance of two images.
    fn most(&self) -> f64 {
        match self.norm {
            Norm::Linf => 1.0,
            Norm::L2 | Norm::L1 => (self.image.len() as f64).sqrt(),
        }
    }

    fn example(&self, index: usize, radius: Option<f64>) -> CertifiedExample {
        let class = radius.map(|_| self.own.class);
        CertifiedExample { index, class, radius, abstained: radius.is_none() }
    }
}

/// The middle of all images in \[0, 1\] within ε of one in L∞, and how far they reach from it in each pixel, rounded up.
fn middle(image: &[f64], eps: f64) -> (Vec<f64>, Vec<f64>) {
    let ends = |pixel: &f64| {
        let (low, high) = ((pixel - eps).next_down().max(0.0), (pixel + eps).next_up().min(1.0));
        let middle = 0.5 * (low + high);
        (middle, (high - middle).max(middle - low).next_up())
    };
    image.iter().map(ends).unzip()
}

#[cfg(test)]
mod tests {
    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::{Device, Tensor};

    use super::*;
    use crate::batch::from_vec;
    use crate::certify::MonotoneCertifier;
    use crate::certify::upper::length;
    use crate::gradient::Estimator;
    use crate::model::equilibrium::Equilibrium;
    use crate::model::monotone::{
        LbenConfig, Monotone, MonotoneConfig, MonotoneConvCell, MonotoneConvConfig, MonotoneMultiConfig,
        Parametrisation, Splitting,
    };
    use crate::model::normalisation::Normalisation;
    use crate::random::ExampleRng;
    use crate::readout::{Readout, Tail};
    use crate::solve::{SolverConfig, StateChoice};
    use crate::victim::{Deployment, Victim};

    fn model(step: f64) -> Monotone {
        of_splitting(step, Splitting::ForwardBackward)
    }

    fn of_splitting(step: f64, splitting: Splitting) -> Monotone {
        let normalisation = Some(Normalisation { mean: vec![0.3], std: vec![0.2] });
        let config = MonotoneConfig {
            hidden: 24,
            monotonicity: 4.0,
            step,
            splitting,
            image: [1, 6, 6],
            classes: 4,
            normalisation,
            ..MonotoneConfig::digits()
        };
        config.init(3, &Device::default()).unwrap()
    }

    fn image(index: usize) -> Vec<f32> {
        let mut rng = ExampleRng::new(1, "image", index, 0);
        (0..36).map(|_| rng.unit() as f32).collect()
    }

    /// An image within so much of another in L2, or on the sphere.
    fn nearby(clean: &[f32], eps: f64, draw: usize) -> Vec<f32> {
        let mut rng = ExampleRng::new(2, "nearby", 0, draw);
        let direction: Vec<f64> = clean.iter().map(|_| rng.normal()).collect();
        let size = direction.iter().map(|x| x * x).sum::<f64>().sqrt();
        let moved =
            |(x, d): (&f32, &f64)| (f64::from(*x) + 0.999_999 * eps * d / size).clamp(0.0, 1.0) as f32;
        clean.iter().zip(&direction).map(moved).collect()
    }

    /// The state that the head sees of a deployed model.
    fn deployed_state(model: &dyn Equilibrium, deployment: &Deployment, images: &Tensor<4>) -> Vec<f64> {
        let victim = Victim::new(model, deployment, Readout::final_state(), Estimator::exact());
        let forward = victim.forward(images, deployment.solver.steps);
        let best = forward.trajectory.evaluated(StateChoice::Best);
        deployment.tail.apply(&forward.cell, best).numbers()
    }

    /// z of so many units in a state of theirs, or in u: of one with a border it is a map of 3 channels.
    fn read(state: &[f64], units: usize) -> impl Iterator<Item = f64> + '_ {
        let side = ((state.len() / 3) as f64).sqrt() as usize;
        let edge = move |at: usize| at == 0 || at == side - 1;
        let border = move |at: usize| edge(at / side % side) || edge(at % side);
        let whole = state.len() == units;
        let kept = state.iter().enumerate().filter(move |(at, _)| whole || !border(*at));
        kept.map(|(_, entry)| entry.max(0.0))
    }

    /// Everywhere in a ball the deployed state is as near the ideal fixed point as the bound says, for solvers that stop by their
    /// step limit, by their tolerance and in float32's noise, damped or not, with any tail. In the noise the bound rests on
    /// the roundings alone: without them it is broken.
    #[test]
    fn the_deployed_state_is_no_further_from_the_fixed_point_than_its_bound() {
        let full = model(0.15);
        assert_eq!(no_further_than_its_bound(&full, &|| MonotoneCertifier::of(&full), 2e3), 6);
    }

    /// The inverse that it multiplies by is off too, by what is measured: without that and the roundings its bound is broken.
    #[test]
    fn so_is_that_of_a_reflected_one() {
        for step in [0.1, 0.4] {
            let model = of_splitting(step, Splitting::PeacemanRachford);
            let certify = || MonotoneCertifier::of(&model);
            assert!(certify().contraction() < 0.9);
            assert_eq!(no_further_than_its_bound(&model, &certify, 1e4), 6);
        }
    }

    /// Its state has a border around z, on a torus where its inverse is one at each frequency.
    #[test]
    fn so_is_that_of_a_reflected_convolution() {
        for step in [0.1, 0.4] {
            let config = MonotoneConvConfig { splitting: Splitting::PeacemanRachford, step, ..convolution() };
            let mut model = config.init(3, &Device::default()).unwrap();
            let MonotoneConvCell::WinstonKolter(weight) = &mut model.cell else {
                unreachable!("the usual kind")
            };
            weight.h = weight.h.clone().map(|h| h * 3.0);
            let certify = || MonotoneCertifier::of_convolutional(&model).unwrap();
            assert!(certify().contraction() < 0.9);
            assert_eq!(no_further_than_its_bound(&model, &certify, 3e4), 6);
        }
    }

    fn convolution() -> MonotoneConvConfig {
        MonotoneConvConfig {
            channels: 3,
            monotonicity: 4.0,
            step: 0.15,
            image: [1, 6, 6],
            classes: 4,
            normalisation: Some(Normalisation { mean: vec![0.3], std: vec![0.2] }),
            ..MonotoneConvConfig::digits()
        }
    }

    #[test]
    fn so_is_that_of_a_convolutional_network() {
        let model = convolution().init(3, &Device::default()).unwrap();
        let certify = || MonotoneCertifier::of_convolutional(&model).unwrap();
        assert_eq!(no_further_than_its_bound(&model, &certify, 2e3), 6);
    }

    /// In the norm of each: Λ is not I, and fixed points are away from 0.
    #[test]
    fn so_are_those_of_the_other_cells() {
        struct Shake;
        impl ModuleMapper for Shake {
            fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
                if D != 1 {
                    return param;
                }
                let mut rng = ExampleRng::new(7, "shake", param.id.val() as usize, 0);
                let shape = param.dims();
                let noise = (0..shape[0]).map(|_| rng.normal() as f32 * 0.2).collect();
                param.map(|value| value + from_vec(noise, shape, &Device::default()))
            }
        }
        let of = |parametrisation, monotonicity, step| {
            let usual =
                MonotoneConfig { hidden: 24, image: [1, 6, 6], classes: 4, ..MonotoneConfig::digits() };
            let config = MonotoneConfig { parametrisation, monotonicity, step, ..usual };
            config.init(3, &Device::default()).unwrap().map(&mut Shake)
        };
        let bounded = LbenConfig {
            hidden: 24,
            lipschitz: 3.0,
            monotonicity: 4.0,
            step: 0.1,
            image: [1, 6, 6],
            classes: 4,
            ..LbenConfig::digits()
        };
        let bounded = bounded.init(3, &Device::default()).unwrap().map(&mut Shake).network();
        for mut model in
            [of(Parametrisation::Nemon, 4.0, 0.12), of(Parametrisation::IntervalBounded, 0.5, 1.0), bounded]
        {
            model.stem.injection.bias = model.stem.injection.bias.map(|bias| bias + 1.0);
            // After four steps nothing may follow from a residual in L2 about a distance in another norm.
            assert!(no_further_than_its_bound(&model, &|| MonotoneCertifier::of(&model), 1e6) >= 5);
        }
    }

    /// Its convolutions act one after the other, with roundings of their own.
    #[test]
    fn so_is_that_of_a_network_of_tiers() {
        let normalisation = Some(Normalisation { mean: vec![0.3], std: vec![0.2] });
        let config = MonotoneMultiConfig {
            channels: vec![2, 3],
            monotonicity: 6.0,
            step: 0.12,
            image: [1, 6, 6],
            classes: 4,
            normalisation,
            ..MonotoneMultiConfig::digits()
        };
        let model = config.init(3, &Device::default()).unwrap();
        let certify = || MonotoneCertifier::of_multi(&model).unwrap();
        // Two convolutions in a row have more roundings than one, all of which are counted as if they added up.
        assert_eq!(no_further_than_its_bound(&model, &certify, 1e4), 6);
    }

    /// Of how many deployments there is a bound. None is so many times what it bounds: a step contracts by more than κ.
    fn no_further_than_its_bound(
        model: &dyn Equilibrium,
        certify: &dyn Fn() -> MonotoneCertifier,
        most: f64,
    ) -> usize {
        let certifiers = [certify(), careless(certify())];
        let tails = [Tail::EXACT, Tail { lead: 0, steps: 0, damping: 0.5 }, Tail::UNROLLED];
        let (mut broken_without_rounding, mut bounded) = (0, 0);
        for (case, (solver, tail)) in [
            (SolverConfig::picard(4, 1.0).with_tolerance(0.0), tails[0]),
            (SolverConfig::picard(12, 1.0).with_tolerance(0.0), tails[1]),
            (SolverConfig::picard(200, 1.0).with_tolerance(1e-2), tails[1]),
            (SolverConfig::picard(200, 0.7).with_tolerance(1e-3), tails[2]),
            (SolverConfig::picard(300, 1.0).with_tolerance(0.0), tails[2]),
            (SolverConfig::picard(30, 1.0).with_tolerance(0.0), tails[0]),
        ]
        .into_iter()
        .enumerate()
        {
            let deployment = Deployment { solver, tail, ..Deployment::exact() };
            let Some(Seen { bound, largest, broken }) = seen(model, &certifiers, &deployment) else {
                continue;
            };
            assert!(largest <= bound, "case {case}: {largest} of {bound}");
            assert!(bound < most * largest.max(1e-7), "case {case}: {bound} for {largest} says little");
            broken_without_rounding += broken;
            bounded += 1;
        }
        assert!(broken_without_rounding > 0);
        bounded
    }

    /// One that takes what float32 made of the parameters for exact.
    fn careless(mut certifier: MonotoneCertifier) -> MonotoneCertifier {
        certifier.network = certifier.network.careless();
        certifier
    }

    /// What deployed states are off by in some balls.
    struct Seen {
        /// The last bound, and the largest that was seen: infinite where one was above its bound.
        bound: f64,
        largest: f64,
        /// How many were above the bound without roundings.
        broken: usize,
    }

    /// `None` where nothing is known.
    fn seen(
        model: &dyn Equilibrium,
        [certifier, careless]: &[MonotoneCertifier; 2],
        deployment: &Deployment,
    ) -> Option<Seen> {
        let eps = 0.3;
        let proof = certifier.deployed(Method::Lipschitz, deployment, &Readout::final_state()).unwrap();
        let deployed = proof.deployed.unwrap();
        let mut seen = Seen { bound: 0.0, largest: 0.0, broken: 0 };
        for index in 0..4 {
            let clean = image(index);
            let wide: Vec<f64> = clean.iter().map(|&x| f64::from(x)).collect();
            let centre = certifier.network.centre(&wide);
            let error = |of: &MonotoneCertifier, deployed: Deployed| {
                let spread = of.network.spread(&Ball::Distance(eps));
                Some(deployed.error(&of.network, &centre, &spread, None)?.state.value())
            };
            seen.bound = error(certifier, deployed)?;
            let careless = error(careless, Deployed { unit: 0.0, tolerance: 0.0, ..deployed })?;
            let images: Vec<Vec<f32>> = (0..60).map(|draw| nearby(&clean, eps, draw)).collect();
            let batch = from_vec(images.concat(), [60, 1, 6, 6], &Device::default());
            let states = deployed_state(model, deployment, &batch);
            for (image, state) in images.iter().zip(states.chunks(model.state_dim())) {
                let wide: Vec<f64> = image.iter().map(|&x| f64::from(x)).collect();
                let ideal = certifier.network.centre(&wide);
                let apart: Vec<f64> =
                    read(state, ideal.state.len()).zip(&ideal.state).map(|(p, z)| p - z).collect();
                let off = certifier.network.metric().length(&apart).value() - ideal.distance.value();
                seen.largest = if off > seen.bound { f64::INFINITY } else { seen.largest.max(off) };
                seen.broken += usize::from(off > careless);
            }
        }
        Some(seen)
    }

    /// A step that contracts little is worth all that are taken, up to the roundings, in which a solve stalls.
    #[test]
    fn steps_beyond_the_first_stall_count() {
        for splitting in [Splitting::ForwardBackward, Splitting::PeacemanRachford] {
            let step = if splitting == Splitting::ForwardBackward { 0.045 } else { 0.022 };
            let model = of_splitting(step, splitting);
            let certifiers = [MonotoneCertifier::of(&model), careless(MonotoneCertifier::of(&model))];
            let contraction = certifiers[0].contraction();
            assert!(contraction > 0.8 && contraction < 0.9, "{contraction}");
            let after = |steps| {
                let solver = SolverConfig::picard(steps, 1.0).with_tolerance(0.0);
                seen(&model, &certifiers, &Deployment { solver, tail: Tail::EXACT, ..Deployment::exact() })
            };
            let bounds = [30, 60, 600].map(|steps| {
                let Seen { bound, largest, broken } = after(steps).unwrap();
                eprintln!(
                    "{splitting:?}, {steps} steps: {largest:e} of {bound:e}, {broken} without roundings"
                );
                assert!(largest <= bound && (broken > 0) == (steps == 600));
                bound
            });
            assert!(bounds[1] < 0.1 * bounds[0] && bounds[2] <= bounds[1], "{bounds:?}");
        }
    }

    /// Fixed points of a network with a Lipschitz bound and a small m are much nearer to each other than by ‖U‖/m.
    #[test]
    fn fixed_points_of_a_bounded_network_are_within_reach_of_each_other() {
        let config = LbenConfig {
            hidden: 24,
            lipschitz: 3.0,
            monotonicity: 0.01,
            step: 0.02,
            image: [1, 6, 6],
            classes: 4,
            ..LbenConfig::digits()
        };
        let mut model = config.init(3, &Device::default()).unwrap().network();
        model.stem.injection.bias = model.stem.injection.bias.map(|bias| bias + 1.0);
        let network = MonotoneCertifier::of(&model).network;
        let (mut reach, mut greatest) = (0.0, 0.0_f64);
        for index in 0..40 {
            let clean = image(index);
            let moved = nearby(&clean, 0.3, index);
            let [clean, moved] =
                [clean, moved].map(|image| image.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>());
            let apart = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a - b).collect::<Vec<f64>>();
            let distance = length(&apart(&clean, &moved)).value();
            reach = network.reach(&network.spread(&Ball::Distance(distance))).value() / distance;
            let [own, other] = [clean, moved].map(|image| network.centre(&image));
            let states = network.metric().length(&apart(&own.state, &other.state)).value();
            greatest = greatest.max((states - own.distance.value() - other.distance.value()) / distance);
        }
        assert!(
            greatest > 0.0 && greatest <= reach && (reach - (3.0_f64 / 0.02).sqrt()).abs() < 1e-9,
            "{greatest} {reach}"
        );
    }

    #[test]
    fn what_has_no_bound_is_refused_by_name() {
        let (contracting, expanding) =
            (MonotoneCertifier::of(&model(0.15)), MonotoneCertifier::of(&model(1.0)));
        let picard = Deployment { solver: SolverConfig::picard(20, 1.0), ..Deployment::exact() };
        let refused = |certifier: &MonotoneCertifier, deployment: &Deployment, readout: &str| {
            let readout = readout.parse().unwrap();
            let refused = certifier.deployed(Method::Lipschitz, deployment, &readout);
            refused.err().map_or(String::new(), |error| error.to_string())
        };
        assert_eq!(refused(&contracting, &picard, "final"), "");
        assert!(refused(&contracting, &Deployment::exact(), "final").contains("broyden"));
        assert!(refused(&contracting, &picard, "early(3)").contains("early(3)"));
        assert!(refused(&expanding, &picard, "final").contains("smaller `step`"));
        let scope = crate::solve::StopScope::Batch;
        let solver = SolverConfig { scope, ..picard.solver.clone() };
        assert!(refused(&contracting, &Deployment { solver, ..picard.clone() }, "final").contains("batch"));
        // The ideal network is the same by either splitting.
        let splitting = Splitting::PeacemanRachford;
        let config = MonotoneConfig { splitting, step: 0.15, ..MonotoneConfig::digits() };
        let usual = MonotoneConfig { splitting: Splitting::ForwardBackward, ..config.clone() };
        let [reflected, usual] =
            [config, usual].map(|config| MonotoneCertifier::of(&config.init(3, &Device::default()).unwrap()));
        assert_eq!(refused(&reflected, &picard, "final"), "");
        let config = MonotoneMultiConfig { splitting, step: 0.15, ..MonotoneMultiConfig::digits() };
        let tiers = MonotoneCertifier::of_multi(&config.init(3, &Device::default()).unwrap()).unwrap();
        assert!(refused(&tiers, &picard, "final").contains("`forward-backward`"));
        let image: Vec<f32> = image(0).iter().chain(&image(1)).copied().take(64).collect();
        let radius = |certifier: &MonotoneCertifier| {
            certifier.ideal(Method::Lipschitz).unwrap().certified(0, &image, Norm::L2)
        };
        assert_eq!(radius(&reflected), radius(&usual));
    }

    #[test]
    fn the_middle_of_a_box_reaches_its_ends() {
        let (middle, half) = middle(&[0.0, 0.5, 0.95], 0.1);
        for ((middle, half), (low, high)) in
            middle.iter().zip(&half).zip([(0.0, 0.1), (0.4, 0.6), (0.85, 1.0)])
        {
            assert!(middle - half <= low && middle + half >= high && *half < 0.1 + 1e-12);
        }
        // A pixel at the edge of [0, 1] moves half as far.
        assert!(half[0] < 0.05 + 1e-12);
    }

    #[test]
    fn methods_are_read_and_written() {
        for method in Method::ALL {
            assert_eq!(method.to_string().parse(), Ok(method));
        }
        assert!("sdp".parse::<Method>().unwrap_err().contains("lipschitz"));
    }
}
