use std::path::PathBuf;

use clap::Args;
use equipoise_dataset::Source;

use super::Preparation;

/// Train a model, standard or adversarially, with checkpoints
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise train --data digits --model mdeq-digits --epochs 8 --out runs/standard\n  \
                  equipoise train --data cifar10:data/cifar10-jpeg --model mdeq-small --adversary pgd --eps 8/255 \
                  --out runs/pgd-at\n  equipoise train --data digits --model mdeq-digits --adversary trades --beta 6 \
                  --eps 0.15 --patience 3 --out runs/trades\n  equipoise train --data cifar10:data/cifar10-jpeg --model \
                  resnet18 --width 7 --adversary pgd --out runs/resnet\n  equipoise train --config \
                  recipes/small/cifar10-mdeq-small-full.toml --data cifar10:data/cifar10-jpeg --out runs/mine\n  \
                  equipoise train --resume --out runs/mine\n  equipoise train --init imported.safetensors --data \
                  cifar10:data/cifar10-jpeg --adversary pgd --eps 8/255 --epochs 3 --lr 1e-4 --out runs/hardened\n\nThe folder gets model.safetensors (after the last epoch), \
                  best.safetensors (after the epoch with the best accuracy on the images held out, under attack in \
                  adversarial training), log.jsonl and steps.jsonl (a line per epoch and per step), recipe.toml \
                  (everything that was decided) and a checkpoint, step-N.\n\nDefaults are those of a run without --config. With one, \
                  they are the recipe's."
)]
pub struct Train {
    /// Folder for the model, its log, its recipe and checkpoints
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on from the folder's last checkpoint, with the folder's own recipe unless another is given
    #[arg(long)]
    pub resume: bool,
    #[arg(long, value_name = "SPEC", help = Source::FORMS)]
    pub data: Option<String>,
    #[command(flatten)]
    pub preparation: Preparation,
    /// Train on the first N images only [default: all]
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// Architecture by name: mdeq-digits, mdeq-small, single-scale, mdeq-large, mdeq-xl, monotone-digits,
    /// monotone-conv-digits, monotone-multi-digits, resnet18, wrn-34-10
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Width of a resnet18 (channels of its first stage) [default: 64] or of a wrn-34-10 (widening factor) [default: 10]
    #[arg(long, value_name = "N")]
    pub width: Option<usize>,
    /// Rate of a DEQ's variational dropout [default: the architecture's; see `equipoise info --model NAME`]
    #[arg(long, value_name = "P")]
    pub dropout: Option<f64>,
    /// A recipe: TOML with the tables [model], [deployment], [train] and [data]; flags override it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Fine-tune: start from the weights of this model file, trained here or imported, with its architecture and
    /// deployment and a fresh optimiser
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "width"])]
    pub init: Option<PathBuf>,
    /// The model's name in tables [default: architecture and kind of training]
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,
    /// Training gradient: exact, or unrolled[:lead=L,steps=K,damping=D], which is then deployed too
    /// [default: exact]
    #[arg(long, value_name = "SPEC")]
    pub gradient: Option<String>,
    /// Passes over the training images [default: 10]
    #[arg(long, value_name = "N")]
    pub epochs: Option<usize>,
    /// Images per step [default: 64]
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// Images whose gradients and batch statistics are computed together; a step adds up those of all its micro-batches, and ranks
    /// share them out [default: the whole step]
    #[arg(long, value_name = "N")]
    pub micro_batch: Option<usize>,
    /// Train on several processes together: mpi, under mpirun or srun, as in `mpirun -n 4 equipoise --threads 1 train --ranks mpi
    /// --micro-batch 16 ..`, in builds with the cargo feature mpi. Any number of them comes to the same weights, and may go on
    /// with a run of another number
    #[arg(long, value_name = "ENGINE")]
    pub ranks: Option<String>,
    /// Learning rate at the start, of Adam with cosine decay unless a recipe says otherwise [default: 0.001]
    #[arg(long, value_name = "X")]
    pub lr: Option<f64>,
    /// Images held out to watch training by, the last ones [default: 500, or a tenth of the images if that is less]
    #[arg(long, value_name = "N")]
    pub development: Option<usize>,
    /// Steps between checkpoints; one is written after every epoch anyway [default: 200]
    #[arg(long, value_name = "N")]
    pub checkpoint_steps: Option<usize>,
    /// Keep the model after every N epochs, as epoch-N.safetensors
    #[arg(long, value_name = "N")]
    pub keep_every: Option<usize>,
    /// How the learning rate falls: cosine or constant. A run with a constant one can be resumed with more --epochs
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Scale gradients down to this norm, all parameters together [default: no clipping]
    #[arg(long, value_name = "X")]
    pub clip_norm: Option<f64>,
    /// Stop after N epochs without a new best accuracy on the images held out [default: never]
    #[arg(long, value_name = "N")]
    pub patience: Option<usize>,
    /// pgd or trades for adversarial training, boxes for certified training of a monotone DEQ whose boxes contract, none for
    /// standard training [default: none]
    #[arg(long, value_name = "KIND")]
    pub adversary: Option<String>,
    /// Weight of the divergence in TRADES [default: 6]
    #[arg(long, value_name = "X")]
    pub beta: Option<f64>,
    /// Radius that the adversary may move an image [default: 8/255 for linf; another norm needs its own]
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    pub eps: Option<String>,
    /// Norm of the radius: linf or l2 [default: linf]
    #[arg(long, value_name = "NORM")]
    pub norm: Option<String>,
    /// Steps of the adversary, of a quarter of the radius each [default: 7 for pgd, 10 for trades]
    #[arg(long, value_name = "N")]
    pub pgd_steps: Option<usize>,
}
