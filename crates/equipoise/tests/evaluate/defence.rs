//! A model behind a defence, evaluated by several gradients: the pointwise worst counts, what was stored breaks the deployed
//! function again, and an interrupted run goes on to the same record.

use std::cell::Cell;
use std::path::Path;

use crate::common::uniform;
use crate::support::timeless;
use burn::tensor::Device;
use equipoise::assess::{self, Assessment, Attacks, ReadoutChoice};
use equipoise::attack::{Budget, Norm};
use equipoise::batch::{predictions, to_vec};
use equipoise::evaluate::{Observer, Quiet, read_adversarial};
use equipoise::gradient::Estimator;
use equipoise::model::deq::Deq;
use equipoise::model::init::Init;
use equipoise::model::linear::{FlattenStem, LinearHead};
use equipoise::network::Network;
use equipoise::plan::{Transfer, other_gradients};
use equipoise::problems::{LinearCell, linear_deq};
use equipoise::readout::Readout;
use equipoise::verify::verify_readout;
use equipoise::victim::Deployment;
use equipoise_dataset::{Dataset, Pixels};
use equipoise_record::ReadoutResult;

const COUNT: usize = 24;
const DEFENCE: &str = "entropy-reduction(segments=3,steps=2,updates=4,beta=1/255,rho=3/255)";
const GRADIENTS: &str = "shift,smooth(1),lock-in(1,0,0),off(through-solver),exact,through-solver";

type Linear = Deq<FlattenStem, LinearCell, LinearHead>;

fn model() -> Linear {
    linear_deq(16, 4, 0.8, &mut Init::new(11, &Device::default()))
}

fn defence() -> Readout {
    DEFENCE.parse().unwrap()
}

/// Images with the classes that the defended model gives them, but for every sixth.
fn data(model: &Linear, deployment: &Deployment) -> Dataset {
    let images = uniform([COUNT, 1, 4, 4], 3);
    let judge = model.victim(deployment, defence(), Estimator::shift());
    let answers = predictions(&judge.logits(&images)).into_iter().enumerate();
    let labels = answers.map(|(k, answer)| (answer.unwrap() + usize::from(k % 6 == 5)) % 4).collect();
    let names = (0..4).map(|k| k.to_string()).collect();
    Dataset::new("made up", [1, 4, 4], 4, names, Pixels::F32(to_vec(images)), labels).unwrap()
}

fn assessment<'a>(
    model: &'a Linear,
    deployment: &'a Deployment,
    data: &'a Dataset,
    folder: &Path,
) -> Assessment<'a> {
    let readouts = [defence(), Readout::final_state()];
    let gradients = other_gradients(Some(GRADIENTS), deployment, &readouts).unwrap();
    Assessment::of(model, deployment, data)
        .attacks("pgd-5,apgd-ce-10,square-30".parse::<Attacks>().unwrap())
        .gradients(gradients, Vec::new())
        .readouts(readouts.map(ReadoutChoice::Fixed))
        .transfers([Transfer::Readout(Readout::final_state()), Transfer::Readout(defence())])
        .budget(Budget::new(Norm::Linf, 0.06).unwrap())
        .batch_size(7)
        .checks(Some(5))
        .folder(folder, true)
}

/// Asks to stop when it was asked so often whether to.
struct Impatient(Cell<usize>);

impl Observer for Impatient {
    fn stage(&self, _: &str, _: usize) {}
    fn advance(&self, _: usize, _: &str) {}
    fn cancelled(&self) -> bool {
        self.0.set(self.0.get().saturating_sub(1));
        self.0.get() == 0
    }
}

fn run(assessment: &Assessment<'_>, observer: &dyn Observer) -> Option<Vec<ReadoutResult>> {
    Some(assessment.run(observer).unwrap()?.readouts)
}

