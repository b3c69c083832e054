//! States that are kept elsewhere than in Burn's tensors: every operation, and a whole model under attack.

use crate::common::{relative_error, uniform, worst_cosine};
use crate::lists::Lists;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device};
use equipoise::batch::{Images, Logits, from_vec, to_f64, to_vec};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::{BoundCell, FixedPointMap, Linearization};
use equipoise::model::equilibrium::{Equilibrium, ToImages, ToState};
use equipoise::model::init::Init;
use equipoise::problems::linear_deq;
use equipoise::readout::Readout;
use equipoise::solve::{SolverConfig, StateChoice};
use equipoise::state::{Injection, State};
use equipoise::victim::{Deployment, Victim};

/// Tensors in memory in both precisions, and rows of another crate, on the same numbers.
fn kinds(numbers: &[f64], width: usize) -> [State; 3] {
    let single = from_vec(
        numbers.iter().map(|x| *x as f32).collect(),
        [numbers.len() / width, width],
        &Device::default(),
    );
    let double = single.clone().cast(DType::F64);
    [single.into(), double.into(), Lists(numbers.chunks(width).map(<[f64]>::to_vec).collect()).into()]
}

#[test]
fn every_kind_of_rows_computes_the_same() {
    let (a, b) = (kinds(&[1.0, -2.0, 3.0, 0.5, 4.0, -1.0], 2), kinds(&[2.0, 2.0, -1.0, 4.0, 0.25, 8.0], 2));
    let c = kinds(&[2.0, -4.0, 0.5], 1);
    let expected = |found: [State; 3], dims: [usize; 2], numbers: &[f64]| {
        for found in found {
            assert_eq!((found.dims(), found.numbers()), (dims, numbers.to_vec()));
            let single: Vec<f32> = numbers.iter().map(|x| *x as f32).collect();
            assert_eq!(found.to_f32(), single);
        }
    };
    let each =
        |of: &dyn Fn(&State, &State, &State) -> State| [0, 1, 2].map(|kind| of(&a[kind], &b[kind], &c[kind]));
    expected(each(&|a, b, _| a.clone() + b.clone()), [3, 2], &[3.0, 0.0, 2.0, 4.5, 4.25, 7.0]);
    expected(each(&|a, b, _| a.clone() - b.clone()), [3, 2], &[-1.0, -4.0, 4.0, -3.5, 3.75, -9.0]);
    expected(each(&|a, _, _| -(a.clone() * 2.0) / 4.0), [3, 2], &[-0.5, 1.0, -1.5, -0.25, -2.0, 0.5]);
    expected(each(&|a, _, c| a.clone().times(c)), [3, 2], &[2.0, -4.0, -12.0, -2.0, 2.0, -0.5]);
    expected(each(&|a, _, c| a.clone().over(c)), [3, 2], &[0.5, -1.0, -0.75, -0.125, 8.0, -2.0]);
    expected(each(&|a, b, _| a.dot(b)), [3, 1], &[-2.0, -1.0, -7.0]);
    expected(each(&|a, _, _| a.select(&[2, 0])), [2, 2], &[4.0, -1.0, 1.0, -2.0]);
    expected(each(&|a, b, _| a.put(&[1], &b.select(&[2]))), [3, 2], &[1.0, -2.0, 0.25, 8.0, 4.0, -1.0]);
    expected(each(&|a, b, _| a.put(&[0, 1, 2], b)), [3, 2], &[2.0, 2.0, -1.0, 4.0, 0.25, 8.0]);
    expected(
        each(&|a, b, _| State::stack([a.select(&[1]), b.select(&[0]), a.select(&[0])])),
        [3, 2],
        &[3.0, 0.5, 2.0, 2.0, 1.0, -2.0],
    );
    expected(each(&|a, _, _| a.zeros([1, 3])), [1, 3], &[0.0; 3]);
    expected(each(&|a, _, _| a.like(vec![0.5, 7.0], 1)), [2, 1], &[0.5, 7.0]);
    let broken = |a: &State| a.clone().over(&a.like(vec![0.0, 1.0, 0.0], 1)).finite_or_zero();
    expected(each(&|a, _, _| broken(a)), [3, 2], &[0.0, 0.0, 3.0, 0.5, 0.0, 0.0]);
    expected(each(&|a, b, _| a.residual(b).0), [3, 2], &[1.0, 4.0, -4.0, 3.5, -3.75, 9.0]);
    for (a, b) in a.iter().zip(&b) {
        let (_, norms) = a.residual(b);
        assert!((norms[0].0 - 17f64.sqrt()).abs() < 1e-6 && (norms[1].1 - 17f64.sqrt()).abs() < 1e-6);
    }
}

