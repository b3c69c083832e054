//! The white-box plan: which attacks to try through which gradients on a deployed model, and what each is compared with.
//!
//! Tries, in order:
//!
//! 1. Through the training gradient (*ready-made*): PGD-10, APGD-CE, APGD-T; and FAB-T where there is no other gradient.
//!    They are the opening.
//! 2. APGD-CE through each other gradient. 3. APGD-T, nine times as long, through those that fit the readout, the ensemble
//!    of all states and those that were asked for. 4. FAB-T through the gradient that fits best.
//! 5. Square, which needs none.
//!
//! Cheap attacks come first: what they break costs the expensive ones nothing. The gradients are, those first that read
//! the loss where the readout does, then by cost:
//!
//! - `through-solver`, the true gradient of every readout; for `early(t)` the adjoint and one application at z_t;
//!   for `ensemble-logits` the joint gradient of all states and the final one,
//! - `exact`; `unrolled` for one application at T/2, five at T/4, T/2, 3T/4 and T, ten at the best state;
//!   `adjoint` at T/2, 3T/4 and T; ensembles of the unrolled and of the adjoint gradients at all states,
//! - whatever else was asked for.
//!
//! What a model does not admit is left out with the reason: APGD-T needs four classes, only APGD searches in L1. A
//! feedforward network has one gradient.
//!
//! With a control ([`Plan::new`]) every try through another gradient becomes a pair: the j-th starts from start j, and
//! its twin, through the training gradient, from the same one. Where the training gradient does not read the readout, an
//! aimed run joins them. The yardstick compares one gradient with one: PGD-10 (APGD-CE in L1) from four starts.

use std::sync::Arc;

use equipoise_record::{NO_GRADIENT, NotTried};

use crate::attack::{self, Attack, Classifier, Norm, WhiteBox};
use crate::evaluate::{Cascade, Duel, Pair, Run};
use crate::gradient::{Estimator, EstimatorError, Setting, parse_list};
use crate::network::Network;
use crate::readout::{ReadState, Readout, Tail};
use crate::solve::StateChoice;
use crate::victim::Deployment;

/// What the plan tries on a network with one gradient, in order.
pub const ONE_GRADIENT: [&str; 5] = ["pgd-10", "apgd-ce", "apgd-t", "fab-t", "square"];

/// Gradients beside the training gradient, which ready-made attacks use already, each once: those of a list, none of `none`,
/// or without a list the usual ones: exact, unrolled from an early, a middle and the last iterate, all iterates together,
/// and the two that follow the solver, which are the most expensive.
///
/// # Errors
///
/// Says what cannot be read, or what the solver does not have.
pub fn other_gradients(list: Option<&str>, deployment: &Deployment) -> Result<Vec<Estimator>, String> {
    let usual = usual_gradients(deployment.solver.steps);
    let given = match list.unwrap_or(&usual).trim() {
        "none" => Vec::new(),
        list => parse_list(list).map_err(|error| error.to_string())?,
    };
    let mut estimators: Vec<Estimator> = Vec::new();
    for estimator in given {
        estimator.check(&deployment.solver).map_err(|error| error.to_string())?;
        if estimator != deployment.training_gradient && !estimators.contains(&estimator) {
            estimators.push(estimator);
        }
    }
    Ok(estimators)
}

fn usual_gradients(steps: usize) -> String {
    let mut states = vec![steps.div_ceil(4), steps.div_ceil(2), steps];
    states.dedup();
    let mut list = vec!["exact".to_owned()];
    list.extend(states.iter().map(|t| format!("unrolled:state={t},lead=1,steps=4")));
    list.push(format!("ensemble(unrolled:state=1..{steps},lead=1,steps=0)"));
    list.extend(["adjoint".to_owned(), "through-solver".to_owned()]);
    list.join(",")
}

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

/// A model as it is to be attacked.
#[derive(Debug, Clone)]
pub struct Subject<'a> {
    /// The model.
    pub model: &'a dyn Network,
    /// How it is deployed.
    pub deployment: &'a Deployment,
    /// The readout under attack.
    pub readout: Readout,
    /// Number of classes.
    pub classes: usize,
    /// Norm of the budget.
    pub norm: Norm,
}

