//! A cell of your own needs only `apply`, in Burn operations.
//!
//! Here f(z; x) = tanh(W z + x), on flat images, with a linear head. Solving, linearising (through autodiff),
//! gradient estimators and attacks come for free.
//!
//! `cargo run --release -p equipoise --example custom_cell`

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};
use equipoise::attack::{self, Budget, Classifier, Norm, Targets, WhiteBox};
use equipoise::batch::{from_vec, predictions};
use equipoise::deployed::{Deployment, Victim};
use equipoise::gradient::Estimator;
use equipoise::loss::CrossEntropy;
use equipoise::model::cell::Cell;
use equipoise::model::deq::Deq;
use equipoise::model::init::{Init, Law};
use equipoise::model::layers::Dense;
use equipoise::problems::{FlattenStem, LinearHead};
use equipoise::readout::Readout;
use equipoise::state::{Injection, State};
use equipoise_dataset::{Source, Split};

/// f(z; x) = tanh(W z + x).
#[derive(Module, Debug)]
struct TanhCell {
    /// W, `[D, D]`.
    weight: Param<Tensor<2>>,
}

impl Cell for TanhCell {
    fn apply(&self, state: State, injection: Injection) -> State {
        let product = state.unsqueeze_dim::<3>(1) * self.weight.val().unsqueeze_dim(0);
        (product.sum_dim(2).squeeze_dim(2) + injection).tanh()
    }

    fn state_dim(&self) -> usize {
        self.weight.dims()[0]
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default();
    let mut init = Init::new(0, &device);
    let model = Deq {
        stem: FlattenStem {},
        cell: TanhCell { weight: init.parameter([64, 64], Law::Normal(0.05)) },
        head: LinearHead { classifier: Dense::new(64, 10, &mut init) },
    };

    // Train it as any other: here, a few plain gradient steps through the library's own training gradients.
    let data = Source::Digits.load(Split::Train)?;
    let deployment = Deployment::exact();
    let model = fit(model, &deployment, &data, &device);

    let test = Source::Digits.load(Split::Test)?.take(100);
    let indices: Vec<usize> = (0..test.len()).collect();
    let images = from_vec(test.images(&indices), [test.len(), 1, 8, 8], &device);
    let budget = Budget::new(Norm::Linf, 0.1)?;
    let targets = Targets { images: &images, labels: &test.labels, indices: &indices, seed: 0, start: 0 };
    for estimator in ["exact", "unrolled:state=2,lead=1,steps=2"] {
        let victim = Victim::new(&model, &deployment, Readout::Final, estimator.parse::<Estimator>()?);
        let correct = |images| {
            let found = predictions(&victim.logits(images));
            found.iter().zip(&test.labels).filter(|(found, label)| **found == Some(**label)).count()
        };
        let clean = correct(&images);
        let perturbed = attack::parse("pgd-10")?.run(&victim as &dyn WhiteBox, &targets, &budget);
        println!(
            "digits, {} images: {clean} correct; {} after pgd-10 through {estimator} (linf 0.1)",
            test.len(),
            correct(&perturbed)
        );
    }
    Ok(())
}

type Model = Deq<FlattenStem, TanhCell, LinearHead>;

fn fit(
    mut model: Model,
    deployment: &Deployment,
    data: &equipoise_dataset::Dataset,
    device: &Device,
) -> Model {
    use burn::optim::AdamConfig;
    let mut optimizer = AdamConfig::new().init();
    let options = equipoise::train::StepOptions::default();
    for step in 0..150 {
        let indices: Vec<usize> = (0..64).map(|k| (64 * step + k) % data.len()).collect();
        let images = from_vec(data.images(&indices), [64, 1, 8, 8], device);
        let objective = CrossEntropy { labels: indices.iter().map(|&i| data.labels[i]).collect() };
        let step = equipoise::train::gradients(
            &model,
            deployment,
            &options,
            &images,
            &objective,
            &Default::default(),
        )
        .expect("the options ask for nothing that the cell cannot do");
        model = optimizer.step(3e-3, model.train(), step.parameters).valid();
    }
    model
}