#[test]
#[should_panic(expected = "two models' states were mixed")]
fn rows_of_two_kinds_do_not_meet() {
    let [tensor, _, lists] = kinds(&[1.0], 1);
    let _ = tensor + lists;
}

/// f(z; b) = A z + b with a linear head, in float64 and without a tensor between the images and the logits.
#[derive(Clone)]
struct ListDeq {
    /// A, `[D][D]`.
    matrix: Vec<Vec<f64>>,
    /// `[K][D]` and `[K]`.
    weight: Vec<Vec<f64>>,
    bias: Vec<f64>,
}

fn times(matrix: &[Vec<f64>], x: &[f64]) -> Vec<f64> {
    matrix.iter().map(|row| row.iter().zip(x).map(|(a, x)| a * x).sum()).collect()
}

fn transposed_times(matrix: &[Vec<f64>], u: &[f64]) -> Vec<f64> {
    (0..matrix[0].len()).map(|k| matrix.iter().zip(u).map(|(row, u)| row[k] * u).sum()).collect()
}

fn each(state: &State, of: impl Fn(&[f64]) -> Vec<f64>) -> State {
    Lists(Lists::of(state).iter().map(|row| of(row)).collect()).into()
}

fn tensor<const D: usize>(rows: &State, shape: [usize; D]) -> burn::tensor::Tensor<D> {
    from_vec(rows.to_f32(), shape, &Device::default())
}

fn listed<const D: usize>(tensor: &burn::tensor::Tensor<D>) -> State {
    let (numbers, n) = (to_f64(tensor.clone()), tensor.dims()[0]);
    Lists(numbers.chunks(numbers.len() / n).map(<[f64]>::to_vec).collect()).into()
}

impl Equilibrium for ListDeq {
    fn classes(&self) -> usize {
        self.bias.len()
    }

    fn state_dim(&self) -> usize {
        self.matrix.len()
    }

    fn injection(&self, images: &Images) -> Injection {
        listed(images)
    }

    fn linearize_stem(&self, images: &Images) -> (Injection, ToImages<'_>) {
        let shape = images.dims();
        (listed(images), Box::new(move |cotangent| tensor(&cotangent, shape)))
    }

    fn bind(&self, injection: &Injection) -> Box<dyn BoundCell> {
        Box::new(Bound { matrix: self.matrix.clone(), injection: injection.clone() })
    }

    fn logits(&self, state: &State) -> Logits {
        let logits = each(state, |z| {
            times(&self.weight, z).into_iter().zip(&self.bias).map(|(product, bias)| product + bias).collect()
        });
        tensor(&logits, logits.dims())
    }

    fn linearize_head(&self, state: &State) -> (Logits, ToState<'_>) {
        (
            self.logits(state),
            Box::new(|cotangent| each(&listed(&cotangent), |u| transposed_times(&self.weight, u))),
        )
    }
}

#[derive(Clone)]
struct Bound {
    matrix: Vec<Vec<f64>>,
    injection: State,
}

impl FixedPointMap for Bound {
    fn apply(&self, state: &State) -> State {
        each(state, |z| times(&self.matrix, z)) + self.injection.clone()
    }

    fn select(&self, rows: &[usize]) -> Box<dyn FixedPointMap + '_> {
        Box::new(Self { injection: self.injection.select(rows), ..self.clone() })
    }
}

