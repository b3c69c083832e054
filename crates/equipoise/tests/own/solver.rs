//! A solver of another crate: read from files, solving forwards and backwards, with honest counts, each example on its own.

use crate::common::{normal, small_mdeq, uniform, worst_cosine};
use crate::newton_krylov::NewtonKrylov;
use crate::own_deq::TanhDeq;
use burn::tensor::Device;
use equipoise::architecture::{Architecture, Model};
use equipoise::attack::Norm;
use equipoise::batch::to_vec;
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::{BoundCell, Cell, Counted};
use equipoise::model::init::Init;
use equipoise::plan::{Subject, Tries};
use equipoise::problems::LinearCell;
use equipoise::readout::Readout;
use equipoise::solve::{Method, SolverConfig, StateChoice, StopReason, solve};
use equipoise::state::State;
use equipoise::victim::{Deployment, Victim};
use equipoise::work::WorkCounter;

fn newton(steps: usize) -> SolverConfig {
    let solver = NewtonKrylov { damping: 1.0, inner: 6, forcing: 0.05 };
    SolverConfig { method: solver.into(), steps, ..SolverConfig::default() }
}

/// A smooth cell that contracts: Newton's method without a line search needs both.
fn tanh() -> (Box<dyn Model>, State) {
    let model = Architecture::from(TanhDeq { image: [1, 8, 8], classes: 10 });
    let model = model.init(5, &Device::default()).unwrap();
    let injection = model.equilibrium().unwrap().injection(&uniform([6, 1, 8, 8], 3));
    (model, injection)
}

type Bind = Box<dyn Fn(&State) -> Box<dyn BoundCell>>;

/// Two cells with their injections: one whose fixed point is known, and one that is not linear.
fn problems() -> Vec<(&'static str, Bind, State, usize)> {
    let linear = LinearCell::new(12, 0.9, &mut Init::new(3, &Device::default()));
    let (model, injection) = tanh();
    let dim = model.equilibrium().unwrap().state_dim();
    let sizes = injection.like(vec![0.01, 0.3, 1.0, 3.0, 10.0, 30.0], 1);
    let injection = injection.times(&sizes);
    vec![
        ("linear", Box::new(move |x: &State| linear.bind(x.tensor())), normal([6, 12], 4).into(), 12),
        // Some examples saturate the cell, and need fewer steps.
        ("tanh", Box::new(move |x: &State| model.equilibrium().unwrap().bind(x)), injection, dim),
    ]
}

#[test]
fn the_fixed_point_is_the_known_one_and_broydens() {
    for damping in [1.0, 0.8] {
        let cell = LinearCell::new(12, 0.9, &mut Init::new(3, &Device::default()));
        let b = normal([6, 12], 4);
        let solver = NewtonKrylov { damping, inner: 6, forcing: 0.05 };
        let config = SolverConfig { method: solver.into(), ..newton(20) }.with_tolerance(1e-6);
        let found = solve(&*cell.bind(&b), b.zeros_like().into(), &config);
        assert_eq!(found.stop_reasons(), [StopReason::Converged; 6]);
        let known = cell.solution(&b).concat();
        for (known, found) in known.iter().zip(found.choose(StateChoice::Best).numbers()) {
            assert!((known - found).abs() < 2e-5, "{known} {found}");
        }
    }
    for (name, bind, injection, dim) in problems() {
        let start = injection.zeros([6, dim]);
        let answer = |config: SolverConfig| {
            let found = solve(&*bind(&injection), start.clone(), &config.with_tolerance(1e-5));
            assert_eq!(found.stop_reasons(), [StopReason::Converged; 6], "{name}");
            found.choose(StateChoice::Best)
        };
        let (own, broyden) = (answer(newton(40)), answer(SolverConfig::broyden(100)));
        let error = crate::common::relative_error(own.tensor(), broyden.tensor());
        assert!(error < 1e-3, "{name}: {error}");
    }
}

/// The same bits alone as in a batch, whose examples stop at different times, and the same work.
#[test]
fn an_example_alone_is_the_example_in_a_batch() {
    let mut all = Vec::new();
    for (name, bind, injection, dim) in problems() {
        let config = newton(12).with_tolerance(1e-4);
        let run = |rows: &[usize]| {
            let counter = WorkCounter::default();
            let cell = Counted::new(bind(&injection.select(rows)), counter.clone());
            let found = solve(&cell, injection.zeros([rows.len(), dim]), &config);
            (found, counter.total().cell_evaluations)
        };
        let (together, work) = run(&[0, 1, 2, 3, 4, 5]);
        let mut apart = Vec::new();
        for row in 0..6 {
            let (alone, work) = run(&[row]);
            for t in 1..=12 {
                let expected = together.state(t).select(&[row]).to_f32();
                assert_eq!(alone.state(t).to_f32(), expected, "{name}, row {row}, t {t}");
            }
            assert_eq!(alone.stop_reasons()[0], together.stop_reasons()[row]);
            let steps = alone.steps()[0] as u64;
            // One for z_0, one for each iterate, and between one and six on the way to it.
            assert!((1 + 2 * steps..=1 + 7 * steps).contains(&work), "{name}: {work} in {steps} steps");
            apart.push(work);
        }
        assert_eq!(work, apart.iter().sum::<u64>(), "{name}");
        all.push(apart);
    }
    let unequal = all.iter().any(|apart| apart.iter().any(|work| *work != apart[0]));
    assert!(unequal, "the test needs examples that stop at different times: {all:?}");
}