impl Subject<'_> {
    fn is_equilibrium(&self) -> bool {
        self.model.equilibrium().is_some()
    }

    /// Whether the solver has what the estimator follows.
    fn check(&self, estimator: &Estimator) -> Result<(), EstimatorError> {
        if self.is_equilibrium() { estimator.check(&self.deployment.solver) } else { Ok(()) }
    }

    /// T.
    fn steps(&self) -> usize {
        self.deployment.solver.steps
    }

    /// Cell evaluations and vector-Jacobian products of one question for value and gradient, or, without an estimator,
    /// for logits: where no example stops early and the last iterate is the best, as a rule.
    pub fn work(&self, estimator: Option<&Estimator>) -> f64 {
        if !self.is_equilibrium() {
            return if estimator.is_some() { 3.0 } else { 1.0 };
        }
        let (steps, tail) = (self.steps(), self.deployment.tail);
        let reading = if self.readout.reads_final(steps) { tail.applications() } else { 0 };
        let each = self.deployment.solver.method.evaluations_per_step();
        let Some(estimator) = estimator else {
            return (1 + self.readout.steps(steps) * each + reading) as f64;
        };
        let own = if estimator.reads(&self.readout, &tail) { 0 } else { reading };
        let backward = &self.deployment.backward;
        let beyond = estimator.work(&Setting { steps, tail, backward, readout: &self.readout });
        (1 + steps * each + own) as f64 + beyond.total() as f64
    }

    /// The gradients beside the training gradient, in order, and whether each is worth an attack of nine targets.
    fn gradients(&self, others: &[Estimator]) -> Vec<(Estimator, bool)> {
        if !self.is_equilibrium() {
            return Vec::new();
        }
        let steps = self.steps();
        let quarter = |k: usize| (steps * k).div_ceil(4);
        let at = StateChoice::At;
        let unrolled = |state, steps| Estimator::unrolled(state, Tail { steps, ..Tail::EXACT });
        let adjoint = |t| Estimator::adjoint(at(t), 1.0);
        let ensemble = |members: Vec<Estimator>| Estimator::ensemble(members).expect("a solve has states");
        let mut matching = vec![Estimator::through_solver()];
        let read = self.readout.states(steps);
        if self.readout.averages_logits() {
            let member = |read| match read {
                ReadState::At(t) => unrolled(at(t), 0),
                ReadState::Final => Estimator::unrolled(StateChoice::Best, self.deployment.tail),
            };
            let joint = Estimator::joint(read.into_iter().map(member).collect());
            matching.push(joint.expect("unrolled gradients read one state each"));
        } else if let [ReadState::At(t)] = read[..] {
            matching.extend([unrolled(at(t), 0), adjoint(t)]);
        }
        let mut general =
            vec![Estimator::exact(), unrolled(at(quarter(2)), 0), unrolled(StateChoice::Best, 9)];
        general.extend((1..=4).map(|k| unrolled(at(quarter(k)), 4)));
        general.extend((2..=4).map(|k| adjoint(quarter(k))));
        let all_states = ensemble((1..=steps).map(|t| unrolled(at(t), 0)).collect());
        general.push(all_states.clone());
        general.push(ensemble((1..=steps).map(adjoint).collect()));
        general.sort_by(|a, b| self.work(Some(a)).total_cmp(&self.work(Some(b))));
        let long = |estimator: &Estimator| {
            matching.contains(estimator) || *estimator == all_states || others.contains(estimator)
        };
        let mut all: Vec<(Estimator, bool)> = Vec::new();
        for estimator in matching.iter().chain(&general).chain(others) {
            let known = all.iter().any(|(known, _)| known == estimator);
            if *estimator != self.deployment.training_gradient && !known {
                all.push((estimator.clone(), long(estimator)));
            }
        }
        all
    }
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
fn attack_named(name: &str) -> Arc<dyn Attack> {
    attack::parse(name).expect("an attack of this crate").into()
}

/// A try with what it is compared with.
#[derive(Debug, Clone)]
pub struct PlannedPair {
    /// The try through another gradient.
    pub white_box: Planned,
    /// Its start, from 1.
    pub start: usize,
    /// Whether it has a twin through the training gradient.
    pub twin: bool,
    /// The training method pointed at the readout, where the training gradient does not read it.
    pub aimed: Option<Estimator>,
}

/// One gradient against one.
#[derive(Debug, Clone)]
pub struct PlannedDuel {
    /// The attack, with its starts as restarts.
    pub attack: Arc<dyn Attack>,
    /// The other gradient.
    pub other: Estimator,
    /// The training gradient, pointed at the readout.
    pub training: Estimator,
}

/// Images that are not made against the model behind its readout.
#[derive(Debug, Clone)]
pub enum Transfer {
    /// Those that PGD-10 makes through the true gradient of the same model behind another readout. With APGD-CE in L1.
    Readout(Readout),
    /// Stored ones ([`Stored`](crate::evaluate::Stored)).
    Images(Arc<dyn Attack>),
}

/// What makes images that are tried here.
#[derive(Debug, Clone)]
pub struct PlannedTransfer {
    /// The attack.
    pub attack: Arc<dyn Attack>,
    /// The readout that it attacks; absent for images that were stored.
    pub sibling: Option<Readout>,
    /// Work for a point that withstands it.
    pub work: f64,
}

/// Starts on each side of the yardstick.
const YARDSTICK_STARTS: usize = 4;

