//! Models: what maps an image to an injection, an injection and a state to a state, and a state to logits.

pub mod cell;
pub mod deq;
pub mod equilibrium;
pub mod init;
pub mod limits;
pub mod layers;
pub mod parameters;
pub mod state_dict;
mod autodiff;
mod prepared;
mod normed;
mod fused;
pub mod linear;
pub mod mdeq;
pub mod monotone;
pub mod normalisation;
pub mod feedforward;
pub mod sll;
pub mod resnet;
pub mod wide_resnet;

pub use limits::ConfigError;
