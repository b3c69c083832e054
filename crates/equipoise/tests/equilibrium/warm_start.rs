//! PGD whose solves continue from step to step: fewer evaluations where the model converges, the same verdicts, and
//! nothing that depends on the batch.

use crate::common::uniform;
use burn::tensor::Device;
use equipoise::attack::{
    Attack, Attempt, Budget, Classifier, Examples, Norm, Pgd, PgdConfig, Question, WarmStart, WhiteBox,
};
use equipoise::batch::{Images, predictions, select, to_vec};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::deq::Deq;
use equipoise::model::init::Init;
use equipoise::model::linear::{FlattenStem, LinearHead};
use equipoise::problems::{LinearCell, linear_deq};
use equipoise::random::Key;
use equipoise::readout::Readout;
use equipoise::solve::SolverConfig;
use equipoise::state::State;
use equipoise::victim::{Deployment, Victim};

const COUNT: usize = 24;

type Model = Deq<FlattenStem, LinearCell, LinearHead>;

/// A contraction, solved until it has converged.
fn converging() -> (Model, Deployment) {
    let model = linear_deq(16, 4, 0.7, &mut Init::new(3, &Device::default()));
    let solver = SolverConfig::broyden(40).with_tolerance(1e-5);
    (model, Deployment { solver: solver.clone(), backward: solver, ..Deployment::exact() })
}

fn points(victim: &dyn Classifier) -> (Images, Vec<usize>) {
    let images = uniform([COUNT, 1, 4, 4], 5);
    let labels = predictions(&victim.logits(&images)).into_iter().map(|class| class.unwrap()).collect();
    (images, labels)
}

fn attempt(
    warm_start: bool,
    victim: &dyn WhiteBox,
    images: &Images,
    labels: &[usize],
    indices: &[usize],
) -> Attempt {
    let attack = Pgd::new(PgdConfig { warm_start, ..PgdConfig::default() }).unwrap();
    let budget = Budget::new(Norm::Linf, 0.1).unwrap();
    attack.run(victim, &Examples { images, labels, indices, seed: 1, start: 0 }, &budget)
}

#[test]
fn a_converging_model_takes_fewer_evaluations_to_the_same_end() {
    let (model, deployment) = converging();
    let all: Vec<usize> = (0..COUNT).collect();
    let run = |warm_start| {
        let victim = Victim::ready_made(&model, &deployment);
        let (images, labels) = points(&victim);
        let before = victim.work().cell_evaluations;
        let found = attempt(warm_start, &victim, &images, &labels, &all);
        let spent = victim.work().cell_evaluations - before;
        (predictions(&victim.logits(&found.images)), labels, spent)
    };
    let ((cold, labels, cold_work), (warm, _, warm_work)) = (run(false), run(true));
    assert_eq!(warm, cold);
    let broken = cold.iter().zip(&labels).filter(|(found, label)| **found != Some(**label)).count();
    assert!((1..COUNT).contains(&broken), "the test needs both kinds: {broken} broken");
    assert!(warm_work < cold_work, "{warm_work} evaluations, {cold_work} from nothing");
}

#[test]
fn claims_hold_from_a_cold_start_even_where_the_solver_does_not_converge() {
    let (model, mut deployment) = converging();
    deployment.solver = SolverConfig::broyden(2);
    let victim = Victim::ready_made(&model, &deployment);
    let (images, labels) = points(&victim);
    let all: Vec<usize> = (0..COUNT).collect();
    let found = attempt(true, &victim, &images, &labels, &all);
    let answers = predictions(&victim.logits(&found.images));
    assert!(found.claimed.iter().any(|&claimed| claimed));
    for (k, claimed) in found.claimed.iter().enumerate() {
        assert!(
            !claimed || answers[k] != Some(labels[k]),
            "example {k} was claimed and is classified correctly"
        );
    }
}

#[test]
fn images_do_not_depend_on_the_batch() {
    let (model, deployment) = converging();
    let victim = Victim::ready_made(&model, &deployment);
    let (images, labels) = points(&victim);
    let all: Vec<usize> = (0..COUNT).collect();
    let together = to_vec(attempt(true, &victim, &images, &labels, &all).images);
    for rows in all.chunks(5) {
        let part_labels: Vec<usize> = rows.iter().map(|&row| labels[row]).collect();
        let apart = to_vec(attempt(true, &victim, &select(&images, rows), &part_labels, rows).images);
        assert_eq!(apart, together[rows[0] * 16..][..apart.len()]);
    }
}

/// Whether a call leaves something for the next one to start from.
fn keeps(victim: &dyn WhiteBox, images: &Images, labels: &[usize]) -> bool {
    let mut carried = WarmStart::default();
    let objective = CrossEntropy { labels: labels.to_vec() };
    let keys = Key::first(0, "test", &(0..labels.len()).collect::<Vec<_>>());
    victim.differentiate_from(&Question { images, keys: &keys }, &objective, &mut carried);
    carried.rows::<State>().is_some()
}

#[test]
fn what_looks_at_the_fixed_point_alone_starts_warm() {
    let (model, deployment) = converging();
    let unrolled = "unrolled:lead=1,steps=2";
    for spec in [
        "exact".to_owned(),
        unrolled.to_owned(),
        format!("joint(exact,{unrolled})"),
        format!("ensemble(exact,{unrolled})"),
    ] {
        let estimator: Estimator = spec.parse().unwrap();
        let victim = Victim::new(&model, &deployment, Readout::final_state(), estimator);
        let (images, labels) = points(&victim);
        assert!(keeps(&victim, &images, &labels), "{spec}");
    }
}

#[test]
fn what_looks_at_more_than_the_fixed_point_starts_cold() {
    let (model, deployment) = converging();
    let intermediate = "unrolled:state=2,lead=1,steps=2";
    let through_final = [
        intermediate.to_owned(),
        format!("joint(exact,{intermediate})"),
        format!("ensemble(exact,{intermediate})"),
        "adjoint:state=3".to_owned(),
        "aimed(exact)".to_owned(),
        "through-solver".to_owned(),
    ];
    let through_final = through_final.map(|spec| (Readout::final_state(), spec.parse().unwrap()));
    for (readout, estimator) in through_final.into_iter().chain([(Readout::early(3), Estimator::exact())]) {
        let spec = estimator.to_string();
        let victim = Victim::new(&model, &deployment, readout, estimator);
        let (images, labels) = points(&victim);
        assert!(!keeps(&victim, &images, &labels), "{spec}");
        let all: Vec<usize> = (0..COUNT).collect();
        let [warm, cold] =
            [true, false].map(|warm| to_vec(attempt(warm, &victim, &images, &labels, &all).images));
        assert_eq!(warm, cold, "{spec}");
    }
}
