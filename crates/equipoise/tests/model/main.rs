//! Models: cells, stems and heads against their composed forms and PyTorch's, their files, and what files may claim.

#[path = "../common/mod.rs"]
mod common;

mod arrays;
mod baselines;
mod fused;
mod head;
mod import;
mod jacobians;
mod limits;
mod lipschitz_layers;
mod monotone;
mod splitting;
mod monotone_conv;
mod monotone_conv_reflected;
mod monotone_multi;
mod network;
mod parametrisations;
mod parametrisations_conv;
mod parity;
mod reference;
mod stem;
mod trace_input;
