use std::path::PathBuf;

use clap::Args;

use super::{Ball, Images};

/// Measure solver residuals, gradient alignment, loss landscape, Jacobian spectrum and accuracy sweeps
#[derive(Debug, Args)]
#[command(mut_arg("count", |count| count.default_value("100")))]
#[command(mut_arg("batch_size", |size| size.default_value("32")))]
#[command(after_help = "Examples:\n  equipoise diagnose --model runs/standard/model.safetensors --model \
                  runs/pgd-at/model.safetensors --data digits --eps 0.1 --out runs/diagnosis\n  equipoise diagnose \
                  --model m.safetensors --data cifar10:data/cifar10-jpeg --count 50 --sections residual,alignment \
                  --out runs/d\n  equipoise diagnose --model m.safetensors --data digits --eps 0.1 --adversarial \
                  runs/e/adversarial-final.safetensors --out runs/d\n\nSections:\n  residual   relative residual by iterate, steps to tolerance\n  accuracy   \
                  accuracy and robust accuracy of every iterate\n  alignment  cosine of each gradient estimator to \
                  through-solver, by iterate\n  yardstick  what PGD-10 from four starts breaks through the true gradient and not through \
                  the training gradient,\n             behind final and early states: aim and gradient apart\n  landscape  loss along the gradient and along a random direction\n  \
                  spectrum   spectral radius and Frobenius norm of the cell's Jacobian\n  sweep      accuracy over \
                  solver steps, tolerance and eps, down to 0%\n  gallery    images, perturbations, answers by \
                  iterate\n  distance   how far the nearest adversarial images are, by fab-t and by bisection over eps\n  \
                  targets    which classes images can be turned into\n  \
                  work       how much longer an attack can make the solver work\n  \
                  starts     how many fixed points there are, from random starts\n\nModels are shown side by side on the same images. The attack is PGD-10 through the gradient \
                  that a model was trained with; or --adversarial gives images that fool it already, such as those of \
                  the white-box plan. They are verified first: they must be of this model, data, norm and eps. \
                  Sweeps attack anew by PGD-10 all the same. Sections that are done stay in the folder: --resume goes on from \
                  them.")]
pub struct Diagnose {
    /// The model files
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub model: Vec<PathBuf>,
    #[command(flatten)]
    pub images: Images,
    /// Folder for diagnosis.json, a CSV file for each section, report.html and report.md
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Instead of PGD-10: the images that `evaluate --save-adversarial` wrote (.safetensors) for each model, in their
    /// order
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub adversarial: Vec<PathBuf>,
    /// Go on with the diagnosis in --out that was interrupted; its other flags are remembered
    #[arg(long)]
    pub resume: bool,
    /// What to measure, separated by commas: residual, accuracy, alignment, yardstick, landscape, spectrum, sweep, gallery; and
    /// distance, targets, work and starts, which are measured where they are named
    #[arg(
        long,
        value_name = "LIST",
        default_value = "residual,accuracy,alignment,yardstick,landscape,spectrum,sweep,gallery"
    )]
    pub sections: String,
    #[command(flatten)]
    pub ball: Ball,
    /// Solver steps that residuals are followed for [default: three times those of the first DEQ]
    #[arg(long, value_name = "N")]
    pub horizon: Option<usize>,
    /// Power iterations on J at most
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub power_iterations: usize,
    /// Random probes of the norm of J
    #[arg(long, value_name = "N", default_value_t = 4)]
    pub probes: usize,
    /// Images in the gallery
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub gallery: usize,
}
