//! A DEQ as it is deployed, and as attacks see it.
//!
//! [`Deployment`] says how a DEQ is used: solver, tail, readout, and the gradient it was trained with. A
//! [`Victim`] is a model, a readout and a gradient estimator, and implements the two traits that attacks know.
//! The product of readouts and estimators is the grid of adaptive attacks.

use serde::{Deserialize, Serialize};

use crate::defence::Defended;
use crate::gradient::{BehindDefence, Cotangents, Estimator, ReadHead, Reading, Setting, Solved};
use crate::model::cell::{BoundCell, Counted};
use crate::model::equilibrium::{Equilibrium, ToImages};
use crate::readout::{Readout, Starts, Tail};
use crate::solve::{Keep, SolverConfig, SolverError, StateChoice, Trajectory, solve_keeping};
use crate::state::{Injection, State};
use equipoise_attack::attack::{Approximate, Classifier, Question, ValueAndGradient, WarmStart, WhiteBox};
use equipoise_attack::batch::{Images, Logits};
use equipoise_attack::loss::Objective;
use equipoise_attack::random::{ExampleRng, Key};
use equipoise_attack::work::{Work, WorkCounter};

/// How a DEQ is used: what its model file holds beside the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// The forward solver.
    #[serde(default)]
    pub solver: SolverConfig,
    /// The solver of the backward equation u = Jᵀu + v.
    #[serde(default = "backward")]
    pub backward: SolverConfig,
    /// The applications of f after the solver.
    #[serde(default = "tail")]
    pub tail: Tail,
    /// The readout that answers.
    #[serde(default = "readout")]
    pub readout: Readout,
    /// The gradient that the model was trained with: ready-made attacks use it.
    #[serde(default = "training_gradient")]
    pub training_gradient: Estimator,
}

fn backward() -> SolverConfig {
    SolverConfig::broyden(7)
}

fn tail() -> Tail {
    Tail::EXACT
}

fn readout() -> Readout {
    Readout::final_state()
}

fn training_gradient() -> Estimator {
    Estimator::exact()
}

impl Default for Deployment {
    fn default() -> Self {
        Self::exact()
    }
}

impl Deployment {
    /// Of a model trained with the exact gradient.
    pub fn exact() -> Self {
        Self {
            solver: SolverConfig::default(),
            backward: backward(),
            tail: tail(),
            readout: readout(),
            training_gradient: training_gradient(),
        }
    }

    /// Of a model trained with the unrolled (phantom) gradient.
    pub fn unrolled() -> Self {
        Self { tail: Tail::UNROLLED, training_gradient: Estimator::phantom(), ..Self::exact() }
    }

    /// Whether the settings make sense, by themselves and together: what a command refuses as a flag is refused here too.
    ///
    /// # Errors
    ///
    /// Names the first setting that is out of range, and the range.
    pub fn validate(&self) -> Result<(), DeploymentError> {
        let wrong = |field: &'static str| move |problem: String| DeploymentError { field, problem };
        self.solver.validate().map_err(|SolverError(problem)| wrong("solver")(problem))?;
        self.backward.validate().map_err(|SolverError(problem)| wrong("backward")(problem))?;
        self.tail.validate().map_err(wrong("tail"))?;
        self.readout.check(self.solver.steps).map_err(wrong("readout"))?;
        let gradient = self.training_gradient.check(&self.solver);
        gradient.map_err(|error| wrong("training_gradient")(error.to_string()))
    }
}

/// A deployment that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("deployment.{field}: {problem}")]
pub struct DeploymentError {
    /// The offending field.
    pub field: &'static str,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// A batch after its forward solve.
pub struct Forward {
    /// The cell with the batch's injection.
    pub cell: Counted,
    /// z_1..z_T.
    pub trajectory: Trajectory,
}

/// A model behind a readout, attacked through a gradient estimator.
pub struct Victim<'a> {
    model: &'a dyn Equilibrium,
    deployment: &'a Deployment,
    readout: Readout,
    estimator: Estimator,
    counter: WorkCounter,
}

