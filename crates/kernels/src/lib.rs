//! Fused CPU operations of the MDEQ cell (Bai, Koltun and Kolter 2020) and of feedforward networks, among them MDEQ's stem and
//! head, without a framework.
//!
//! A [`Cell`] is made of plain numbers ([`CellParameters`]), and evaluates f(z; x), or evaluates it and keeps a
//! [`Tape`] for vector-Jacobian products with respect to state, injection and parameters. A [`Network`] is any feedforward
//! network of convolutions in evaluation, a [`NetworkPass`] one in training; both are described by [`NetworkParameters`].
//!
//! What makes it fast: examples are images in H, W, C order with a border of zeros (`image`); a convolution is
//! a sum over taps and channels straight from the image, its result held in registers (`convolution::direct`), or has
//! 2.25 to 4 times fewer products (`convolution::winograd`); everything around the convolutions is fused into passes
//! over memory that is still in the second level cache; and a task carries a few examples through a whole cell
//! (`cell::layers`).
//!
//! Instruction sets are chosen when the program runs: AVX-512, AVX2, NEON, or none.

// Tiles of registers are arrays indexed together with pointers and with one another: a range says it plainest.
#![allow(clippy::needless_range_loop, clippy::type_complexity)]

mod parameters;
mod pool;
mod image;
mod convolution;
mod cell;
mod network;
mod broyden;
pub mod machine;
pub mod memory;
#[cfg(test)]
mod tests;

pub use broyden::{BroydenStep, Correction, broyden_direction, broyden_next, residuals};
pub use cell::Cell;
pub use cell::tape::Tape;
pub use network::parameters::{
    BatchNormParameters, ChannelMap, LayerParameters, Map, NetworkParameters, OutputParameters, Term,
    TrainedConv,
};
pub use network::training::{NetworkPass, NetworkStatistics, TrainedNetwork, TrainingMemory};
pub use network::{Network, NetworkTape};
pub use parameters::{
    BiasedConv, BlockParameters, CellParameters, Convolutions, NormParameters, PathParameters,
    PostParameters, Statistics, StepParameters,
};
