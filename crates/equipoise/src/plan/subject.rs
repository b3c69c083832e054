//! A model behind a readout, as it is to be attacked: which gradients fit it, and what a question costs.

use crate::attack::Norm;
use crate::gradient::{BehindDefence, Estimator, EstimatorError, Setting, parse_list};
use crate::network::Network;
use crate::readout::{ReadState, Readout, Tail};
use crate::solve::StateChoice;
use crate::victim::Deployment;

/// Gradients beside the training gradient, which ready-made attacks use already, each once: those of a list, none of `none`,
/// or without a list the usual ones: exact, unrolled from an early, a middle and the last iterate, all iterates together,
/// and the two that follow the solver, which are the most expensive; for a readout that is a defence those that go through it.
///
/// # Errors
///
/// Says what cannot be read, or what the solver does not have; or which gradient belongs to none of the readouts.
pub fn other_gradients(
    list: Option<&str>,
    deployment: &Deployment,
    readouts: &[Readout],
) -> Result<Vec<Estimator>, String> {
    let usual = || {
        let steps = deployment.solver.steps;
        let mut lists: Vec<String> = readouts
            .iter()
            .map(|readout| match readout.defence() {
                None => usual_gradients(steps),
                Some(defence) => usual_gradients_behind(defence.segments),
            })
            .collect();
        lists.dedup();
        lists.join(",")
    };
    let given = match list.map(str::trim) {
        Some("none") => Vec::new(),
        Some(list) => parse_list(list).map_err(|error| error.to_string())?,
        None => parse_list(&usual()).map_err(|error| error.to_string())?,
    };
    let mut estimators: Vec<Estimator> = Vec::new();
    for estimator in given {
        let mut checks = readouts.iter().map(|readout| estimator.check_behind(readout, &deployment.solver));
        let first = checks.next().unwrap_or(Ok(()));
        if first.is_err() && !checks.any(|check| check.is_ok()) {
            first.map_err(|error| error.to_string())?;
        }
        let ready_made = match estimator.behind_defence() {
            Some(BehindDefence::Off(method)) => *method == deployment.training_gradient,
            _ => estimator == deployment.training_gradient,
        };
        if !ready_made && !estimators.contains(&estimator) {
            estimators.push(estimator);
        }
    }
    Ok(estimators)
}

