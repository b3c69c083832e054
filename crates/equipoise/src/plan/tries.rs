//! Which attacks to try through which gradients, in order, and what was left out.

use std::sync::Arc;

use equipoise_record::{NO_GRADIENT, NotTried};

use super::subject::Subject;
use crate::attack::{self, Attack};
use crate::gradient::Estimator;

/// What the plan tries on a network with one gradient, in order.
pub const ONE_GRADIENT: [&str; 5] = ["pgd-10", "apgd-ce", "apgd-t", "fab-t", "square"];

/// One attack through one gradient.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The attack.
    pub attack: Arc<dyn Attack>,
    /// The gradient; `None` for a black-box attack.
    pub estimator: Option<Estimator>,
    /// Whether the gradient is the training gradient.
    pub ready_made: bool,
    /// Work for a point that withstands: cell evaluations and vector-Jacobian products, or calls of the model where
    /// it has no cell.
    pub work: f64,
}

/// Attacks in order, and what was left out.
#[derive(Debug, Clone, Default)]
pub struct Tries {
    /// What to try.
    pub tries: Vec<Planned>,
    /// What not, and why.
    pub left_out: Vec<NotTried>,
}

impl Tries {
    /// The white-box plan, with these gradients beside its own.
    pub fn white_box(subject: &Subject<'_>, others: &[Estimator]) -> Self {
        let mut tries = Self::default();
        let gradients = subject.gradients(others);
        let training = &subject.deployment.training_gradient;
        let [pgd, apgd_ce, apgd_t, fab_t, square] =
            ["pgd-10", "apgd-ce", "apgd-t", "fab-t", "square"].map(attack_named);
        for attack in [&pgd, &apgd_ce, &apgd_t] {
            tries.add(subject, attack, Some(training));
        }
        if gradients.is_empty() {
            tries.add(subject, &fab_t, Some(training));
        }
        gradients.iter().for_each(|(estimator, _)| tries.add(subject, &apgd_ce, Some(estimator)));
        let long = gradients.iter().filter(|(_, long)| *long);
        long.for_each(|(estimator, _)| tries.add(subject, &apgd_t, Some(estimator)));
        if let Some((best, _)) = gradients.iter().find(|(estimator, _)| subject.check(estimator).is_ok()) {
            tries.add(subject, &fab_t, Some(best));
        }
        tries.add(subject, &square, None);
        tries
    }

    /// Each attack through the training gradient, then each through each of the others, then black-box attacks,
    /// whose queries are many and whose finds beyond all gradients say most.
    pub fn product(subject: &Subject<'_>, attacks: &[Arc<dyn Attack>], gradients: &[Estimator]) -> Self {
        let mut tries = Self::default();
        let training = &subject.deployment.training_gradient;
        for estimator in std::iter::once(training).chain(gradients) {
            attacks.iter().for_each(|attack| tries.add(subject, attack, Some(estimator)));
        }
        attacks.iter().for_each(|attack| tries.add(subject, attack, None));
        tries
    }

    /// This and another: ready-made attacks first, black-box attacks last, each once.
    pub fn with(mut self, other: Self) -> Self {
        for planned in other.tries {
            let same =
                |known: &Planned| (&known.attack, &known.estimator) == (&planned.attack, &planned.estimator);
            if !self.tries.iter().any(same) {
                self.tries.push(planned);
            }
        }
        // Stable: within the three the order stays.
        self.tries.sort_by_key(|planned| (!planned.ready_made, planned.estimator.is_none()));
        self.left_out.extend(other.left_out);
        self
    }

    /// Adds an attack if it is of the kind that the estimator asks for, or says why it cannot be run.
    fn add(&mut self, subject: &Subject<'_>, attack: &Arc<dyn Attack>, estimator: Option<&Estimator>) {
        if attack.needs_gradients() != estimator.is_some() {
            return;
        }
        if let Some(Err(error)) = estimator.map(|estimator| subject.check(estimator)) {
            return self.leave_out(attack.as_ref(), estimator, &error);
        }
        if let Err(error) = attack.check(subject.classes) {
            return self.leave_out(attack.as_ref(), estimator, &error);
        }
        if let Err(error) = attack.check_norm(subject.norm) {
            return self.leave_out(attack.as_ref(), estimator, &error);
        }
        let queries = attack.queries(subject.classes, subject.norm);
        let work =
            queries.gradients as f64 * subject.work(estimator) + queries.logits as f64 * subject.work(None);
        let ready_made = estimator == Some(&subject.deployment.training_gradient);
        self.tries.push(Planned { attack: attack.clone(), estimator: estimator.cloned(), ready_made, work });
    }