/// Everything that is to be run on one readout.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The training gradient.
    training: Estimator,
    /// The ready-made attacks.
    pub opening: Vec<Planned>,
    /// The arms.
    pub pairs: Vec<PlannedPair>,
    /// The yardstick; several where the one to be measured is chosen by what the arms find.
    pub yardsticks: Vec<PlannedDuel>,
    /// The gradient-free attacks.
    pub gradient_free: Vec<Planned>,
    /// What is made elsewhere and tried here.
    pub transferred: Vec<PlannedTransfer>,
    /// What is not to be run, and why.
    pub left_out: Vec<NotTried>,
    /// Work of a question through the training gradient and through the aimed one, for the twins.
    unit: (f64, f64),
}

impl Plan {
    /// Sorts tries into their parts. With `control` each one through another gradient gets its twin, and the yardstick is
    /// added; without, the others are run as they are, and no finding can be made.
    pub fn new(subject: &Subject<'_>, tries: Tries, control: bool) -> Self {
        let deployment = subject.deployment;
        let training = deployment.training_gradient.clone();
        let aimed =
            training.aimed_at(&subject.readout, &deployment.tail).filter(|_| subject.is_equilibrium());
        let mut plan = Self {
            unit: (
                subject.work(Some(&training)),
                aimed.as_ref().map_or(0.0, |aimed| subject.work(Some(aimed))),
            ),
            training: training.clone(),
            opening: Vec::new(),
            pairs: Vec::new(),
            yardsticks: Vec::new(),
            gradient_free: Vec::new(),
            transferred: Vec::new(),
            left_out: tries.left_out,
        };
        for planned in tries.tries {
            if planned.ready_made {
                plan.opening.push(planned);
            } else if planned.estimator.is_none() {
                plan.gradient_free.push(planned);
            } else {
                let start = plan.pairs.len() + 1;
                let twin = control && planned.attack.draws_start() && !plan.opening.is_empty();
                let aimed = aimed.clone().filter(|_| twin);
                plan.pairs.push(PlannedPair { white_box: planned, start, twin, aimed });
            }
        }
        if control && !plan.pairs.is_empty() && !plan.opening.is_empty() {
            let others = plan.others();
            let true_gradient = others.iter().find(|other| **other == Estimator::through_solver()).cloned();
            let true_gradient = true_gradient.or_else(|| {
                (training != Estimator::through_solver() && subject.is_equilibrium())
                    .then_some(Estimator::through_solver())
            });
            let attack = Self::yardstick_attack(subject.norm);
            let training = aimed.unwrap_or(training);
            let duel = |other| PlannedDuel { attack: attack.clone(), other, training: training.clone() };
            plan.yardsticks = match true_gradient {
                Some(other) => vec![duel(other)],
                None => others.into_iter().map(duel).collect(),
            };
        }
        plan
    }

    /// With images from elsewhere, each source once, tried on what withstands everything else.
    pub fn with_transfers(mut self, subject: &Subject<'_>, sources: &[Transfer]) -> Self {
        for source in sources {
            let planned = match source {
                Transfer::Images(images) => {
                    PlannedTransfer { attack: images.clone(), sibling: None, work: subject.work(None) }
                }
                Transfer::Readout(readout) if *readout == subject.readout => continue,
                Transfer::Readout(readout) => {
                    let attack = match subject.norm {
                        Norm::L1 => attack_named("apgd-ce-25"),
                        Norm::Linf | Norm::L2 => attack_named("pgd-10"),
                    };
                    let gradients = attack.queries(subject.classes, subject.norm).gradients as f64;
                    let work = gradients * subject.work(Some(&Estimator::through_solver()));
                    PlannedTransfer { attack, sibling: Some(readout.clone()), work }
                }
            };
            let same = |other: &PlannedTransfer| {
                *other.attack == *planned.attack && other.sibling == planned.sibling
            };
            if !self.transferred.iter().any(same) {
                self.transferred.push(planned);
            }
        }
        self
    }

    /// The other gradients, each once, in order.
    pub fn others(&self) -> Vec<Estimator> {
        let mut others = Vec::new();
        for estimator in self.pairs.iter().filter_map(|pair| pair.white_box.estimator.as_ref()) {
            if !others.contains(estimator) {
                others.push(estimator.clone());
            }
        }
        others
    }

    /// PGD-10 from four starts, or APGD-CE where PGD does not search: an instrument, the same whatever the arms try.
    fn yardstick_attack(norm: Norm) -> Arc<dyn Attack> {
        match norm {
            Norm::L1 => attack_named(&format!("apgd-ce-25x{YARDSTICK_STARTS}")),
            Norm::Linf | Norm::L2 => attack_named(&format!("pgd-10x{YARDSTICK_STARTS}")),
        }
    }

