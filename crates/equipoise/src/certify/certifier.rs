//! A monotone DEQ's constants, and which proofs it has: of the ideal fixed point, and of the network as it is deployed.

use std::any::Any;
use std::sync::Arc;

use super::lowered;
use super::method::{Method, Unbounded};
use super::monotone::{Affine, Boxes, Branching, Deployed, Network, Zonotopes};
use super::proof::{Proof, Tool};
use super::upper::SINGLE;
use crate::architecture::Model;
use crate::attack::Norm;
use crate::model::monotone::{Lben, Monotone, MonotoneConv, MonotoneMulti, Splitting};
use crate::model::sll::Sll;
use crate::readout::Readout;
use crate::solve::Picard;
use crate::victim::Deployment;

/// A monotone DEQ whose constants are known. Made once for all images and methods.
pub struct MonotoneCertifier {
    pub(super) network: Network,
    splitting: Splitting,
}

impl MonotoneCertifier {
    /// Of a model. Its stored float32 parameters are taken for exact.
    ///
    /// # Errors
    ///
    /// If it is no monotone DEQ, or a convolutional one, of one tier or several, that is too large; see
    /// [`of_convolutional`](Self::of_convolutional).
    pub fn new(model: &dyn Model) -> Result<Self, Unbounded> {
        if let Some(model) = model.downcast::<Lben>() {
            return Ok(Self::of(&model.network()));
        }
        if let Some(model) = model.downcast::<Monotone>() {
            return Ok(Self::of(model));
        }
        if let Some(model) = model.downcast::<MonotoneConv>() {
            return Self::of_convolutional(model);
        }
        if let Some(model) = model.downcast::<MonotoneMulti>() {
            return Self::of_multi(model);
        }
        if model.downcast::<Sll>().is_some() {
            let problem = "layers are certified as the `lben` that computes the same; import them with its configuration";
            return Err(Unbounded::new(problem.into()));
        }
        Err(Unbounded::new("only a monotone DEQ is certified by proof".into()))
    }

    /// Of a fully connected monotone DEQ, whatever its W is made of.
    pub fn of(model: &Monotone) -> Self {
        Self { network: lowered::full(model), splitting: model.cell.splitting() }
    }

    /// Of a convolutional monotone DEQ, by its matrices: those of the published ones have 392 and 512 units. One that has more than 4096
    /// units, or 2^26 of them times its pixels, is certified by [`Method::Lipschitz`] alone, as it is applied.
    ///
    /// # Errors
    ///
    /// If it is as large and W is not that of Winston and Kolter, or it has more than 2^20 units or 4096 pixels.
    pub fn of_convolutional(model: &MonotoneConv) -> Result<Self, Unbounded> {
        Ok(Self {
            network: lowered::convolutional(model, lowered::MOST_UNITS)?,
            splitting: model.cell.splitting(),
        })
    }

    /// Of a convolutional monotone DEQ of several tiers, in the same way.
    ///
    /// # Errors
    ///
    /// If it has more than 2^20 units in all, or 4096 pixels.
    pub fn of_multi(model: &MonotoneMulti) -> Result<Self, Unbounded> {
        Ok(Self { network: lowered::multi(model, lowered::MOST_UNITS)?, splitting: model.cell.splitting() })
    }

    /// ‖W_out‖ ‖U‖/m with U in units of pixel intensity: an upper bound of the Lipschitz constant of the logits in L2.
    pub fn lipschitz(&self) -> f64 {
        self.network.lipschitz().value()
    }

    /// κ = ‖(1−α) I + α W‖, or ‖2 ((1+α) I − α W)⁻¹ − I‖ of Peaceman-Rachford splitting, from above: what one application of the cell
    /// contracts distances by, in the network's norm (L2, or ℓ∞ for `nemon`, of Λz). From 1 on nothing is known of the deployed
    /// network; a smaller step α helps.
    pub fn contraction(&self) -> f64 {
        self.network.contraction().value()
    }

    /// The [usual](Method::USUAL) methods that say something of the network in a norm, and why others of that norm do not.
    pub fn methods(&self, norm: Norm) -> (Vec<Method>, Vec<(Method, Unbounded)>) {
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for method in Method::USUAL.into_iter().filter(|method| method.check_norm(norm).is_ok()) {
            match self.ideal(method) {
                Ok(_) => known.push(method),
                Err(error) => unknown.push((method, error)),
            }
        }
        (known, unknown)
    }