    fn leave_out(&mut self, attack: &dyn Attack, estimator: Option<&Estimator>, reason: &dyn ToString) {
        let estimator = estimator.map_or(NO_GRADIENT.to_owned(), ToString::to_string);
        let reason = reason.to_string();
        self.left_out.push(NotTried { attack: attack.name(), estimator, reason });
    }
}

/// The attack of a name that this plan is made of.
pub(super) fn attack_named(name: &str) -> Arc<dyn Attack> {
    attack::parse(name).expect("an attack of this crate").into()
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::architecture::{Architecture, Model};
    use crate::attack::Norm;
    use crate::readout::Readout;
    use crate::solve::SolverConfig;
    use crate::victim::Deployment;

    fn network(name: &str) -> Box<dyn Model> {
        let architecture = Architecture::named(name).unwrap().for_data([1, 8, 8], 10);
        let architecture = architecture.with_width(4).unwrap_or(architecture);
        architecture.init(3, &Device::default()).unwrap()
    }

    fn labels(tries: &Tries) -> Vec<String> {
        let name = |planned: &Planned| {
            let estimator = planned.estimator.as_ref().map_or("none".to_owned(), ToString::to_string);
            format!("{}/{estimator}", planned.attack.name())
        };
        tries.tries.iter().map(name).collect()
    }

    fn white_box(model: &dyn Model, deployment: &Deployment, readout: Readout, classes: usize) -> Tries {
        Tries::white_box(&Subject { model, deployment, readout, classes, norm: Norm::Linf }, &[])
    }

    #[test]
    fn an_equilibrium_meets_every_gradient() {
        let (network, deployment) = (network("mdeq-digits"), Deployment::exact());
        let tries = white_box(&*network, &deployment, Readout::final_state(), 10);
        let labels = labels(&tries);
        assert_eq!(labels[..3], ["pgd-10/exact", "apgd-ce/exact", "apgd-t/exact"]);
        assert_eq!(tries.tries.iter().filter(|planned| planned.ready_made).count(), 3);
        assert_eq!(labels[3], "apgd-ce/through-solver");
        assert_eq!(labels[labels.len() - 2..], ["fab-t/through-solver", "square/none"]);
        let through = |attack: &str| {
            let prefix = format!("{attack}/");
            labels[3..].iter().filter_map(|label| label.strip_prefix(&prefix)).collect::<Vec<_>>()
        };
        let all_states = "ensemble(unrolled:state=1..8,lead=1,steps=0,damping=0.5)";
        assert_eq!(through("apgd-t"), ["through-solver", all_states]);
        let gradients = through("apgd-ce");
        for expected in [
            "unrolled:state=4,lead=1,steps=0,damping=0.5",
            "unrolled:state=best,lead=1,steps=9,damping=0.5",
            "unrolled:state=2,lead=1,steps=4,damping=0.5",
            "unrolled:state=6,lead=1,steps=4,damping=0.5",
            "unrolled:state=8,lead=1,steps=4,damping=0.5",
            "adjoint:state=4,beta=1",
            "adjoint:state=8,beta=1",
            "ensemble(unrolled:state=1..8,lead=1,steps=0,damping=0.5)",
            "ensemble(adjoint:state=1..8,beta=1)",
        ] {
            assert!(gradients.contains(&expected), "{expected} is not in {gradients:?}");
        }
        // What fits the readout first, then the cheap first.
        let subject = Subject {
            model: &*network,
            deployment: &deployment,
            readout: Readout::final_state(),
            classes: 10,
            norm: Norm::Linf,
        };
        let works: Vec<f64> = subject
            .gradients(&[])
            .iter()
            .skip(1)
            .map(|(estimator, _)| subject.work(Some(estimator)))
            .collect();
        assert!(works.is_sorted(), "{works:?}");
        assert!(tries.left_out.is_empty());
    }

    #[test]
    fn the_plan_fits_its_readout() {
        let network = network("mdeq-digits");
        // A model that was trained with another gradient meets `exact` as an adaptive one.
        let deployment = Deployment::unrolled();
        let second = |readout| labels(&white_box(&*network, &deployment, readout, 10))[3..7].to_vec();
        assert_eq!(
            second(Readout::early(3))[..3],
            [
                "apgd-ce/through-solver",
                "apgd-ce/unrolled:state=3,lead=1,steps=0,damping=0.5",
                "apgd-ce/adjoint:state=3,beta=1"
            ]
        );
        assert_eq!(
            second(Readout::ensemble_logits())[1],
            "apgd-ce/joint(unrolled:state=1..8,lead=1,steps=0,damping=0.5,\
             unrolled:state=best,lead=1,steps=9,damping=0.5)"
        );
        let all = labels(&white_box(&*network, &deployment, Readout::final_state(), 10));
        assert!(all.contains(&"apgd-ce/exact".to_owned()));
        assert_eq!(all[0], "pgd-10/unrolled:state=best,lead=1,steps=9,damping=0.5");
        let mut once = all.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), all.len(), "no attack goes through one gradient twice");
    }

    #[test]
    fn what_a_model_does_not_admit_is_left_out_with_a_reason() {
        let network = network("mdeq-digits");
        let deployment = Deployment { solver: SolverConfig::anderson(8), ..Deployment::exact() };
        let tries = white_box(&*network, &deployment, Readout::final_state(), 3);
        assert!(labels(&tries).iter().all(|label| !label.contains("apgd-t")));
        assert!(labels(&tries).contains(&"apgd-ce/through-solver".to_owned()), "whatever the solver");
        let reason = |name: &str| {
            let found = tries
                .left_out
                .iter()
                .find(|left_out| left_out.estimator.contains(name) || left_out.attack == name);
            found.map(|left_out| left_out.reason.clone()).unwrap_or_default()
        };
        assert!(reason("apgd-t").contains("at least 4 classes"));
        assert_eq!(labels(&tries).last().unwrap(), "square/none");
    }

    #[test]
    fn in_l1_only_apgd_remains() {
        let (network, deployment) = (network("resnet18"), Deployment::exact());
        let (model, deployment, readout) = (&*network, &deployment, Readout::final_state());
        let subject = Subject { model, deployment, readout, classes: 10, norm: Norm::L1 };
        let tries = Tries::white_box(&subject, &[]);
        assert_eq!(labels(&tries), ["apgd-ce/exact", "apgd-t/exact"]);
        let left_out: Vec<&str> = tries.left_out.iter().map(|left_out| left_out.attack.as_str()).collect();
        assert_eq!(left_out, ["pgd-10", "fab-t", "square"]);
        assert!(tries.left_out.iter().all(|left_out| left_out.reason.contains("l1 balls")));
    }

    #[test]
    fn a_feedforward_network_has_one_gradient() {
        let (network, deployment) = (network("resnet18"), Deployment::exact());
        let tries = white_box(&*network, &deployment, Readout::final_state(), 10);
        let expected = ["pgd-10/exact", "apgd-ce/exact", "apgd-t/exact", "fab-t/exact", "square/none"];
        assert_eq!(labels(&tries), expected);
        let names: Vec<String> = tries.tries.iter().map(|planned| planned.attack.name()).collect();
        assert_eq!(names, ONE_GRADIENT);
        // FAB goes through the training gradient too, and counts as ready-made.
        assert_eq!(tries.tries.iter().filter(|planned| planned.ready_made).count(), 4);
    }

    #[test]
    fn named_attacks_join_in_their_places() {
        let (network, deployment) = (network("mdeq-digits"), Deployment::exact());
        let subject = Subject {
            model: &*network,
            deployment: &deployment,
            readout: Readout::final_state(),
            classes: 10,
            norm: Norm::Linf,
        };
        let named = ["pgd-50", "square", "square-100"].map(attack_named);
        let gradients = ["adjoint:state=1".parse().unwrap()];
        let product = Tries::product(&subject, &named, &gradients);
        let expected = ["pgd-50/exact", "pgd-50/adjoint:state=1,beta=1", "square/none", "square-100/none"];
        assert_eq!(labels(&product), expected);
        let all = Tries::white_box(&subject, &gradients).with(product);
        let all = labels(&all);
        assert_eq!(all[..4], ["pgd-10/exact", "apgd-ce/exact", "apgd-t/exact", "pgd-50/exact"]);
        assert!(all.contains(&"apgd-t/adjoint:state=1,beta=1".to_owned()));
        assert_eq!(all[all.len() - 2..], ["square/none", "square-100/none"]);
        assert_eq!(all.iter().filter(|label| *label == "square/none").count(), 1);
    }
}
