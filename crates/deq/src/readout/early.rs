//! `early(t)`: the head sees z_t, so that the solve can stop there.

use super::{ReadState, Readout, ReadoutKind, StateReadout};

pub(super) const KIND: ReadoutKind = ReadoutKind { name: "early", usage: "early(T) with T from 1", parse };

/// head(z_t), t from 1.
pub(super) struct Early {
    pub(super) t: usize,
}

impl StateReadout for Early {
    fn spec(&self) -> String {
        format!("early({})", self.t)
    }

    fn check(&self, steps: usize) -> Result<(), String> {
        if (1..=steps).contains(&self.t) {
            return Ok(());
        }
        Err(format!("the model's solver takes {steps} steps; choose T in 1..={steps}"))
    }

    fn states(&self, steps: usize) -> Vec<ReadState> {
        vec![ReadState::At(self.t.min(steps))]
    }
}

fn parse(arguments: Option<&str>) -> Result<Readout, String> {
    match arguments.map(str::parse) {
        Some(Ok(t)) if t >= 1 => Ok(Readout::early(t)),
        _ => Err("T is a whole number from 1, as in early(3)".to_owned()),
    }
}
