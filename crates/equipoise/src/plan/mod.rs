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
//! For a readout that is a defence ([`defence`](crate::defence)): its derivative (`shift`), the same with a slope in the place
//! of the sign's, the loss at its segments' ends, and the true gradient of the undefended model, which is a transfer attack
//! as the ready-made ones are.
//!
//! What a model does not admit is left out with the reason: APGD-T needs four classes, only APGD searches in L1. A
//! feedforward network has one gradient.
//!
//! With a control ([`Plan::new`]) every try through another gradient becomes a pair: the j-th starts from start j, and
//! its twin, through the training gradient, from the same one. Where the training gradient does not read the readout, an
//! aimed run joins them. The yardstick compares one gradient with one: PGD-10 (APGD-CE in L1) from four starts.

mod subject;
mod tries;

use std::sync::Arc;

use equipoise_record::NotTried;

pub use subject::{Subject, other_gradients};
pub use tries::{ONE_GRADIENT, Planned, Tries};

use crate::attack::{Attack, Classifier, Norm, WhiteBox};
use crate::evaluate::{Cascade, Duel, Pair, Run};
use crate::gradient::Estimator;
use crate::readout::Readout;
use tries::attack_named;

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
            let truth = Estimator::truth(&subject.readout);
            let true_gradient = others.iter().find(|other| **other == truth).cloned();
            let true_gradient =
                true_gradient.or_else(|| (training != truth && subject.is_equilibrium()).then_some(truth));
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
                    let work = gradients * subject.work_of_sibling(readout);
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
            let victim = model.victim(deployment, readout.clone(), Estimator::truth(readout));
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
                    let made = format!("{} of {readout}", Estimator::truth(readout));
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