    /// By each of some methods, of the ideal network and, where it is deployed in a way that something is known of, of that one.
    ///
    /// # Errors
    ///
    /// As [`Self::ideal`] and [`Self::deployed`].
    pub fn proofs(
        &self,
        methods: &[Method],
        deployed: Option<(&Deployment, &Readout)>,
    ) -> Result<Vec<Proof<'_>>, Unbounded> {
        let mut proofs = Vec::new();
        for &method in methods {
            let ideal = self.ideal(method)?;
            let tool = Arc::clone(&ideal.tool);
            proofs.push(ideal);
            if let Some((deployment, readout)) = deployed {
                let deployed = Some(self.known(deployment, readout)?);
                proofs.push(Proof { network: &self.network, method, tool, deployed, radii: None });
            }
        }
        Ok(proofs)
    }

    /// Of the exact fixed point, in exact arithmetic.
    ///
    /// # Errors
    ///
    /// If the method knows nothing of such a network.
    pub fn ideal(&self, method: Method) -> Result<Proof<'_>, Unbounded> {
        if method != Method::Lipschitz && self.network.matrices().is_none() {
            return Err(Unbounded::new(format!(
                "its state has {} units, too many for matrices, on which `{}` works; use lipschitz, or smoothing",
                self.network.hidden(),
                method.name()
            )));
        }
        let tool = match method {
            Method::Lipschitz => Tool::Lipschitz,
            Method::Affine => Tool::Affine(Arc::new(Affine::new(&self.network))),
            Method::Branching => Tool::Branching(Branching::new(&self.network)),
            Method::Zonotopes => Tool::Zonotopes(Zonotopes::new(&self.network).ok_or_else(|| {
                let problem = "no step of its cell is known to contract, which zonotopes are iterated by";
                Unbounded::new(problem.to_owned())
            })?),
            Method::Boxes => Tool::Boxes(Boxes::new(&self.network).ok_or_else(|| {
                let problem = "boxes of its states grow without end: the skew part of W, or what couples its units otherwise, is too large for the monotonicity m";
                Unbounded::new(problem.to_owned())
            })?),
        };
        Ok(Proof { network: &self.network, method, tool: Arc::new(tool), deployed: None, radii: None })
    }

    /// Of the network as it is deployed: its solver's error and float32's included.
    ///
    /// # Errors
    ///
    /// If the solver, its scope or the readout is one for which no bound is known, a step of the cell does not contract, or the
    /// method knows nothing of such a network.
    pub fn deployed(
        &self,
        method: Method,
        deployment: &Deployment,
        readout: &Readout,
    ) -> Result<Proof<'_>, Unbounded> {
        let deployed = self.known(deployment, readout)?;
        Ok(Proof { deployed: Some(deployed), ..self.ideal(method)? })
    }

    /// The solver of a deployment of which something is known.
    fn known(&self, deployment: &Deployment, readout: &Readout) -> Result<Deployed, Unbounded> {
        let wrong = |problem: String| Err(Unbounded::new(problem));
        if self.splitting != Splitting::ForwardBackward && !self.network.is_reflected() {
            return wrong(
                "of the error of Peaceman-Rachford splitting nothing is known beforehand where there are several tiers; the fixed \
                 point is the same with splitting `forward-backward` in the architecture"
                    .into(),
            );
        }
        let solver = &deployment.solver;
        let chosen: &dyn Any = &*solver.method;
        let Some(&Picard { damping }) = chosen.downcast_ref() else {
            return wrong(format!(
                "its solver is {}, of whose error nothing is known beforehand; deploy it with picard",
                solver.method.name()
            ));
        };
        if solver.scope != crate::solve::StopScope::Example {
            return wrong(
                "its solver stops on the norms of a whole batch; deploy it with scope `example`".into(),
            );
        }
        if *readout != Readout::final_state() {
            return wrong(format!("readout {readout}: only of `final` something is known"));
        }
        let contraction = self.contraction();
        if contraction >= 1.0 {
            return wrong(format!(
                "a step of its cell expands distances by up to {contraction:.3}; the fixed point is the same with a smaller \
                 `step` in the architecture"
            ));
        }
        Ok(Deployed {
            steps: solver.steps,
            tolerance: solver.tolerance,
            damping,
            lead: deployment.tail.lead,
            tail: deployment.tail.steps,
            tail_damping: deployment.tail.damping,
            unit: SINGLE,
        })
    }
}
