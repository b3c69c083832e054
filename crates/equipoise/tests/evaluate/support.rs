//! What the tests of the evaluation share.

use std::cell::{Cell, RefCell};

use crate::victims::{Altered, Linear, honest, images, labels, zero};
use equipoise::attack::{self, Budget, Classifier, Norm, WhiteBox};
use equipoise::batch::to_vec;
use equipoise::evaluate::{
    Cascade, EvaluateError, Journal, Observer, Outcome, Pair, Points, Run, Settings, run,
};
use equipoise_record::{Evaluation, ReadoutResult};

pub const EPS: f64 = 8.0 / 255.0;

pub fn settings() -> Settings {
    Settings { budget: Budget::new(Norm::Linf, EPS).unwrap(), seed: 4, batch_size: 16 }
}

/// A run, and whether it belongs to the opening.
pub fn entry<'a>(name: &str, estimator: &str, ready_made: bool, victim: &'a dyn WhiteBox) -> (Run<'a>, bool) {
    let attack = attack::parse(name).unwrap();
    let run = match attack.needs_gradients() {
        true => Run::new(attack, estimator, victim),
        false => Run::gradient_free(attack, victim),
    };
    (run, ready_made)
}

/// One run after the other, each on what stands: an opening, a white-box arm without twins, gradient-free runs.
pub fn cascade<'a>(judge: &'a dyn Classifier, entries: Vec<(Run<'a>, bool)>) -> Cascade<'a> {
    let mut cascade = Cascade::new("final", judge);
    for (run, ready_made) in entries {
        match (ready_made, &run.estimator) {
            (true, _) => cascade.opening.push(run),
            (false, None) => cascade.gradient_free.push(run),
            (false, Some(_)) => cascade.pairs.push(Pair { white_box: run, twin: None, aimed: None }),
        }
    }
    cascade
}

/// Points of which the last `wrong` have a wrong label.
pub fn points(victim: &Linear, n: usize, wrong: usize) -> Points {
    let images = images(n, 30, 0.0, 1.0);
    let mut labels = labels(victim, &images);
    for label in &mut labels[n - wrong..] {
        *label = (*label + 1) % victim.classes;
    }
    Points::new((0..n).map(|k| 1000 + k).collect(), images, labels).unwrap()
}

/// The record of one outcome alone, with its finding.
pub fn record_of(outcome: &Outcome) -> Evaluation {
    let result = outcome.result.clone();
    let mut models = [Evaluation {
        version: 2,
        model: "linear".into(),
        configuration: serde_json::Value::Null,
        dataset: "made up".into(),
        classes: Vec::new(),
        norm: "linf".into(),
        eps: EPS,
        seed: 4,
        count: result.examples.len(),
        clean_accuracy: result.clean_accuracy,
        readouts: vec![result],
    }];
    equipoise_verdict::conclude(&mut models);
    let [record] = models;
    record
}

/// A result with the only thing that may differ between two runs left out.
pub fn timeless(result: &ReadoutResult) -> ReadoutResult {
    let mut result = result.clone();
    result.attacks.iter_mut().for_each(|attack| attack.seconds = 0.0);
    result.plan.iter_mut().flat_map(|plan| &mut plan.tries).for_each(|tried| tried.seconds_per_broken = None);
    result
}

pub fn assert_same(a: &Outcome, b: &Outcome, what: &str) {
    assert_eq!(timeless(&a.result), timeless(&b.result), "{what}");
    assert_eq!(to_vec(a.adversarial.clone()), to_vec(b.adversarial.clone()), "{what}");
    assert_eq!(a.clean_predictions, b.clean_predictions, "{what}");
    assert_eq!(a.adversarial_predictions, b.adversarial_predictions, "{what}");
    assert_eq!(a.complete, b.complete, "{what}");
}

/// A cascade of three attacks that each break something, and leave something.
pub struct Bench {
    pub linear: Linear,
}

impl Bench {
    pub fn new() -> Self {
        Self { linear: Linear::random(5, 37) }
    }

    pub fn points(&self) -> Points {
        points(&self.linear, 30, 3)
    }

    pub fn run(
        &self,
        points: &Points,
        settings: &Settings,
        observer: &dyn Observer,
        journal: Option<&mut Journal>,
    ) -> Result<Outcome, EvaluateError> {
        let blind = Altered { inner: &self.linear, logits: honest, gradient: zero };
        let entries = vec![
            entry("pgd-1x4", "zero", true, &blind),
            entry("pgd-1", "exact", false, &self.linear),
            entry("pgd-5x2-margin", "exact", false, &self.linear),
        ];
        run(&cascade(&self.linear, entries), points, settings, observer, journal)
    }
}

/// The stage in which a resumed run looks at what it kept.
pub const VERIFYING: &str = "verifying what was kept";

/// Cancels after so many batches, and remembers what it was told.
#[derive(Default)]
pub struct Watch {
    batches_left: Cell<Option<usize>>,
    pub stages: RefCell<Vec<(String, usize, usize)>>,
}

impl Watch {
    pub fn after(batches: usize) -> Self {
        Self { batches_left: Cell::new(Some(batches)), ..Self::default() }
    }
}

impl Observer for Watch {
    fn stage(&self, label: &str, total: usize) {
        self.stages.borrow_mut().push((label.to_owned(), total, 0));
    }
    fn advance(&self, examples: usize, note: &str) {
        assert!(!note.is_empty());
        self.stages.borrow_mut().last_mut().unwrap().2 += examples;
    }
    fn cancelled(&self) -> bool {
        // What is verified is no batch of the run.
        if self.stages.borrow().last().is_some_and(|(label, ..)| label == VERIFYING) {
            return false;
        }
        match self.batches_left.get() {
            Some(0) => true,
            Some(left) => {
                self.batches_left.set(Some(left - 1));
                false
            }
            None => false,
        }
    }
}
