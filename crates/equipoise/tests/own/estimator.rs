//! An estimator and a readout of another crate, used wherever built-in ones are: strings, attacks, training, diagnosis,
//! assessment. (What holds for every estimator and readout, `gradients.rs` checks for these too.)

use crate::common::{compare_gradients, double, entries, inner, normal, relative_error, small_mdeq, uniform};
use crate::last_two::LastTwo;
use crate::neumann::Neumann;
use burn::tensor::{Device, Tensor};
use equipoise::architecture::Architecture;
use equipoise::assess::Assessment;
use equipoise::attack::{Budget, Norm, WhiteBox};
use equipoise::checkpoint::{FORMAT_VERSION, Metadata, ModelFile};
use equipoise::diagnose::{self, Case, Settings};
use equipoise::evaluate::{Points, Quiet};
use equipoise::gradient::{Estimator, parse_list};
use equipoise::loss::{CrossEntropy, Objective};
use equipoise::model::cell::Cell;
use equipoise::model::deq::{Deq, Head};
use equipoise::model::init::Init;
use equipoise::model::layers::{Dense, Phase};
use equipoise::model::linear::{FlattenStem, LinearHead};
use equipoise::problems::{LinearCell, linear_deq};
use equipoise::readout::Readout;
use equipoise::solve::SolverConfig;
use equipoise::training_pass::{StepOptions, gradients};
use equipoise::victim::{Deployment, Victim};
use equipoise::work::WorkCounter;
use equipoise_dataset::{Source, Split};

type Linear = Deq<FlattenStem, LinearCell, LinearHead>;

/// Converges to the last digit of float32, forwards and backwards.
fn contraction(factor: f64) -> (Linear, Deployment) {
    let model = linear_deq(9, 4, factor, &mut Init::new(2, &Device::default()));
    let solver = SolverConfig::broyden(80).with_tolerance(1e-6);
    (model, Deployment { solver: solver.clone(), backward: solver, ..Deployment::exact() })
}

fn images() -> Tensor<4> {
    uniform([3, 1, 3, 3], 1)
}

fn objective() -> CrossEntropy {
    CrossEntropy { labels: vec![0, 1, 2] }
}

fn neumann(terms: usize) -> Estimator {
    Neumann { terms }.into()
}

/// On a linear cell J = A, and ∂f/∂x is the identity: the gradient is Σ_{k<K} (Aᵀ)ᵏ v, with v the loss's derivative at the
/// final state, and (I − Aᵀ)⁻¹ v in the limit.
#[test]
fn the_series_is_the_closed_form_term_by_term() {
    let (model, deployment) = contraction(0.6);
    let gradient = |terms| {
        let victim = Victim::new(&model, &deployment, Readout::final_state(), neumann(terms));
        let (reading, gradient, _) = victim.gradient(&images(), &objective());
        (reading, gradient.flatten::<2>(1, 3))
    };
    // v = Wᵀ (softmax − one-hot), at the logits of the reading.
    let (reading, one) = gradient(1);
    let (_, derivative) = objective().values_and_derivative(&reading.logits);
    let weight = model.head.classifier.weight.val();
    let v: Tensor<2> =
        (derivative.unsqueeze_dim::<3>(2) * weight.unsqueeze_dim::<3>(0)).sum_dim(1).squeeze_dim(1);
    assert!(relative_error(&one, &v) < 1e-6);
    let transposed = LinearCell { matrix: model.cell.matrix.clone().map(|matrix| matrix.transpose()) };
    let zero = v.zeros_like();
    let (mut term, mut sum) = (v.clone(), v.clone());
    for terms in 2..=12 {
        term = transposed.apply(term, zero.clone());
        sum = sum + term.clone();
        let error = relative_error(&gradient(terms).1, &sum);
        assert!(error < 1e-5, "{terms} terms: {error}");
    }
    let limit = transposed.solution(&v).concat();
    let error = |found: &Tensor<2>| {
        let found = entries(found);
        let square = |x: f64| x * x;
        let difference: f64 = found.iter().zip(&limit).map(|(a, b)| square(a - b)).sum();
        (difference / limit.iter().map(|b| square(*b)).sum::<f64>()).sqrt()
    };
    assert!(error(&gradient(80).1) < 1e-5, "{}", error(&gradient(80).1));
    // And that it is a truncation shows.
    assert!(error(&gradient(2).1) > 1e-2);
}

/// Many terms are the gradient of the loss at the fixed point, which can be differenced in float64.
#[test]
fn the_series_meets_central_differences() {
    let (model, deployment) = contraction(0.8);
    let victim = Victim::new(&model, &deployment, Readout::final_state(), neumann(150));
    let gradient = victim.value_and_gradient(&images(), &objective()).gradient;
    let cell = LinearCell { matrix: model.cell.matrix.clone().map(double) };
    let head = LinearHead {
        classifier: Dense {
            weight: model.head.classifier.weight.clone().map(double),
            bias: model.head.classifier.bias.clone().map(double),
        },
    };
    let loss = |images: Tensor<4>| -> f64 {
        let injection = images.flatten::<2>(1, 3);
        let fixed = (0..200).fold(injection.zeros_like(), |z, _| cell.apply(z, injection.clone()));
        entries(&objective().values(head.forward(fixed, &Phase::Evaluate))).iter().sum()
    };
    let direction = normal([3, 1, 3, 3], 2);
    let step = 1e-5;
    let moved = |step: f64| double(images()) + double(direction.clone()) * step;
    let measured = (loss(moved(step)) - loss(moved(-step))) / (2.0 * step);
    let predicted = inner(&gradient, &direction);
    assert!((measured - predicted).abs() < 1e-3 * measured.abs(), "{measured} {predicted}");
}

