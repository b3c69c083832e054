use std::path::PathBuf;

use clap::Args;

/// Unite the shards of an evaluation to the record that one run would have made
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise evaluate --model m.safetensors --data digits --eps 0.1 --shard 1/3 --out runs/e   # \
                  on one machine\n  equipoise evaluate --model m.safetensors --data digits --eps 0.1 --shard 2/3 --out runs/e   # on \
                  another\n  equipoise merge runs/e\n  equipoise merge runs/e --data cifar10:/data/cifar10   # where the files are \
                  elsewhere\n\nWhat is missing is named with the command that makes it. Every adversarial image is judged once more \
                  here; where processors disagree it is said. Flags of `evaluate` that change no result, such as --model and --data \
                  where the files are elsewhere, --batch-size and --threads, may be given anew."
)]
pub struct Merge {
    /// The folder that was --out of all shards; the record is written there
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
    /// Flags of evaluate to be given anew
    #[arg(value_name = "FLAGS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub anew: Vec<String>,
}
