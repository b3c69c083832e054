use std::path::PathBuf;

use clap::Args;

/// Write down every iterate, residual and logit of a model on given images, and gradients by any estimator
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  equipoise trace --model m.safetensors --input in.safetensors --output out.safetensors \
                  --gradient exact --gradient unrolled:state=4,lead=1,steps=5,damping=1\n\nThe input holds x \
                  [N,C,H,W] float32 and y [N] int64. The output holds states, residual.relative, \
                  residual.absolute, best, logits.state, logits.final, and gradient.SPEC and loss.SPEC for each \
                  SPEC (cross-entropy; gradients are of its sum)."
)]
pub struct Trace {
    /// The model file
    #[arg(long, value_name = "FILE")]
    pub model: PathBuf,
    /// Images and labels
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// What to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// A gradient estimator; may be given several times
    #[arg(long, value_name = "SPEC")]
    pub gradient: Vec<String>,
    /// Whose norms stop the solvers: example, or batch as in the authors' release
    #[arg(long, value_name = "NAME", default_value = "example")]
    pub scope: String,
}
