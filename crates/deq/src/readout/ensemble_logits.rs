//! `ensemble-logits`: the mean of the head's logits over all iterates and the final state.

use super::{ReadState, Readout, ReadoutKind, StateReadout, all_states, nothing};

pub(super) const KIND: ReadoutKind = ReadoutKind {
    name: "ensemble-logits",
    usage: "ensemble-logits",
    parse: |arguments| nothing(arguments).map(|()| Readout::ensemble_logits()),
};

/// The mean of head(z_1), .., head(z_T) and head(a), a the final state.
pub(super) struct EnsembleLogits;

impl StateReadout for EnsembleLogits {
    fn spec(&self) -> String {
        "ensemble-logits".to_owned()
    }

    fn states(&self, steps: usize) -> Vec<ReadState> {
        all_states(steps)
    }

    fn averages_logits(&self) -> bool {
        true
    }
}
