use std::path::PathBuf;

use clap::Args;

use super::Images;

/// Show that no perturbation within a radius changes the answer: a lower bound on robustness, by proof for a monotone DEQ, by
/// randomized smoothing for any model
#[derive(Debug, Args)]
#[command(mut_arg("batch_size", |size| size.default_value("256")))]
#[command(
    after_help = "Examples:\n  equipoise certify --model monotone.safetensors --data digits --count 100 --norm linf --out runs/proved\n  \
                  equipoise certify --model m.safetensors --data cifar10:data/cifar10-jpeg --every 20 --sigma 0.25 \
                  --out runs/certified\n  equipoise certify --model m.safetensors --data digits --count 50 --sigma 0.5 --samples \
                  1000 --out runs/c\n  equipoise certify --model m.safetensors --data digits --count 50 --sigma 0.1 --record \
                  runs/e/results.json --out runs/both\n  equipoise certify --model m.safetensors --data digits --count 50 --sigma 0.25 --serialized \
                  1 --checks 1000 --out runs/fast\n  equipoise certify --model monotone.safetensors --data digits --norm linf \
                  --method affine,branching --eps 0.02,0.05 --at-eps --out runs/split\n\nA monotone DEQ is certified by proof, in float64 with every rounding \
                  counted: its ideal fixed point, and, where the solver is picard, the network as it is deployed. lipschitz bounds how \
                  far the fixed point moves; affine follows it to first order and bounds the rest; boxes (in linf) need a network whose units are coupled weakly, or made for them (nemon, interval-bounded). \
                  branching splits a ball by what its ReLUs do until each part is shown: the most images, at up to seconds for each \
                  radius; zonotopes iterate sets of states to one that maps into itself. These two are run where --method names them, \
                  best with --at-eps.\n\nRandomized smoothing \
                  (Cohen, Rosenfeld and Kolter 2019) asks the model under \
                  normal noise of deviation sigma and certifies the vote over all noise: not the model as it is deployed, but the \
                  classifier that answers by that vote. It works for every model, a DEQ that does not converge included, and is \
                  worth it for a model that was trained with such noise. With --serialized most votes of a DEQ are solves of a few steps; what \
                  is certified are accurate votes all the same, at a smaller radius, since some of the fast ones may be wrong.\n\nImages that were done stay in the folder: --resume goes \
                  on from them. The report shows certified accuracy by radius; with --record it stands beside what attacks \
                  left of the same model."
)]
pub struct Certify {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    #[command(flatten)]
    pub images: Images,
    /// Look at each N-th image only
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub every: usize,
    /// Folder for results.json, results.md and report.html
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the certification in --out that was interrupted; its other flags are remembered
    #[arg(long)]
    pub resume: bool,
    /// Proofs, separated by commas, of lipschitz, affine, branching, zonotopes and boxes; or smoothing [default: smoothing with --sigma,
    /// else lipschitz, affine and, where the model and the norm have them, boxes]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub method: Vec<String>,
    /// Deviation of the noise of smoothing, in units of pixel intensity
    #[arg(long, value_name = "X")]
    pub sigma: Option<f64>,
    /// Draws that choose an image's class
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub selection: usize,
    /// Fresh draws that bound how often that class is given
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub samples: usize,
    /// Cast the votes of a DEQ fast: by so many solver steps, 1 or 2, say, from where the solve for the image without noise ended. A
    /// random sample of them is checked, so that accurate votes are certified
    #[arg(long, value_name = "STEPS")]
    pub serialized: Option<usize>,
    /// Of fast votes: a draw goes on from the one that is so many before it, as was published [default: each goes on from the image without
    /// noise]
    #[arg(long, value_name = "N")]
    pub chains: Option<usize>,
    /// Of fast votes: draws of an image that are picked to be checked. They bound its radius from above, as so many
    /// draws alone would [default: 400]
    #[arg(long, value_name = "K")]
    pub checks: Option<usize>,
    /// The chance, for each image, that what is certified does not hold
    #[arg(long, value_name = "X", default_value_t = 0.001)]
    pub alpha: f64,
    /// Norm of the radii: l2, or linf (of smoothing, the l2 radius over the root of the number of pixels)
    #[arg(long, value_name = "NORM", default_value = "l2")]
    pub norm: String,
    /// Radii of the table, separated by commas, such as 0.25,0.5 or 1/255,2/255 [default: sixteen up to the largest that can be
    /// certified, or of proofs was]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub eps: Vec<String>,
    /// Prove at the radii of --eps alone, from the largest down, instead of searching for the largest of each image
    #[arg(long, requires = "eps")]
    pub at_eps: bool,
    /// Readout that is certified [default: the deployed one]
    #[arg(long, value_name = "NAME")]
    pub readout: Option<String>,
    /// A results.json of `evaluate` of this model, readout and images: the certificate is put beside what attacks left
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
}