#[test]
fn its_string_is_read_and_written_like_a_built_in_one() {
    let list = parse_list("exact,neumann:terms=3,neumann").unwrap();
    assert_eq!(list, [Estimator::exact(), neumann(3), neumann(10)]);
    for spec in ["aimed(neumann:terms=3)", "ensemble(exact,joint(neumann:terms=2,exact))"] {
        assert_eq!(spec.parse::<Estimator>().unwrap().to_string(), spec);
    }
    let message = |spec: &str| spec.parse::<Estimator>().unwrap_err().to_string();
    assert!(message("neumann:terms=0").contains("terms=0 must be at least 1"));
    assert!(message("neumann:terms=x").contains("a whole number is needed"));
    assert!(message("neumann:depth=1").contains("unknown setting `depth`; it has terms"));
    assert!(message("neuman").contains("off(METHOD) or neumann:terms=K"), "{}", message("neuman"));

    let deployment =
        Deployment { training_gradient: neumann(4), readout: LastTwo.into(), ..Deployment::exact() };
    deployment.validate().unwrap();
    let text = serde_json::to_string(&deployment).unwrap();
    assert!(text.contains(r#""readout":"last-two""#) && text.contains("neumann:terms=4"), "{text}");
    assert_eq!(serde_json::from_str::<Deployment>(&text).unwrap(), deployment);
    let wrong = Deployment { training_gradient: neumann(0), ..Deployment::exact() };
    assert!(wrong.validate().unwrap_err().to_string().contains("`neumann:terms=0`: terms=0 must"));
    let wrong =
        Deployment { solver: SolverConfig::broyden(1), readout: LastTwo.into(), ..Deployment::exact() };
    assert!(wrong.validate().unwrap_err().to_string().contains("last-two: the model's solver must take"));
    let message = "last-too".parse::<Readout>().unwrap_err();
    assert!(message.contains("entropy-reduction-corrected(..) or last-two"), "{message}");
}

/// Parameters' gradients through many terms are those of the exact gradient.
#[test]
fn models_are_trained_through_it() {
    let (model, deployment) = contraction(0.6);
    let through = |training_gradient| {
        let deployment = Deployment { training_gradient, ..deployment.clone() };
        let counter = WorkCounter::default();
        let options = StepOptions::default();
        gradients(&model, &deployment, &options, &images(), &objective(), &counter).unwrap().parameters
    };
    let compared =
        compare_gradients(&model, &through(neumann(80)), &through(Estimator::exact()), 1e-4, 1e-12);
    // A, and the head's weight and bias.
    assert_eq!(compared, 3);
}

/// Its aimed counterpart, behind readouts that it does not read, follows from its reading one state.
#[test]
fn a_diagnosis_points_it_at_readouts() {
    let (model, _) = contraction(0.6);
    let deployment =
        Deployment { training_gradient: neumann(4), readout: LastTwo.into(), ..Deployment::exact() };
    let victim = Victim::ready_made(&model, &deployment);
    let points = Points::new(vec![0, 1, 2], images(), vec![0, 1, 2]).unwrap();
    let settings = Settings { budget: Budget::new(Norm::Linf, 0.05).unwrap(), seed: 0, batch_size: 8 };
    let case = Case::new(&victim, &points, settings, &Quiet).unwrap();
    let rows = diagnose::yardstick(&model, &deployment, &case).unwrap().result.rows;
    let row = |readout: &str| rows.iter().find(|row| row.readout == readout).unwrap();
    let aimed = Some("aimed(neumann:terms=4)".to_owned());
    assert_eq!(
        (&row("last-two").aimed, &row("early(2)").aimed, &row("final").aimed),
        (&aimed, &aimed, &None)
    );
    assert_eq!(row("final").training, "neumann:terms=4");
}

#[test]
fn an_assessment_takes_both() {
    let device = Device::default();
    let architecture: Architecture = small_mdeq().into();
    let model = architecture.init(4, &device).unwrap();
    let metadata = Metadata {
        format_version: FORMAT_VERSION,
        name: "small".into(),
        architecture,
        deployment: Deployment { training_gradient: neumann(6), ..Deployment::exact() },
        training: serde_json::Value::Null,
        data: String::new(),
    };
    let file = ModelFile { metadata, model };
    let images = Source::Digits.load(Split::Test).unwrap().take(6);
    let assessment = Assessment::new(&file, &images)
        .budget(Budget::new(Norm::Linf, 0.05).unwrap())
        .attacks("pgd-10".parse().unwrap())
        .gradients(vec![neumann(2)], Vec::new())
        .readouts(["last-two".parse().unwrap()])
        .checks(None);
    let record = assessment.run(&Quiet).unwrap().unwrap();
    let readout = &record.readouts[0];
    assert_eq!(readout.name, "last-two");
    let estimators: Vec<&str> = readout.attacks.iter().map(|attack| attack.estimator.as_str()).collect();
    for expected in ["neumann:terms=6", "neumann:terms=2", "aimed(neumann:terms=6)"] {
        assert!(estimators.contains(&expected), "{expected} is not in {estimators:?}");
    }
}
