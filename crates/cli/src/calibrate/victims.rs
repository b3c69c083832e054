//! The victims: small DEQs on the embedded digits, trained under attack in a second or two, and the images that they
//! are attacked on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::module::Module;
use burn::optim::AdamConfig;
use burn::tensor::Device;
use equipoise::attack::{Attack, Budget, Examples, Norm, Pgd, PgdConfig};
use equipoise::batch::{from_vec, select};
use equipoise::evaluate::Points;
use equipoise::loss::CrossEntropy;
use equipoise::readout::Readout;
use equipoise::solve::SolverConfig;
use equipoise::train::{StepOptions, gradients};
use equipoise::victim::{Deployment, Victim};
use equipoise_dataset::{Dataset, Source, Split};

use super::model::{Model, untrained};
use crate::error::{Error, input};

/// The radius that the victims are trained at, L∞.
pub const TRAINED_AT: f64 = 0.15;
/// Training images: those after them are attacked together with the test images.
const TRAINED_ON: usize = 797;
/// Images of a training step.
const BATCH: usize = 64;

/// How a victim is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// ‖W‖₂ ≤ 0.7: f is a contraction, which 8 steps of Broyden's method solve to 10⁻³ and better.
    Contractive,
    /// ‖W‖₂ ≤ 0.5, for solves to the last bit.
    Tight,
    /// ‖W‖₂ ≤ 1.6: 8 steps leave a residual, and the states on the way differ from the last.
    Loose,
}

/// Models, each made once, and the images that they never saw.
pub struct Victims {
    device: Device,
    data: Dataset,
    /// 500 test images, then 500 images of the training split that no victim was trained on.
    pub pool: Points,
    steps: usize,
    made: Mutex<HashMap<(Kind, u64), Arc<Model>>>,
}

impl Victims {
    /// Victims that are trained for so many steps.
    ///
    /// # Errors
    ///
    /// If the embedded data cannot be read.
    pub fn new(steps: usize, device: &Device) -> Result<Self, Error> {
        let (data, test) = (Source::Digits.load(Split::Train)?, Source::Digits.load(Split::Test)?);
        let tested: Vec<usize> = (0..test.len()).collect();
        let unseen: Vec<usize> = (TRAINED_ON..data.len()).collect();
        let pixels = [test.images(&tested), data.images(&unseen)].concat();
        let labels = [test.labels.clone(), unseen.iter().map(|&k| data.labels[k]).collect()].concat();
        let images = from_vec(pixels, [labels.len(), 1, 8, 8], device);
        let pool = Points::new((0..labels.len()).collect(), images, labels)?;
        Ok(Self { device: device.clone(), data, pool, steps, made: Mutex::default() })
    }

    /// The first so many points of the pool.
    ///
    /// # Errors
    ///
    /// Never: the pool has been checked.
    pub fn first(&self, n: usize) -> Result<Points, Error> {
        self.slice(0..n)
    }

    /// Some points of the pool.
    ///
    /// # Errors
    ///
    /// Never: the pool has been checked.
    pub fn slice(&self, range: std::ops::Range<usize>) -> Result<Points, Error> {
        let rows: Vec<usize> = range.collect();
        let of = |all: &[usize]| rows.iter().map(|&row| all[row]).collect::<Vec<_>>();
        Ok(Points::new(of(self.pool.indices()), select(self.pool.images(), &rows), of(self.pool.labels()))?)
    }

    /// How a kind is deployed.
    pub fn deployment(kind: Kind) -> Deployment {
        match kind {
            Kind::Contractive => Deployment::exact(),
            Kind::Tight => Deployment {
                solver: SolverConfig::broyden(14).with_tolerance(1e-8),
                backward: SolverConfig::broyden(14).with_tolerance(1e-8),
                ..Deployment::exact()
            },
            Kind::Loose => Deployment::exact(),
        }
    }

    /// A model of a kind, trained on first use.
    ///
    /// # Errors
    ///
    /// Never: the attack's settings are fixed, and the training asks for nothing that the cell cannot do.
    pub fn model(&self, kind: Kind, seed: u64) -> Result<Arc<Model>, Error> {
        // Kept while it trains: whoever else wants this model waits for it.
        let mut made = self.made();
        if let Some(model) = made.get(&(kind, seed)) {
            return Ok(model.clone());
        }
        let model = Arc::new(self.fit(kind, seed)?);
        made.insert((kind, seed), model.clone());
        Ok(model)
    }

    /// A model, if it was trained.
    pub fn known(&self, kind: Kind, seed: u64) -> Option<Arc<Model>> {
        self.made().get(&(kind, seed)).cloned()
    }

    fn made(&self) -> MutexGuard<'_, HashMap<(Kind, u64), Arc<Model>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fit(&self, kind: Kind, seed: u64) -> Result<Model, Error> {
        let (scale, gain) = match kind {
            Kind::Contractive => (0.5, Some(0.7)),
            Kind::Tight => (0.5, Some(0.5)),
            Kind::Loose => (0.8, Some(1.6)),
        };
        // Trained with a few solver steps, as many as the task takes; deployed with more where that is wanted.
        let deployment = Deployment::exact();
        let mut model = untrained(64, 10, seed, scale, &self.device);
        let attack = Pgd::new(PgdConfig {
            steps: 3,
            keep_first: false,
            step_size: Some(0.08),
            ..PgdConfig::default()
        })
        .map_err(input)?;
        let budget = Budget::new(Norm::Linf, TRAINED_AT).map_err(input)?;
        let mut optimizer = AdamConfig::new().init();
        let options = StepOptions::default();
        for step in 0..self.steps {
            // A stride that no batch size divides goes through all images in another order for each seed.
            let place = |k: usize| ((BATCH * step + k) * 311 + 17 * seed as usize) % TRAINED_ON;
            let indices: Vec<usize> = (0..BATCH).map(place).collect();
            let labels: Vec<usize> = indices.iter().map(|&k| self.data.labels[k]).collect();
            let images = from_vec(self.data.images(&indices), [BATCH, 1, 8, 8], &self.device);
            let victim = Victim::ready_made(&model, &deployment);
            let examples =
                Examples { images: &images, labels: &labels, indices: &indices, seed, start: step };
            // The first tenth without attack: training begins faster.
            let images = if 10 * step < self.steps {
                images.clone()
            } else {
                attack.run(&victim, &examples, &budget).images
            };
            let objective = CrossEntropy { labels };
            let found = gradients(&model, &deployment, &options, &images, &objective, &Default::default());
            let found = found.map_err(|error| Error::Internal(error.to_string()))?;
            let rate = 5e-3 * (1.0 - step as f64 / self.steps as f64).max(0.1);
            model = optimizer.step(rate, model.train(), found.parameters).valid();
            if let Some(gain) = gain {
                model.cell = model.cell.at_most(gain);
            }
        }
        Ok(model)
    }
}

/// The readout that a victim answers with.
pub fn readout() -> Readout {
    Readout::final_state()
}
