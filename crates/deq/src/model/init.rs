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

use equipoise_attack::random::box_muller;

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
    /// Absent where parameters have a shape alone.
    rng: Option<ChaCha8Rng>,
    device: Device,
    next: u64,
}

impl Init {
    /// A source for a model on a device (without autodiff: training turns it on where it needs it).
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { rng: Some(ChaCha8Rng::seed_from_u64(seed)), device: device.clone().inner(), next: 1 }
    }

    /// A source of parameters that have a shape and no memory yet: for weights that come from a file, and to know a
    /// model's size. Read before it is replaced, such a parameter is 0.
    pub fn shapes(device: &Device) -> Self {
        Self { rng: None, ..Self::new(0, device) }
    }

    /// The device that parameters are made on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// A parameter drawn from a law.
    pub fn parameter<const D: usize>(&mut self, shape: [usize; D], law: Law) -> Param<Tensor<D>> {
        let Some(rng) = &mut self.rng else { return self.shape_alone(shape) };
        let count = shape.iter().product();
        let fan_in = shape[1..].iter().product::<usize>().max(1) as f64;
        let values: Vec<f32> = (0..count)
            .map(|_| match law {
                Law::Normal(deviation) => (normal(rng) * deviation) as f32,
                Law::Uniform(bound) => rng.random_range(-bound..=bound) as f32,
                Law::FanIn => (rng.random_range(-1.0..=1.0) / fan_in.sqrt()) as f32,
            })
            .collect();
        let value = Tensor::from_data(TensorData::new(values, shape), &self.device);
        self.constant(value)
    }

    /// A parameter filled with one value.
    pub fn filled<const D: usize>(&mut self, shape: [usize; D], value: f32) -> Param<Tensor<D>> {
        self.computed(shape, |device| Tensor::full(shape, value, device))
    }

    /// A parameter whose value follows from others.
    pub fn computed<const D: usize>(
        &mut self,
        shape: [usize; D],
        value: impl FnOnce(&Device) -> Tensor<D>,
    ) -> Param<Tensor<D>> {
        match self.rng {
            Some(_) => {
                let value = value(&self.device);
                self.constant(value)
            }
            None => self.shape_alone(shape),
        }
    }

    /// A parameter with a given value.
    pub(crate) fn constant<const D: usize>(&mut self, value: Tensor<D>) -> Param<Tensor<D>>
    where
        Tensor<D>: ParameterValue,
    {
        let id = self.next_id();
        // `from_tensor` records that the parameter is trained; its random identity is replaced.
        let (_, value, mapper) = Param::from_tensor(value).consume();
        Param::from_mapped_value(id, value, mapper).set_require_grad(true)
    }

    fn shape_alone<const D: usize>(&mut self, shape: [usize; D]) -> Param<Tensor<D>> {
        let zeros = move |device: &Device, _| Tensor::zeros(shape, device);
        Param::uninitialized(self.next_id(), zeros, self.device.clone(), true, shape.into())
    }

    fn next_id(&mut self) -> ParamId {
        let id = ParamId::from(self.next);
        self.next += 1;
        id
    }
}

/// A standard normal number.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    box_muller(1.0 - rng.random::<f64>(), rng.random())
}
