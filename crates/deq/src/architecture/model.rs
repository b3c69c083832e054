//! A model of any architecture: what files and training ask of it, beside what every [`Network`] has.

use std::any::Any;

use burn::module::Module;
use burn::optim::{GradientsParams, ModuleOptimizer};

use crate::model::cell::Cell;
use crate::model::deq::{Deq, Head, Stem};
use crate::model::feedforward::Feedforward;
use crate::model::layers::BatchMoments;
use crate::model::parameters::{clip, global_norm, merge, numbers, replace};
use crate::model::state_dict::{
    Parameter, Shapes, StateDict, StateDictError, load_state_dict, parameters, state_dict,
};
use crate::network::Network;
use crate::training_pass::{StepGradients, StepOptions, UnsupportedCell, feedforward_gradients, gradients};
use crate::victim::Deployment;
use equipoise_attack::batch::Images;
use equipoise_attack::loss::Objective;
use equipoise_attack::work::WorkCounter;

/// A model of any architecture.
///
/// Every [`Deq`] is one, whatever its stem, cell and head, and every [`Feedforward`] network.
pub trait Model: Network + Parameters + Send {
    /// Gradients of all parameters for the mean of an objective over a batch of images.
    ///
    /// # Errors
    ///
    /// If the options ask for what the model's cell cannot do.
    fn training_pass(
        &self,
        deployment: &Deployment,
        options: &StepOptions,
        images: &Images,
        objective: &dyn Objective,
        counter: &WorkCounter,
    ) -> Result<StepGradients, UnsupportedCell>;

    /// Length M of the cell's dropout mask; 0 for a model without dropout.
    fn mask_dim(&self) -> usize {
        0
    }
}

impl<S: Stem, C: Cell, H: Head> Model for Deq<S, C, H> {
    fn training_pass(
        &self,
        deployment: &Deployment,
        options: &StepOptions,
        images: &Images,
        objective: &dyn Objective,
        counter: &WorkCounter,
    ) -> Result<StepGradients, UnsupportedCell> {
        gradients(self, deployment, options, images, objective, counter)
    }

    fn mask_dim(&self) -> usize {
        self.cell.mask_dim()
    }
}

impl<M: Feedforward> Model for M {
    fn training_pass(
        &self,
        _: &Deployment,
        _: &StepOptions,
        images: &Images,
        objective: &dyn Objective,
        _: &WorkCounter,
    ) -> Result<StepGradients, UnsupportedCell> {
        Ok(feedforward_gradients(self, images, objective))
    }
}

/// What is done with a model's parameters, whatever they are: follows from its being a Burn module.
pub trait Parameters: Any {
    /// A copy, which shares the weights' memory until one of the two changes.
    fn boxed(&self) -> Box<dyn Model>;

    /// The parameters in the order in which the model was built.
    fn parameters(&self) -> Vec<Parameter>;

    /// The weights by state-dict name.
    fn weights(&self) -> StateDict;

    /// The model with other weights.
    ///
    /// # Errors
    ///
    /// If names or shapes do not match exactly, or a value is not finite.
    fn with_weights(&self, weights: StateDict) -> Result<Box<dyn Model>, StateDictError>;

    /// The Euclidean norm of gradients as one vector, summed in float64 in the order of the parameters, so that it does not
    /// depend on threads.
    fn gradient_norm(&self, gradients: &GradientsParams) -> f64;

    /// Scales gradients of this norm down to `limit`, if they are longer (Pascanu, Mikolov and Bengio 2013, arXiv 1211.5063).
    fn clip(&self, gradients: &mut GradientsParams, norm: f64, limit: f64);

    /// Adds the gradients of one collection to those of another.
    fn merge(&self, into: &mut GradientsParams, from: &mut GradientsParams);

    /// The numbers of gradients in the order of the parameters; those without a gradient are left out.
    fn gradient_numbers(&self, gradients: &GradientsParams) -> Vec<f32>;

    /// Puts other numbers in their place, as many and in that order.
    ///
    /// # Panics
    ///
    /// If there are fewer or more.
    fn replace_gradients(&self, gradients: &mut GradientsParams, numbers: &[f32]);

    /// The model after an optimiser's step, and with its running statistics moved towards a batch's.
    fn stepped(
        &self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: f64,
        gradients: GradientsParams,
        moments: BatchMoments,
    ) -> Box<dyn Model>;
}

impl<M: Module + Model + 'static> Parameters for M {
    fn boxed(&self) -> Box<dyn Model> {
        Box::new(self.clone())
    }

    fn parameters(&self) -> Vec<Parameter> {
        parameters(self)
    }

    fn weights(&self) -> StateDict {
        state_dict(self)
    }

    fn with_weights(&self, weights: StateDict) -> Result<Box<dyn Model>, StateDictError> {
        Ok(Box::new(load_state_dict(self.clone(), weights)?))
    }

    fn gradient_norm(&self, gradients: &GradientsParams) -> f64 {
        global_norm(self, gradients)
    }

    fn clip(&self, gradients: &mut GradientsParams, norm: f64, limit: f64) {
        clip(self, gradients, norm, limit);
    }

    fn merge(&self, into: &mut GradientsParams, from: &mut GradientsParams) {
        merge(self, into, from);
    }

    fn gradient_numbers(&self, gradients: &GradientsParams) -> Vec<f32> {
        numbers(self, gradients)
    }

    fn replace_gradients(&self, gradients: &mut GradientsParams, numbers: &[f32]) {
        replace(self, gradients, numbers);
    }

    fn stepped(
        &self,
        optimizer: &mut ModuleOptimizer,
        learning_rate: f64,
        gradients: GradientsParams,
        moments: BatchMoments,
    ) -> Box<dyn Model> {
        // Burn's optimisers want parameters on autodiff; everything else here wants them off it.
        let stepped = optimizer.step(learning_rate, self.clone().train(), gradients).valid();
        Box::new(moments.absorbed_into(stepped))
    }
}

impl dyn Model {
    /// The model itself, if it is of this type.
    pub fn downcast<M: Model>(&self) -> Option<&M> {
        let any: &dyn Any = self;
        any.downcast_ref()
    }

    /// The shapes of the weights by state-dict name.
    pub fn shapes(&self) -> Shapes {
        self.parameters().into_iter().map(|parameter| (parameter.name, parameter.shape)).collect()
    }

    /// How many numbers are trained: the running statistics of batch normalisations are not.
    pub fn parameter_count(&self) -> usize {
        let trained = |parameter: &Parameter| !parameter.is_running_statistic();
        self.parameters().iter().filter(|parameter| trained(parameter)).map(Parameter::count).sum()
    }

    /// Whether a parameter's numbers are there, rather than its shape alone.
    pub fn has_memory(&self) -> bool {
        self.parameters().iter().any(|parameter| parameter.initialized)
    }
}

impl Clone for Box<dyn Model> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}