#[test]
fn a_defended_model_is_evaluated_verified_and_resumed() {
    let (model, deployment) = (model(), Deployment::exact());
    let data = data(&model, &deployment);
    let (whole, stopped) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let found = run(&assessment(&model, &deployment, &data, whole.path()), &Quiet).unwrap();
    let [defended, undefended] = &found[..] else { panic!("two readouts") };
    assert_eq!(defended.name, DEFENCE);

    // Gradients that belong to the other readout are not tried, those that belong to this one are.
    let through = |result: &ReadoutResult| {
        let mut names: Vec<String> = result
            .attacks
            .iter()
            .filter(|run| run.name == "pgd-5")
            .map(|run| run.estimator.clone())
            .collect();
        names.sort();
        names.dedup();
        names
    };
    assert_eq!(through(defended), ["exact", "lock-in(1,0,0)", "off(through-solver)", "shift", "smooth(1)"]);
    assert_eq!(through(undefended), ["exact", "through-solver"]);
    let yardstick = defended.verdict.yardstick.as_ref().expect("one gradient against one");
    assert!(format!("{yardstick:?}").contains("shift"), "{yardstick:?}");

    // The worst over all of them, image by image.
    for result in &found {
        let robust = result.examples.iter().filter(|example| example.robust).count();
        assert_eq!(result.white_box_accuracy.correct(), robust);
        assert!(
            result
                .examples
                .iter()
                .all(|example| example.robust == (example.clean_correct && example.broken_by.is_none()))
        );
        let broken = result.examples.iter().filter(|example| example.broken_by.is_some()).count();
        assert!(broken > 3 && robust > 0, "{}: {broken} broken, {robust} robust", result.name);
    }
    assert!(defended.clean_accuracy.correct() == COUNT - COUNT / 6);

    // What was stored breaks the deployed function again, in batches of any size.
    let points = assess::points(&data, (0..COUNT).collect(), &Device::default()).unwrap();
    let budget = Budget::new(Norm::Linf, 0.06).unwrap();
    let name = "adversarial-entropy-reduction-segments=3,steps=2,updates=4,beta=1-255,rho=3-255.safetensors";
    let stored = read_adversarial(whole.path().join(name)).unwrap();
    let judge = model.victim(&deployment, defended.name.parse().unwrap(), Estimator::exact());
    for batch in [1, 64] {
        let verified =
            verify_readout(&*judge, defended, &points, &budget, Some(&stored), (1, 1, batch), &Quiet)
                .unwrap();
        assert_eq!(verified.clean.differences, []);
        assert_eq!(verified.broken.differences, []);
        assert!(verified.broken.checked > 3 && verified.broken.checked == verified.claimed);
    }
    // Another defence answers otherwise: that is found.
    let other = model.victim(&deployment, Readout::final_state(), Estimator::exact());
    let verified =
        verify_readout(&*other, defended, &points, &budget, Some(&stored), (1, 1, 64), &Quiet).unwrap();
    assert!(verified.clean.differences.len() + verified.broken.differences.len() > 0);

    // Interrupted over and over, it comes to the same.
    let (mut interruptions, mut resumed) = (0, None);
    while resumed.is_none() {
        let observer = Impatient(Cell::new(10 * (interruptions + 1)));
        resumed = run(&assessment(&model, &deployment, &data, stopped.path()), &observer);
        interruptions += 1;
        assert!(interruptions < 200, "each run is let go further than the one before");
    }
    assert!(interruptions > 3, "{interruptions}");
    let resumed = resumed.unwrap_or_default();
    for (whole, resumed) in found.iter().zip(&resumed) {
        let (whole, resumed) = (timeless(whole), timeless(resumed));
        assert_eq!(whole.examples, resumed.examples);
        assert_eq!(whole.attacks, resumed.attacks);
        assert_eq!(whole.white_box_accuracy, resumed.white_box_accuracy);
    }
}

#[test]
fn gradients_are_those_that_belong_to_a_readout() {
    let deployment = Deployment::exact();
    let names = |list: Option<&str>, readouts: &[&str]| -> Result<Vec<String>, String> {
        let readouts: Vec<Readout> = readouts.iter().map(|name| name.parse().unwrap()).collect();
        let found = other_gradients(list, &deployment, &readouts)?;
        Ok(found.iter().map(ToString::to_string).collect())
    };
    let usual = names(None, &["entropy-reduction"]).unwrap();
    assert_eq!(usual, ["shift", "smooth(1)", "lock-in(1,0,0,0)", "lock-in(1,1,1,1)", "off(through-solver)"]);
    let both = names(None, &["final", "entropy-reduction"]).unwrap();
    assert!(both.contains(&"through-solver".to_owned()) && both.contains(&"shift".to_owned()));
    // The ready-made attack is off(training gradient) already.
    assert_eq!(names(Some("off(exact),shift"), &["entropy-reduction"]).unwrap(), ["shift"]);
    for (list, readout, problem) in [
        ("through-solver", "entropy-reduction", "does not go through entropy-reduction"),
        ("shift", "final", "for a model behind a defence"),
        ("lock-in(1,0,0)", "entropy-reduction", "3 weights"),
    ] {
        let message = names(Some(list), &[readout]).unwrap_err();
        assert!(message.contains(problem) && !message.contains('\n'), "{message}");
    }
}
