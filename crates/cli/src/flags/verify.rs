use std::path::PathBuf;

use clap::Args;

/// Verify a record against the model, the data and the stored adversarial images that it speaks of
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  equipoise verify runs/e\n  equipoise verify theirs/results.json --model theirs/model.safetensors --data \
                  cifar10:data/cifar10\n  equipoise verify runs/e --json\n\nWhat is checked: that every figure of the record follows from \
                  its examples; the SHA-256 of the model file, of the images with their classes, and of the files of stored images; \
                  the model's answer to every unperturbed image; of every broken point that the stored image lies in the budget \
                  and that a pass of its own misclassifies it; every tenth certificate, chosen at random, by proving it again, or, of votes under noise, by as many \
                  draws of other noise. Without \
                  stored images (`evaluate --save-adversarial`) what was broken is claimed, not verified. That a point is robust \
                  cannot be verified: only that nothing stored breaks it. Exit code 1 where anything differs."
)]
pub struct Verify {
    /// A folder that evaluate or certify wrote, or its results.json
    #[arg(value_name = "RECORD")]
    pub record: PathBuf,
    /// The model files [default: where the record says they were]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub model: Vec<PathBuf>,
    /// The data, as for evaluate [default: where the record says it was]
    #[arg(long, value_name = "SPEC")]
    pub data: Option<String>,
    /// Of how many certificates one is proved again; 0 for none
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub every: usize,
    /// Images per batch; changes speed and memory, not results
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub batch_size: usize,
    /// Print what was found as JSON
    #[arg(long)]
    pub json: bool,
}
