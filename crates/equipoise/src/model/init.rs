//! Initial parameters: drawn from one seeded generator, in the order in which a model is built, with stable
//! identities.
//!
//! Burn's flex backend has one global random generator; a model built from a seed of its own is the same
//! whatever else runs in the process. Parameter identities count from 1 in the same order, so that an
//! optimiser's state can be saved and found again.

use burn::module::{Param, ParamId, ParameterValue};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How a parameter is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// Normal with the given standard deviation.
    Normal(f64),
    /// Uniform in ± the given bound.
    Uniform(f64),
    /// Uniform in ± 1/√fan-in: PyTorch's default for convolutions.
    FanIn,
}

/// A source of initial parameters.
#[derive(Debug)]
pub struct Init {
    rng: ChaCha8Rng,
    device: Device,
    next: u64,
}

impl Init {
    /// A source for a model on a device (without autodiff: training turns it on where it needs it).
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), device: device.clone().inner(), next: 1 }
    }

    /// The device that parameters are made on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A parameter drawn from a law.
    pub fn parameter<const D: usize>(&mut self, shape: [usize; D], law: Law) -> Param<Tensor<D>> {
        let count = shape.iter().product();
        let fan_in = shape[1..].iter().product::<usize>().max(1) as f64;
        let values: Vec<f32> = (0..count)
            .map(|_| match law {
                Law::Normal(deviation) => (self.normal() * deviation) as f32,
                Law::Uniform(bound) => self.rng.random_range(-bound..=bound) as f32,
                Law::FanIn => (self.rng.random_range(-1.0..=1.0) / fan_in.sqrt()) as f32,
            })
            .collect();
        let value = Tensor::from_data(TensorData::new(values, shape), &self.device);
        self.constant(value)
    }

    /// A parameter filled with one value.
    pub fn filled<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        let value = Tensor::full(shape, value, &self.device);
        self.constant(value)
    }

    /// A parameter with a given value.
    pub fn constant<const D: usize>(&mut self, value: Tensor<D>) -> Param<Tensor<D>>
    where
        Tensor<D>: ParameterValue,
    {
        let id = ParamId::from(self.next);
        self.next += 1;
        // `from_tensor` records that the parameter is trained; its random identity is replaced.
        let (_, value, mapper) = Param::from_tensor(value).consume();
        Param::from_mapped_value(id, value, mapper).set_require_grad(true)
    }

    /// Box and Muller's transform: two uniforms to one normal.
    fn normal(&mut self) -> f64 {
        let (u, v): (f64, f64) = (1.0 - self.rng.random::<f64>(), self.rng.random());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}
