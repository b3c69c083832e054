//! Gradients of parameters: added up from several sources, their norm, and clipping by it (Pascanu, Mikolov and Bengio
//! 2013, arXiv 1211.5063).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{DType, Gradients, Tensor};

use equipoise_attack::batch::{from_vec, to_vec};

/// A module with its parameters in a precision.
pub fn in_precision<M: Module>(module: M, dtype: DType) -> M {
    struct Cast(DType);
    impl ModuleMapper for Cast {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| value.cast(self.0))
        }
    }
    module.map(&mut Cast(dtype))
}

/// Adds a gradient to what is already held for that parameter.
pub fn accumulate<const D: usize>(into: &mut GradientsParams, id: ParamId, gradient: Tensor<D>) {
    let sum = match into.remove::<D>(id) {
        Some(held) => held + gradient,
        None => gradient,
    };
    into.register(id, sum);
}

/// Adds the gradients of a module's parameters, as a backward pass left them.
pub fn accumulate_module<M: Module>(into: &mut GradientsParams, mut from: Gradients, module: &M) {
    struct Collect<'a> {
        from: &'a mut Gradients,
        into: &'a mut GradientsParams,
    }
    impl ModuleVisitor for Collect<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = param.val().grad_remove(self.from) {
                accumulate(self.into, param.id, gradient);
            }
        }
    }
    module.visit(&mut Collect { from: &mut from, into });
}

/// Moves a module's gradients from one collection to another, added to what is held there.
pub fn merge<M: Module>(module: &M, into: &mut GradientsParams, from: &mut GradientsParams) {
    struct Move<'a>(&'a mut GradientsParams, &'a mut GradientsParams);
    impl ModuleVisitor for Move<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.1.remove::<D>(param.id) {
                accumulate(self.0, param.id, gradient);
            }
        }
    }
    module.visit(&mut Move(into, from));
}

/// The numbers of a module's gradients, in the order of its parameters; those without a gradient are left out.
pub fn numbers<M: Module>(module: &M, gradients: &GradientsParams) -> Vec<f32> {
    struct Read<'a>(&'a GradientsParams, Vec<f32>);
    impl ModuleVisitor for Read<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.extend(to_vec(gradient));
            }
        }
    }
    let mut read = Read(gradients, Vec::new());
    module.visit(&mut read);
    read.1
}

/// Puts other numbers, as many and in the order of [`numbers`], in the place of a module's gradients.
pub fn replace<M: Module>(module: &M, gradients: &mut GradientsParams, numbers: &[f32]) {
    struct Write<'a>(&'a mut GradientsParams, &'a [f32]);
    impl ModuleVisitor for Write<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                let (own, rest) = self.1.split_at(gradient.dims().iter().product());
                self.1 = rest;
                self.0.register(param.id, from_vec(own.to_vec(), gradient.dims(), &gradient.device()));
            }
        }
    }
    let mut write = Write(gradients, numbers);
    module.visit(&mut write);
    assert!(write.1.is_empty(), "numbers of other gradients");
}

/// The Euclidean norm of a model's gradients as one vector. Summed in float64 in the order of the parameters, so that
/// it does not depend on threads.
pub fn global_norm<M: Module>(model: &M, gradients: &GradientsParams) -> f64 {
    struct Squares<'a>(&'a GradientsParams, f64);
    impl ModuleVisitor for Squares<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1 += to_vec(gradient).into_iter().map(|x| f64::from(x) * f64::from(x)).sum::<f64>();
            }
        }
    }
    let mut squares = Squares(gradients, 0.0);
    model.visit(&mut squares);
    squares.1.sqrt()
}

/// Scales gradients of this norm down to `limit`, if they are longer.
pub fn clip<M: Module>(model: &M, gradients: &mut GradientsParams, norm: f64, limit: f64) {
    struct Scale<'a>(&'a mut GradientsParams, f64);
    impl ModuleVisitor for Scale<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, gradient * self.1);
            }
        }
    }
    if norm > limit {
        model.visit(&mut Scale(gradients, limit / norm));
    }
}
