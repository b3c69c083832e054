use std::path::PathBuf;

use clap::Args;
use equipoise_dataset::Source;

use super::Preparation;

/// Measure speed and memory on this machine, beside PyTorch where there is one
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise bench --model mdeq-small --rounds 5\n  sh benchmarks/pytorch/setup.sh env\n  \
                  equipoise bench --pytorch env/bin/python --json results.json\n  equipoise bench --model resnet18-w8,wrn-34-10-w2 --only pgd\n  \
                  equipoise bench --only autoattack --weights resnet.safetensors --data cifar10:data/cifar10-jpeg --count 100 \
                  --pytorch env/bin/python\n\nCases: cell-forward, cell-vjp, low-rank, \
                  solve, pgd-exact, pgd-unrolled, pgd-ensemble, pgd-ensemble-shared, vote, vote-fast of a DEQ; logits, pgd of a feedforward \
                  network; train-step of both; sections: memory, threads, verdict, \
                  autoattack (of --weights, beside the reference implementation where --pytorch can import `autoattack`). Each runs in a process of its own on random weights and images. GFLOP/s are those of direct \
                  convolutions; ratios are PyTorch's seconds over ours, the median over rounds."
)]
pub struct Bench {
    /// Models, separated by commas
    #[arg(long, value_name = "LIST", default_value = "mdeq-small,mdeq-large,resnet18-w8,resnet18")]
    pub model: String,
    /// Images per batch
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub batch: usize,
    /// Rounds of each case
    #[arg(long, value_name = "N", default_value_t = 9)]
    pub rounds: usize,
    /// These cases and sections only, separated by commas [default: all]
    #[arg(long, value_name = "LIST")]
    pub only: Option<String>,
    /// A Python that has PyTorch: the same work there, round by round
    #[arg(long, value_name = "FILE")]
    pub pytorch: Option<PathBuf>,
    /// The PyTorch program
    #[arg(long, value_name = "FILE", default_value = "benchmarks/pytorch/mdeq.py")]
    pub pytorch_script: PathBuf,
    /// Write machine, date and every number to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// The model that `verdict` and `autoattack` attack [default: one trained on digits for some seconds]
    #[arg(long, value_name = "FILE", requires = "data")]
    pub weights: Option<PathBuf>,
    #[arg(long, value_name = "SPEC", requires = "weights", help = format!("Its data: {}", Source::FORMS))]
    pub data: Option<String>,
    #[command(flatten)]
    pub preparation: Preparation,
    /// Test images that `verdict` and `autoattack` attack
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub count: usize,
    /// Radius of `verdict` and `autoattack`, L∞ [default: 8/255; 0.15 on digits]
    #[arg(long, value_name = "X", requires = "weights")]
    pub eps: Option<String>,
}

/// One case, repeated when asked over standard input: what `bench` starts.
#[derive(Debug, Args)]
pub struct BenchWorker {
    /// What to repeat
    #[arg(long, value_name = "NAME")]
    pub task: String,
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Images and labels
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
}
