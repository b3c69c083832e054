//! `random-starts(N)`: N solves from random states rather than one from 0; the one that ends at the lowest relative residual
//! answers.
//!
//! Where f has one fixed point and the solver reaches it, the start does not matter. Elsewhere the answer depends on it, anew for
//! every image and question, and so does its gradient: outcomes cannot be listed, and an attack follows the mean of several draws.

use super::{Draws, ReadState, Readout, ReadoutKind, Starts, StateReadout};

pub(super) const KIND: ReadoutKind = ReadoutKind { name: "random-starts", usage: "random-starts(N)", parse };

/// head(a), a the final state of the chosen solve.
pub(super) struct RandomStarts(pub(super) Starts);

/// More would take minutes for one answer.
const MOST: usize = 1000;

impl StateReadout for RandomStarts {
    fn spec(&self) -> String {
        let Starts { count, scale } = self.0;
        match scale {
            1.0 => format!("{}({count})", KIND.name),
            scale => format!("{}({count},{scale})", KIND.name),
        }
    }

    fn states(&self, _: usize) -> Vec<ReadState> {
        vec![ReadState::Final]
    }

    fn draws(&self) -> Draws {
        Draws::Start(self.0)
    }
}

fn parse(arguments: Option<&str>) -> Result<Readout, String> {
    let (count, scale) = match arguments {
        None => ("1", "1"),
        Some(arguments) => arguments.split_once(',').unwrap_or((arguments, "1")),
    };
    match (count.trim().parse(), scale.trim().parse()) {
        (Ok(count), Ok(scale)) if (1..=MOST).contains(&count) && scale > 0.0 && f64::is_finite(scale) => {
            Ok(Readout::random_starts(Starts { count, scale }))
        }
        _ => Err(format!(
            "N is a whole number from 1 to {MOST}, and after a comma there may be the deviation of the starts' entries, \
             as in random-starts(4) or random-starts(4,0.5)"
        )),
    }
}