impl<'a> Victim<'a> {
    /// The model as it is deployed, attacked through the gradient it was trained with: what a ready-made
    /// attack sees.
    pub fn ready_made(model: &'a dyn Equilibrium, deployment: &'a Deployment) -> Self {
        Self::new(model, deployment, deployment.readout.clone(), deployment.training_gradient.clone())
    }

    /// The model behind a readout, attacked through an estimator.
    pub fn new(
        model: &'a dyn Equilibrium,
        deployment: &'a Deployment,
        readout: Readout,
        estimator: Estimator,
    ) -> Self {
        Self { model, deployment, readout, estimator, counter: WorkCounter::default() }
    }

    /// Solves for the fixed points of a batch of images, in at most `steps` steps; with a defence off.
    pub fn forward(&self, images: &Images, steps: usize) -> Forward {
        let injection = self.model.injection(images);
        forward(self.model, &injection, &self.solver(steps), &Keep::nothing(), &self.counter)
    }

    /// What a solve of so many steps keeps for the estimator.
    fn kept(&self, steps: usize) -> Keep {
        let Deployment { tail, backward, .. } = self.deployment;
        let setting = Setting { steps, tail: *tail, backward, readout: &self.readout };
        Keep::at(self.estimator.visits(&setting))
    }

    fn solver(&self, steps: usize) -> SolverConfig {
        SolverConfig { steps, ..self.deployment.solver.clone() }
    }

    /// z_0 of each question, if it is drawn: of several random starts the one whose solve ends at the lowest relative residual,
    /// the first of equal ones. Which one that is, is piecewise constant in the image.
    fn start(&self, keys: &[Key], injection: &Injection) -> Option<State> {
        let Starts { count, scale } = self.readout.starts()?;
        let dim = self.model.state_dim();
        let mut numbers: Vec<ExampleRng> = keys.iter().map(Key::rng).collect();
        let zero = injection.zeros([keys.len(), dim]);
        let mut draw = || {
            let entries = numbers.iter_mut().flat_map(|rng| (0..dim).map(|_| scale * rng.normal()));
            zero.like(entries.collect(), dim)
        };
        let mut chosen = draw();
        if count == 1 {
            return Some(chosen);
        }
        let solver = self.solver(self.deployment.solver.steps);
        let solve = |start: &State| {
            let cell = self.model.bind(injection);
            forward_from(cell, start.clone(), &solver, &Keep::nothing(), &self.counter)
                .trajectory
                .best_residuals()
        };
        let mut lowest = solve(&chosen);
        for _ in 1..count {
            let start = draw();
            let residuals = solve(&start);
            let better: Vec<usize> = (0..keys.len()).filter(|&row| residuals[row] < lowest[row]).collect();
            if !better.is_empty() {
                chosen = chosen.put(&better, &start.select(&better));
                better.iter().for_each(|&row| lowest[row] = residuals[row]);
            }
        }
        Some(chosen)
    }

    /// Logits `[N, K]` of the readout for a solved batch; behind a defence, those of the undefended model.
    pub fn read(&self, forward: &Forward) -> Logits {
        let head = |state: State| self.model.logits(&state);
        self.readout.logits(&forward.cell, &forward.trajectory, &self.deployment.tail, &head)
    }

    /// Which outcome each question of a readout that draws is answered by.
    fn places(&self, keys: &[Key]) -> Vec<usize> {
        let outcomes = self.readout.states(self.deployment.solver.steps).len();
        keys.iter().map(|key| key.rng().below(outcomes)).collect()
    }

    /// The same of a readout that draws a state, of its outcome in this place for each example.
    fn read_drawn(&self, forward: &Forward, places: &[usize]) -> Logits {
        let head = |state: State| self.model.logits(&state);
        let Forward { cell, trajectory } = forward;
        self.readout.logits_drawn(cell, trajectory, &self.deployment.tail, &head, places)
    }