impl BoundCell for Bound {
    fn linearize(&self, state: &State) -> Box<dyn Linearization> {
        Box::new(AtState { matrix: self.matrix.clone(), value: self.apply(state) })
    }
}

struct AtState {
    matrix: Vec<Vec<f64>>,
    value: State,
}

impl Linearization for AtState {
    fn value(&self) -> &State {
        &self.value
    }

    fn vjp_state(&self, u: &State) -> State {
        each(u, |u| transposed_times(&self.matrix, u))
    }

    fn vjp(&self, u: &State) -> (State, Injection) {
        (self.vjp_state(u), u.clone())
    }

    fn vjp_parameters(&self, u: &State, _: &mut GradientsParams) -> (State, Injection) {
        self.vjp(u)
    }

    fn select(&self, rows: &[usize]) -> Box<dyn Linearization> {
        Box::new(Self { matrix: self.matrix.clone(), value: self.value.select(rows) })
    }
}

/// Solvers, readouts and estimators ask rows for their operations alone: what they find is what they find on tensors.
#[test]
fn a_model_on_rows_of_its_own_is_the_one_on_tensors() {
    let model = linear_deq(16, 4, 0.8, &mut Init::new(3, &Device::default()));
    let rows =
        |numbers: Vec<f64>, width: usize| numbers.chunks(width).map(<[f64]>::to_vec).collect::<Vec<_>>();
    let classifier = &model.head.classifier;
    let own = ListDeq {
        matrix: rows(to_f64(model.cell.matrix.val()), 16),
        weight: rows(to_f64(classifier.weight.val()), 16),
        bias: to_f64(classifier.bias.val()),
    };
    // Some examples need fewer steps: the injections are of different sizes.
    let sizes: Vec<f32> = (0..6).flat_map(|row| vec![[0.001, 0.03, 1.0][row % 3]; 16]).collect();
    let images = uniform([6, 1, 4, 4], 3) * from_vec(sizes, [6, 1, 4, 4], &Device::default());
    let objective = CrossEntropy { labels: vec![0, 1, 2, 3, 0, 1] };
    let solvers = [SolverConfig::broyden(9), SolverConfig::anderson(9), SolverConfig::picard(9, 0.8)];
    let estimators = [
        "exact",
        "through-solver",
        "adjoint:state=4",
        "unrolled:state=2,lead=1,steps=4",
        "ensemble(unrolled:state=1..8,lead=1,steps=0)",
        "aimed(exact)",
    ];
    for solver in solvers {
        let name = format!("{:?}", solver.method);
        let deployment = Deployment { solver: solver.with_tolerance(1e-2), ..Deployment::exact() };
        for readout in ["final", "early(2)", "ensemble-states", "ensemble-logits"] {
            let readout: Readout = readout.parse().unwrap();
            for estimator in estimators {
                let estimator: Estimator = estimator.parse().unwrap();
                let of = |model: &dyn Equilibrium| {
                    let victim = Victim::new(model, &deployment, readout.clone(), estimator.clone());
                    let (reading, gradient, forward) = victim.gradient(&images, &objective);
                    (victim.read(&forward), reading.values, gradient, forward.trajectory)
                };
                let (found, expected) = (of(&own), of(&model));
                let what = format!("{name}, {readout}, {estimator}");
                assert_eq!(found.3.steps(), expected.3.steps(), "{what}");
                assert!(relative_error(&found.0, &expected.0) < 1e-4, "{what}: logits");
                let values = to_vec(found.1).into_iter().zip(to_vec(expected.1));
                assert!(values.into_iter().all(|(a, b)| (a - b).abs() < 1e-4), "{what}: values");
                let cosine = worst_cosine(&found.2, &expected.2);
                assert!(cosine > 0.9999, "{what}: {cosine}");
                let best = found.3.choose(StateChoice::Best);
                assert_eq!(best.rows::<Lists>().0.len(), 6, "{what}: states are rows of the model's own");
            }
        }
    }
}