fn usual_gradients_behind(segments: usize) -> String {
    let first = vec!["0"; segments - 1].join(",");
    let first = if first.is_empty() { "1".to_owned() } else { format!("1,{first}") };
    let all = vec!["1"; segments].join(",");
    format!("shift,smooth(1),lock-in({first}),lock-in({all}),off(through-solver)")
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
    pub(crate) fn is_equilibrium(&self) -> bool {
        self.model.equilibrium().is_some()
    }

    /// Whether the solver has what the estimator follows.
    pub(super) fn check(&self, estimator: &Estimator) -> Result<(), EstimatorError> {
        let Deployment { solver, training_gradient, .. } = self.deployment;
        match self.is_equilibrium() {
            false => Ok(()),
            // The ready-made attack goes through it whatever it knows of the readout.
            true if estimator == training_gradient => estimator.check(solver),
            true => estimator.check_behind(&self.readout, solver),
        }
    }

    /// T.
    fn steps(&self) -> usize {
        self.deployment.solver.steps
    }

    /// Cell evaluations and vector-Jacobian products of one question for value and gradient, or, without an estimator,
    /// for logits: where no example stops early and the last iterate is the best, as a rule.
    pub fn work(&self, estimator: Option<&Estimator>) -> f64 {
        self.model.draws(&self.readout) as f64 * self.work_of_one(estimator)
    }

    /// The same of one draw.
    fn work_of_one(&self, estimator: Option<&Estimator>) -> f64 {
        if !self.is_equilibrium() {
            return if estimator.is_some() { 3.0 } else { 1.0 };
        }
        let (steps, tail) = (self.steps(), self.deployment.tail);
        // Of a readout that draws one of its states, one tail answers.
        let tails = self.readout.tails(steps);
        let tails = if self.readout.mixes() { tails.min(1) } else { tails };
        // Its first application is known from the solve.
        let reading = tails * tail.applications().saturating_sub(1);
        let each = self.deployment.solver.method.evaluations_per_step();
        if let Some(defence) = self.readout.defence() {
            let answer = defence.work(tail.applications()).total() as f64;
            return answer + estimator.map_or(0.0, |estimator| self.work_behind(estimator));
        }
        // Of several random starts all are solved from, and the chosen one once more.
        let chosen =
            self.readout.starts().map_or(0, |starts| if starts.count > 1 { starts.count } else { 0 });
        let choice = (chosen * (1 + steps * each)) as f64;
        let Some(estimator) = estimator else {
            return choice + (1 + self.readout.steps(steps) * each + reading) as f64;
        };
        let own = if estimator.reads(&self.readout, &tail) { 0 } else { reading };
        let backward = &self.deployment.backward;
        let beyond = estimator.work(&Setting { steps, tail, backward, readout: &self.readout });
        choice + (1 + steps * each + own) as f64 + beyond.total() as f64
    }

    /// That of the true gradient behind another readout, and of the answer behind this one.
    pub(super) fn work_of_sibling(&self, readout: &Readout) -> f64 {
        let sibling = Self { readout: readout.clone(), ..self.clone() };
        sibling.work(Some(&Estimator::truth(readout)))
    }

    /// That of a gradient behind a defence, beside the answer's.
    fn work_behind(&self, estimator: &Estimator) -> f64 {
        let (steps, tail, backward) = (self.steps(), self.deployment.tail, &self.deployment.backward);
        let method = match estimator.behind_defence() {
            Some(BehindDefence::Through(_)) => {
                let setting = Setting { steps, tail, backward, readout: &self.readout };
                return estimator.work(&setting).total() as f64;
            }
            Some(BehindDefence::Off(method)) => method,
            None => estimator,
        };
        let each = self.deployment.solver.method.evaluations_per_step();
        let undefended = Setting { steps, tail, backward, readout: &Readout::final_state() };
        (1 + steps * each) as f64 + method.work(&undefended).total() as f64
    }

    /// The gradients behind a defence, in order: its derivative, with a slope in the place of the sign's, with the loss at
    /// the segments' ends, and the true gradient of the undefended model.
    fn gradients_behind(&self, segments: usize) -> Vec<(Estimator, bool)> {
        let smooth = |c| Estimator::smooth(c).expect("positive");
        let lock_in = |weights, method| Estimator::lock_in(weights, method).expect("a weight is not 0");
        let first: Vec<f64> = (0..segments).map(|s| f64::from(u8::from(s == 0))).collect();
        let all = vec![1.0 / segments as f64; segments];
        vec![
            (Estimator::shift(), true),
            (smooth(1.0), true),
            (smooth(0.1), false),
            (smooth(10.0), false),
            (lock_in(first, Estimator::shift()), false),
            (lock_in(all.clone(), Estimator::shift()), false),
            (lock_in(all, smooth(1.0)), false),
            (Estimator::off(Estimator::through_solver()).expect("it knows of no defence"), false),
        ]
    }

    /// The gradients beside the training gradient, in order, and whether each is worth an attack of nine targets.
    pub(super) fn gradients(&self, others: &[Estimator]) -> Vec<(Estimator, bool)> {
        if !self.is_equilibrium() {
            return Vec::new();
        }
        if let Some(defence) = self.readout.defence() {
            let mut all = self.gradients_behind(defence.segments);
            for estimator in others {
                if !all.iter().any(|(known, _)| known == estimator) {
                    all.push((estimator.clone(), true));
                }
            }
            return all;
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
                read => Estimator::unrolled(read.choice(), self.deployment.tail),
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