    /// The logits `[N, K]` of every outcome of a readout that draws a state, each of which is as likely: one solve holds all.
    /// Of another readout there is one outcome.
    pub fn outcomes(&self, images: &Images) -> Vec<Logits> {
        let steps = self.readout.steps(self.deployment.solver.steps);
        let forward = self.forward(images, steps);
        if !self.readout.mixes() {
            return vec![self.read(&forward)];
        }
        let count = images.dims()[0];
        let outcomes = 0..self.readout.states(steps).len();
        outcomes.map(|place| self.read_drawn(&forward, &vec![place; count])).collect()
    }

    /// The estimator's reading on a batch, and the estimated gradient `[N, C, H, W]` of its sum with respect
    /// to the images; with a defence off.
    pub fn gradient(&self, images: &Images, objective: &dyn Objective) -> (Reading, Images, Forward) {
        self.gradient_starting_at(|_| None, images, objective)
    }

    /// The same with a solve that starts from a z_0 `[N, D]`, given the injection; from 0 if there is none.
    fn gradient_starting_at(
        &self,
        start: impl FnOnce(&Injection) -> Option<State>,
        images: &Images,
        objective: &dyn Objective,
    ) -> (Reading, Images, Forward) {
        let (injection, to_images) = self.model.linearize_stem(images);
        let solver = self.solver(self.deployment.solver.steps);
        let keep = self.kept(solver.steps);
        let forward = match start(&injection) {
            None => forward(self.model, &injection, &solver, &keep, &self.counter),
            Some(start) => forward_from(self.model.bind(&injection), start, &solver, &keep, &self.counter),
        };
        let (reading, gradient) = self.pull_back(images, to_images, &forward, objective);
        (reading, gradient, forward)
    }

    /// The same for images that are solved already, by [`Self::forward`] with the deployed steps: several
    /// estimators can share one trajectory. The stem is evaluated again.
    pub fn gradient_from(
        &self,
        images: &Images,
        forward: &Forward,
        objective: &dyn Objective,
    ) -> (Reading, Images) {
        let (_, to_images) = self.model.linearize_stem(images);
        self.pull_back(images, to_images, forward, objective)
    }

    /// Logits `[N, K]` of the readout after solves that end, for each example, after so many steps, from 1.
    pub fn logits_within(&self, images: &Images, steps: &[usize]) -> Logits {
        let Forward { cell, trajectory } = self.forward(images, longest(steps));
        self.read(&Forward { cell, trajectory: trajectory.ended_after(steps) })
    }

    /// The readout's logits and values with the estimated gradient, of the same.
    pub fn differentiate_within(
        &self,
        images: &Images,
        objective: &dyn Objective,
        steps: &[usize],
    ) -> ValueAndGradient {
        let (injection, to_images) = self.model.linearize_stem(images);
        let solver = self.solver(longest(steps));
        let Forward { cell, trajectory } =
            forward(self.model, &injection, &solver, &self.kept(solver.steps), &self.counter);
        let forward = Forward { cell, trajectory: trajectory.ended_after(steps) };
        let (reading, gradient) = self.pull_back(images, to_images, &forward, objective);
        self.answered(reading, gradient, &forward, objective)
    }

    /// From a solved batch to the gradient at its images, by the way back from their injection.
    fn pull_back(
        &self,
        images: &Images,
        to_images: ToImages<'_>,
        forward: &Forward,
        objective: &dyn Objective,
    ) -> (Reading, Images) {
        let mut cotangents = Cotangents::attack();
        let mut solved = Solved {
            cell: &forward.cell,
            trajectory: &forward.trajectory,
            tail: self.deployment.tail,
            backward: &self.deployment.backward,
            readout: &self.readout,
            head: &mut PlainHead(self.model),
            objective,
        };
        let reading = self.estimator.pull_back(&mut solved, 1.0, &mut cotangents);
        let gradient = match cotangents.into_parts().0 {
            Some(cotangent) => to_images(cotangent),
            None => images.zeros_like(),
        };
        (reading, gradient)
    }
}

/// The most of some numbers of steps.
pub(crate) fn longest(steps: &[usize]) -> usize {
    steps.iter().copied().max().unwrap_or(1)
}

/// Binds the cell and solves from z_0 = 0.
pub(crate) fn forward(
    model: &dyn Equilibrium,
    injection: &Injection,
    solver: &SolverConfig,
    keep: &Keep,
    counter: &WorkCounter,
) -> Forward {
    forward_bound(model.bind(injection), model.state_dim(), injection, solver, keep, counter)
}

