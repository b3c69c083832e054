//! Gradients of parameters, added up from several sources.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Gradients, Tensor};

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