    /// The estimators behind which a model is to be seen, each once: the training gradient first.
    fn estimators(&self) -> Vec<Estimator> {
        let mut all = vec![self.training.clone()];
        let pairs = self.pairs.iter().flat_map(|pair| pair.white_box.estimator.iter().chain(&pair.aimed));
        let duels = self.yardsticks.iter().flat_map(|duel| [&duel.other, &duel.training]);
        for estimator in pairs.chain(duels) {
            if !all.contains(estimator) {
                all.push(estimator.clone());
            }
        }
        all
    }

    /// The model as the runs see it, one victim for each gradient.
    pub fn victims<'a>(&self, subject: &Subject<'a>) -> Victims<'a> {
        let Subject { model, deployment, readout, classes, norm } = subject;
        let of = |estimator: Estimator| {
            let victim = model.victim(deployment, readout.clone(), estimator.clone());
            (estimator, victim)
        };
        let sibling = |readout: &Readout| {
            let victim = model.victim(deployment, readout.clone(), Estimator::through_solver());
            (readout.clone(), victim)
        };
        let siblings = self.transferred.iter().filter_map(|planned| planned.sibling.as_ref());
        Victims {
            of: self.estimators().into_iter().map(of).collect(),
            siblings: siblings.map(sibling).collect(),
            classes: *classes,
            norm: *norm,
        }
    }

    /// The runs, on victims of the same subject.
    pub fn cascade<'a>(
        &self,
        subject: &Subject<'_>,
        judge: &'a dyn Classifier,
        victims: &'a Victims<'_>,
    ) -> Cascade<'a> {
        let training = victims.get(&self.training);
        let name = |estimator: &Estimator| estimator.to_string();
        let mut cascade = Cascade::new(subject.readout.to_string(), judge);
        for planned in &self.opening {
            let run = Run::new(planned.attack.clone(), name(&self.training), training);
            cascade.opening.push(run.costing(planned.work));
        }
        for PlannedPair { white_box, start, twin, aimed } in &self.pairs {
            let Some(estimator) = &white_box.estimator else { continue };
            let attack = white_box.attack.clone();
            let gradients = attack.queries(victims.classes, victims.norm).gradients as f64;
            let run = Run::new(attack, name(estimator), victims.get(estimator)).starting(*start);
            cascade.pairs.push(Pair {
                twin: twin
                    .then(|| run.through(name(&self.training), training).costing(gradients * self.unit.0)),
                aimed: aimed.as_ref().map(|aimed| {
                    run.through(name(aimed), victims.get(aimed)).costing(gradients * self.unit.1)
                }),
                white_box: run.costing(white_box.work),
            });
        }
        for PlannedDuel { attack, other, training } in &self.yardsticks {
            let gradients = attack.queries(victims.classes, victims.norm).gradients as f64;
            let run =
                Run::new(attack.clone(), name(other), victims.get(other)).starting(self.pairs.len() + 1);
            let side = |run: Run<'a>, estimator| run.costing(gradients * subject.work(Some(estimator)));
            let aimed = side(run.through(name(training), victims.get(training)), training);
            cascade.yardsticks.push(Duel { other: side(run, other), training: aimed });
        }
        for (start, planned) in self.gradient_free.iter().enumerate() {
            let run = Run::gradient_free(planned.attack.clone(), training);
            cascade.gradient_free.push(run.starting(start).costing(planned.work));
        }
        for (place, PlannedTransfer { attack, sibling, work }) in self.transferred.iter().enumerate() {
            let run = match sibling {
                None => Run::gradient_free(attack.clone(), training),
                Some(readout) => {
                    let made = format!("{} of {readout}", Estimator::through_solver());
                    Run::new(attack.clone(), made, victims.sibling(readout))
                }
            };
            // No run before has this start.
            cascade.transferred.push(run.starting(self.pairs.len() + 2 + place).costing(*work));
        }
        cascade
    }
}

/// One model behind one readout, once for each gradient, and behind others whose images are tried here.
pub struct Victims<'a> {
    of: Vec<(Estimator, Box<dyn WhiteBox + 'a>)>,
    siblings: Vec<(Readout, Box<dyn WhiteBox + 'a>)>,
    classes: usize,
    norm: Norm,
}

impl Victims<'_> {
    /// The one behind a gradient of the plan.
    fn get(&self, estimator: &Estimator) -> &dyn WhiteBox {
        let found = self.of.iter().find(|(known, _)| known == estimator);
        &*found.expect("every gradient of the plan has its victim").1
    }

    /// The one behind another readout.
    fn sibling(&self, readout: &Readout) -> &dyn WhiteBox {
        let found = self.siblings.iter().find(|(known, _)| known == readout);
        &*found.expect("every sibling of the plan has its victim").1
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::architecture::{Architecture, Model};
    use crate::solve::SolverConfig;

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