/// Solves from z_0 = 0 for a cell of states of length `dim` that is bound already.
pub(crate) fn forward_bound(
    cell: Box<dyn BoundCell>,
    dim: usize,
    injection: &Injection,
    solver: &SolverConfig,
    keep: &Keep,
    counter: &WorkCounter,
) -> Forward {
    let start = injection.zeros([injection.dims()[0], dim]);
    forward_from(cell, start, solver, keep, counter)
}

/// Solves from a given z_0 for a cell that is bound already.
fn forward_from(
    cell: Box<dyn BoundCell>,
    start: State,
    solver: &SolverConfig,
    keep: &Keep,
    counter: &WorkCounter,
) -> Forward {
    let cell = Counted::new(cell, counter.clone());
    let trajectory = solve_keeping(&cell, start, solver, keep);
    Forward { cell, trajectory }
}

impl Classifier for Victim<'_> {
    fn classes(&self) -> usize {
        self.model.classes()
    }

    fn answer(&self, question: &Question<'_>) -> Logits {
        if let Some(defended) = self.defended() {
            return defended.logits(question.images);
        }
        let steps = self.readout.steps(self.deployment.solver.steps);
        if self.readout.starts().is_some() {
            let injection = self.model.injection(question.images);
            let start = self.start(question.keys, &injection).expect("starts that are drawn");
            let cell = self.model.bind(&injection);
            let forward = forward_from(cell, start, &self.solver(steps), &Keep::nothing(), &self.counter);
            return self.read(&forward);
        }
        let forward = self.forward(question.images, steps);
        if !self.readout.mixes() {
            return self.read(&forward);
        }
        self.read_drawn(&forward, &self.places(question.keys))
    }

    /// Behind the readout `final`, where any solve that ends at the same fixed point answers alike.
    fn approximation(&self) -> Option<&dyn Approximate> {
        let final_alone = self.readout.needs_only_the_best(self.deployment.solver.steps);
        (final_alone && self.readout.defence().is_none()).then_some(self)
    }

    fn work(&self) -> Work {
        self.counter.total()
    }
}

impl Approximate for Victim<'_> {
    /// The head reads f at the best iterate, which the solve has evaluated, whatever the deployed tail: k steps are k + 1
    /// evaluations of f. The next solve starts there.
    fn approximate(&self, question: &Question<'_>, steps: usize, warm_start: &mut WarmStart) -> Logits {
        let injection = self.model.injection(question.images);
        let (start, steps) = match warm_start.rows() {
            // Where the solve before broke down, this one begins from 0 again.
            Some(rows) => (State::clone(rows).finite_or_zero(), steps),
            None => {
                let zeros = injection.zeros([question.keys.len(), self.model.state_dim()]);
                (zeros, self.deployment.solver.steps)
            }
        };
        let cell = self.model.bind(&injection);
        let solver = self.solver(steps);
        let Forward { trajectory, .. } = forward_from(cell, start, &solver, &Keep::nothing(), &self.counter);
        let end = trajectory.evaluated(StateChoice::Best).value;
        let logits = self.model.logits(&end);
        warm_start.keep(end);
        logits
    }
}

