//! Deep equilibrium models: what they are, how they are solved and read, and gradients through all of it.
//!
//! The hidden state of a deep equilibrium model (DEQ) is the fixed point z* = f(z*; x) of one layer, its *cell*. A *solver* goes
//! through states z_1 to z_T towards it, a *readout* says which of them the classifier's head sees, and an *estimator* is a way
//! back from a loss to the image. The three make a [`Victim`](victim::Victim), which the attacks of `equipoise-attack` ask.
//!
//! The modules stand in the order in which data flow through them; each uses only those above it.

pub mod state;
pub mod model;
pub mod solve;
pub mod readout;
pub mod defence;
pub mod gradient;
pub mod victim;
pub mod feedforward;
pub mod network;
pub mod training_pass;
pub mod architecture;
pub mod checkpoint;
pub mod trace;
pub mod problems;