/// Behind attacks, forwards and backwards: what the backward solve notes of its iterates must not be disturbed by what the
/// solver evaluates beside them.
#[test]
fn gradients_are_those_of_the_other_solver() {
    let (model, _) = tanh();
    let model = model.equilibrium().unwrap();
    let images = uniform([6, 1, 8, 8], 3);
    let objective = CrossEntropy { labels: vec![0, 1, 2, 3, 4, 5] };
    let gradient = |solver: SolverConfig, backward: SolverConfig| {
        let [solver, backward] = [solver, backward].map(|config| config.with_tolerance(1e-5));
        let deployment = Deployment { solver, backward, ..Deployment::exact() };
        Victim::ready_made(model, &deployment).gradient(&images, &objective).1
    };
    let broyden = || SolverConfig::broyden(100);
    let expected = gradient(broyden(), broyden());
    for (solver, backward) in [(newton(40), broyden()), (broyden(), newton(40)), (newton(40), newton(40))] {
        let name = format!("{:?} and {:?}", solver.method, backward.method);
        let found = gradient(solver, backward);
        let cosine = worst_cosine(&found, &expected);
        let error = crate::common::relative_error(&found, &expected);
        assert!(cosine > 0.9999 && error < 1e-2, "{name}: {cosine}, {error}");
    }
}

#[test]
fn gradients_that_need_more_of_a_solver_are_refused_by_name() {
    for spec in ["through-solver", "adjoint:state=2", "ensemble(exact,through-solver)"] {
        let estimator: Estimator = spec.parse().unwrap();
        assert_eq!(estimator.check(&SolverConfig::broyden(8)), Ok(()));
        let message = estimator.check(&newton(8)).unwrap_err().to_string();
        assert!(message.contains("newton-krylov"), "{message}");
        let deployment =
            Deployment { solver: newton(8), training_gradient: estimator, ..Deployment::exact() };
        assert!(deployment.validate().unwrap_err().to_string().contains("newton-krylov"));
    }
    // The plan says what it leaves out, and reckons with the evaluations of a step.
    let architecture = Architecture::from(small_mdeq());
    let model = architecture.init(0, &Device::default()).unwrap();
    let deployment = Deployment { solver: newton(8), ..Deployment::exact() };
    let subject = Subject {
        model: &*model,
        deployment: &deployment,
        readout: Readout::final_state(),
        classes: 10,
        norm: Norm::Linf,
    };
    let tries = Tries::white_box(&subject, &[]);
    let left: Vec<&str> = tries.left_out.iter().map(|left| left.estimator.as_str()).collect();
    assert!(left.contains(&"through-solver") && left.iter().any(|name| name.contains("adjoint")));
    let exact = |method: &Method| {
        let solver = SolverConfig { method: method.clone(), ..newton(8) };
        Subject { deployment: &Deployment { solver, ..Deployment::exact() }, ..subject.clone() }.work(None)
    };
    assert_eq!(exact(&Method::broyden()), 1.0 + 8.0);
    assert_eq!(exact(&newton(8).method), 1.0 + 8.0 * 7.0);
    // Nothing that is left in the plan panics.
    let images = uniform([2, 1, 8, 8], 3);
    let objective = CrossEntropy { labels: vec![0, 1] };
    for planned in &tries.tries {
        if let Some(estimator) = &planned.estimator {
            let victim = model.victim(&deployment, Readout::final_state(), estimator.clone());
            assert!(
                to_vec(victim.value_and_gradient(&images, &objective).gradient).iter().all(|x| x.is_finite())
            );
            assert!(victim.work().cell_evaluations > 0);
        }
    }
}

#[test]
fn files_read_it_by_its_name() {
    let solver = NewtonKrylov { damping: 0.5, inner: 4, forcing: 0.1 };
    let method = Method::from(solver.clone());
    assert_eq!(method.name(), "newton-krylov");
    let deployment = Deployment {
        solver: SolverConfig { method: method.clone(), ..SolverConfig::default() },
        ..Deployment::exact()
    };
    // As model files have it, and as recipes do.
    let text = serde_json::to_string(&deployment).unwrap();
    assert!(text.contains(r#""method":{"newton-krylov":{"damping":0.5,"inner":4,"forcing":0.1}}"#), "{text}");
    assert_eq!(serde_json::from_str::<Deployment>(&text).unwrap(), deployment);
    let recipe = "[solver.method.newton-krylov]\ndamping = 0.5\ninner = 4\nforcing = 0.1";
    let read: Deployment = toml::from_str(recipe).unwrap();
    assert_eq!(read.solver, deployment.solver);
    let unknown = serde_json::from_str::<Method>(r#""newton""#).unwrap_err().to_string();
    assert!(unknown.contains("`newton-krylov`") && unknown.contains("`broyden`"), "{unknown}");
    let wrong =
        SolverConfig { method: NewtonKrylov { inner: 0, ..solver }.into(), ..SolverConfig::default() };
    assert_eq!(wrong.validate().unwrap_err().to_string(), "solver: newton-krylov inner 0 must be in 1..=100");
}

/// The guide shows this very solver.
#[test]
fn the_guide_holds_the_same_file() {
    let page = include_str!("../../guide/own-solver.md");
    let file = include_str!("../common/newton_krylov.rs");
    let body = &file[file.find("use equipoise").unwrap()..];
    assert!(page.contains(body), "docs/guide/own-solver.md and tests/common/newton_krylov.rs differ");
}