impl WhiteBox for Victim<'_> {
    fn differentiate(&self, question: &Question<'_>, objective: &dyn Objective) -> ValueAndGradient {
        if let Some(defended) = self.defended() {
            return self.behind(&defended, question.images, objective);
        }
        if self.readout.samples_gradients() {
            let picked = Self {
                readout: self.readout.picking(self.places(question.keys)),
                estimator: self.estimator.clone(),
                counter: self.counter.clone(),
                ..*self
            };
            let (reading, gradient, forward) = picked.gradient(question.images, objective);
            return picked.answered(reading, gradient, &forward, objective);
        }
        let start = |injection: &Injection| self.start(question.keys, injection);
        let (reading, gradient, forward) = self.gradient_starting_at(start, question.images, objective);
        self.answered(reading, gradient, &forward, objective)
    }

    /// Behind the readout `final`, with an estimator that looks at z* alone, the solve starts from the z* of the call
    /// before. Where the model converges it ends at the same fixed point in fewer steps; where it does not, the steps
    /// of both calls add up, and the state is another than the deployed one.
    fn differentiate_from(
        &self,
        question: &Question<'_>,
        objective: &dyn Objective,
        carried: &mut WarmStart,
    ) -> ValueAndGradient {
        let steps = self.deployment.solver.steps;
        if self.readout.defence().is_some() {
            return self.differentiate(question, objective);
        }
        if !self.readout.needs_only_the_best(steps) || !self.estimator.needs_only_the_best() {
            return self.differentiate(question, objective);
        }
        // Where the solve before broke down, this one begins from 0 again.
        let start = carried.rows().map(|rows: &State| rows.clone().finite_or_zero());
        let (reading, gradient, forward) = self.gradient_starting_at(|_| start, question.images, objective);
        carried.keep(forward.trajectory.choose(StateChoice::Best));
        self.answered(reading, gradient, &forward, objective)
    }
}

impl Victim<'_> {
    /// The model behind its defence, if the readout is one.
    fn defended(&self) -> Option<Defended<'_>> {
        let defence = self.readout.defence()?;
        let (tail, counter) = (self.deployment.tail, self.counter.clone());
        Some(Defended { model: self.model, tail, defence, counter })
    }

    /// The defended logits and values. The gradient is the estimator's through the defence; of a method that knows of no
    /// defence, the training gradient among them, that of the undefended model.
    fn behind(
        &self,
        defended: &Defended<'_>,
        images: &Images,
        objective: &dyn Objective,
    ) -> ValueAndGradient {
        let method = match self.estimator.behind_defence() {
            Some(BehindDefence::Through(way)) => {
                let (Reading { logits, values }, gradient) = defended.gradient(images, objective, &way);
                return ValueAndGradient { logits, values, gradient };
            }
            Some(BehindDefence::Off(method)) => method,
            None => &self.estimator,
        };
        let undefended = Self {
            readout: Readout::final_state(),
            estimator: method.clone(),
            counter: self.counter.clone(),
            ..*self
        };
        let (_, gradient, _) = undefended.gradient(images, objective);
        let logits = defended.logits(images);
        let values = objective.values(logits.clone());
        ValueAndGradient { logits, values, gradient }
    }

    /// The readout's logits and values with an estimated gradient.
    fn answered(
        &self,
        reading: Reading,
        gradient: Images,
        forward: &Forward,
        objective: &dyn Objective,
    ) -> ValueAndGradient {
        if self.estimator.reads(&self.readout, &self.deployment.tail) {
            return ValueAndGradient { logits: reading.logits, values: reading.values, gradient };
        }
        let logits = self.read(forward);
        let values = objective.values(logits.clone());
        ValueAndGradient { logits, values, gradient }
    }
}

/// A head in use: its parameters are constants.
struct PlainHead<'a>(&'a dyn Equilibrium);

impl ReadHead for PlainHead<'_> {
    fn read_mean(
        &mut self,
        states: &[State],
        objective: &dyn Objective,
        weight: f64,
    ) -> (Reading, Vec<State>) {
        // The head is per example, so several states of one batch pass through it as one larger batch.
        let count = states.len();
        let (logits, to_state) = self.0.linearize_head(&State::stack(states.iter().cloned()));
        let [rows, classes] = logits.dims();
        let mean = logits.reshape([count, rows / count, classes]).mean_dim(0);
        let mean = mean.reshape([rows / count, classes]);
        let (values, derivative) = objective.values_and_derivative(&mean);
        let share = derivative * (weight / count as f64);
        let examples = rows / count;
        let derivative = to_state(share.repeat_dim(0, count));
        let derivatives = match count {
            1 => vec![derivative],
            _ => (0..count)
                .map(|k| derivative.select(&(k * examples..(k + 1) * examples).collect::<Vec<_>>()))
                .collect(),
        };
        (Reading { logits: mean, values }, derivatives)
    }
}
