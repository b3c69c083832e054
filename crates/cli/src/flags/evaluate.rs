use std::path::PathBuf;

use clap::Args;

use super::{Ball, Images};

/// Several radii.
const EPS: &str = "Radius of the perturbations, such as 8/255, or several separated by commas: from the smallest up, what \
                   falls at one counts at every larger one [default: 8/255 for linf; another norm needs its own]";

/// Attacks that search where PGD does not.
const NORM: &str = "Norm of the radius: linf, l2 or l1; in l1 balls only the apgd attacks search";

/// Attack a model and report its robust accuracy, with a verdict on gradient obfuscation
#[derive(Debug, Clone, Args)]
#[command(mut_arg("norm", |norm| norm.help(NORM)), mut_arg("eps", |eps| eps.help(EPS)))]
#[command(
    after_help = "Examples:\n  equipoise evaluate --model runs/pgd-at/model.safetensors --data digits --count 100 \
                  --eps 0.1 --out runs/pgd-at/evaluation\n  equipoise evaluate --model m.safetensors --data \
                  cifar10:data/cifar10-jpeg --attacks pgd-10,pgd-50x5 --readouts final,early,ensemble-states \
                  --gradients exact,unrolled:state=4,lead=1,steps=4 --out runs/e\n  equipoise evaluate --model \
                  m.safetensors --data digits --attacks pgd-20,square-500 --eps 0.05,0.1,0.15,0.2 --out runs/sweep\n  \
                  equipoise evaluate --model m.safetensors --data digits --attacks whitebox --plan --out runs/w\n  equipoise evaluate --model \
                  runs/a/epoch-*.safetensors --data digits --count 200 --eps 0.1 --out runs/epochs\n\nFor \
                  each readout the ready-made attacks come first, once each (the opening): those through the gradient \
                  that the model was trained with. Then each attack goes through each of --gradients, from a fresh start, \
                  and its twin goes from the same start through the training gradient: both arms make the same effort, and \
                  differ in the gradient alone. The yardstick compares one gradient with one, four starts each. Attacks \
                  without gradients come last, on what withstood everything else. The verdict is an exact paired test \
                  of the arms, corrected over readouts and radii: obfuscated, not-obfuscated, undecided, \
                  no-robustness-left or no-control. --resume with a larger --count goes on with more images.\n\n\
                  --attacks whitebox tries, in this order:\n  1. through the training gradient (ready-made): pgd-10, \
                  apgd-ce, apgd-t\n  2. apgd-ce through each of the following, then apgd-t through those that fit the readout, the \
                  ensemble of\n     unrolled gradients and those of --gradients; each with its twin:\n     what fits the readout: \
                  through-solver; for early(t) unrolled and adjoint at t; for\n       ensemble-logits the joint gradient \
                  of all states\n     then by cost: exact; unrolled:state=best,steps=9; unrolled at T/2 with steps=0; at \
                  T/4, T/2,\n       3T/4, T with steps=4; adjoint at T/2, 3T/4, T; ensembles of the unrolled and of the \
                  adjoint\n       gradients at all states; those of --gradients\n     behind entropy-reduction: shift; smooth(1), smooth(0.1), smooth(10); lock-in at the first and at all segments;\n       \
                  off(through-solver)\n  3. fab-t through the first of these, \
                  or the training gradient if there is no other\n  4. square\nWhat a model does not admit is left out \
                  and recorded: adjoint and through-solver need a solver that has what they follow, apgd-t four classes, only APGD searches in l1; a feedforward \
                  network has one gradient. With --time-limit the opening, the yardstick, the arms and the \
                  attacks without gradients have a quarter, 15, 45 and 15% of the time, and what one leaves goes to the next; \
                  within each, the next is the one that promises the most broken points per \
                  second: the share that attacks of its kind or through its gradient have broken so far (from 1 of 20 \
                  before any), over the work that a point costs which withstands. Time ends whole pairs, never halves."
)]
pub struct Evaluate {
    /// The model files: one, or several for one record and one table. Feedforward networks beside DEQs are attacked
    /// behind final
    #[arg(long, value_name = "FILE", num_args = 1.., required = true)]
    pub model: Vec<PathBuf>,
    /// A name for each in tables [default: its own, with epoch, seed or file where several have the same]
    #[arg(long, value_name = "TEXT", num_args = 1..)]
    pub name: Vec<String>,
    #[command(flatten)]
    pub images: Images,
    /// Folder for results.json, results.md, report.html and the journal
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Go on with the evaluation in --out that was interrupted, or extend it by a larger --count; its other flags are
    /// remembered
    #[arg(long)]
    pub resume: bool,
    /// Evaluate a part only: k/n for every n-th image from the k-th on, or auto for what a Slurm array, MPI or torchrun says. It
    /// goes to a folder of its own in --out, and goes on when the same command is given again; `equipoise merge` unites
    /// the parts
    #[arg(long, value_name = "K/N", conflicts_with_all = ["time_limit", "plan"])]
    pub shard: Option<String>,
    /// Take over what the shards in --out have found: what `merge` stands for
    #[arg(long, hide = true, conflicts_with_all = ["shard", "time_limit", "plan"])]
    pub merged: bool,
    /// Attacks, separated by commas: pgd-10, pgd-50x5 (5 restarts), pgd-10-margin, pgd-10-pma, apgd-ce, apgd-dlr, apgd-pma,
    /// apgd-t, apgd-t-malt, fab, fab-t, square, the sets autoattack, autoattack-plus, and `whitebox`, the white-box plan, which brings its own
    /// gradients (see below)
    #[arg(long, value_name = "LIST", default_value = "pgd-10,square-500")]
    pub attacks: String,
    /// Gradient estimators, separated by commas: exact, unrolled:state=T,lead=L,steps=K,damping=D,
    /// adjoint:state=T,beta=B, through-solver, ensemble(..), joint(..); behind entropy-reduction shift, smooth(C),
    /// lock-in(W,W,..), off(METHOD); `none` for ready-made attacks alone
    /// [default: exact, unrolled at three states, an ensemble of all states, adjoint, through-solver; behind
    /// entropy-reduction shift, smooth(1), two of lock-in, off(through-solver)]. Those given join the plan's own
    #[arg(long, value_name = "LIST")]
    pub gradients: Option<String>,
    /// Readouts, separated by commas: final, early(T), early (T chosen on training images held out, under a ready-made
    /// attack), early:whitebox (the same, under the true gradient of each T too), ensemble-states, ensemble-logits,
    /// random-states or random-states(LEAST) (the number of solver steps drawn for each image and question), random-starts(N)
    /// (N solves from random states, of which that with the lowest residual answers); or a defence: entropy-reduction,
    /// entropy-reduction-corrected, each with settings (segments=S,steps=K,updates=R,beta=B,rho=P)
    #[arg(long, value_name = "LIST", default_value = "final")]
    pub readouts: String,
    #[command(flatten)]
    pub ball: Ball,
    /// Images from elsewhere, separated by commas, tried on what withstands everything else and counted apart: readouts, whose
    /// images PGD-10 makes through their true gradient, `siblings` for all of --readouts, and files that --save-adversarial
    /// wrote (.safetensors), of whatever model
    #[arg(long, value_name = "LIST")]
    pub transfer: Option<String>,
    /// Add normal noise of this deviation to every image, as in 0.1, clipped nowhere: the model is then one that draws random
    /// numbers, the base classifier of randomized smoothing
    #[arg(long, value_name = "SIGMA", allow_negative_numbers = true)]
    pub noise: Option<f64>,
    /// What a verdict is where random numbers are drawn, by --noise, random-states or random-starts: one-shot (one draw that no
    /// attack has seen), any-of-N (N such draws, broken if one is wrong), or fixed-seed (one draw that every attack knows)
    /// [default: one-shot]
    #[arg(long, value_name = "NAME")]
    pub protocol: Option<String>,
    /// Draws whose mean attacks follow under --noise and behind random-starts [default: 20]. Of random-states the mean over all
    /// outcomes is exact
    #[arg(long, value_name = "N")]
    pub mean_of: Option<usize>,
    /// What a gap is compared with: twins (as many runs through the training gradient, from the same starts), or none,
    /// and then no finding is made
    #[arg(long, value_name = "NAME", default_value = "twins")]
    pub control: String,
    /// Points below which the difference between the arms, and what only attacks without gradients break, must lie for
    /// `not-obfuscated`
    #[arg(long, value_name = "POINTS", default_value_t = 3.0)]
    pub margin: f64,
    /// Print what would be run, about how long it takes at most, and what so many images can show, and stop
    #[arg(long)]
    pub plan: bool,
    /// Training images to choose `early` on, the last ones of the training split
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub development: usize,
    /// PGD continues each solve from the step before, where the readout is final: fewer cell evaluations on a model
    /// that converges; successes are judged by a forward pass from a cold start
    #[arg(long)]
    pub warm_start: bool,
    /// Time for the attacks on each readout, such as 10m: those of the highest expected gain per second come first,
    /// and what was not tried is recorded. Results then depend on the machine's speed
    #[arg(long, value_name = "TIME")]
    pub time_limit: Option<String>,
    /// Points examined by the checks
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub flag_count: usize,
    /// Make no checks
    #[arg(long, conflicts_with = "flag_count")]
    pub no_flags: bool,
    /// Write the adversarial images too, as safetensors and npz
    #[arg(long)]
    pub save_adversarial: bool,
}
