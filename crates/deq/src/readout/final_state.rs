//! `final`: the head sees the final state, as in training.

use super::{ReadState, Readout, ReadoutKind, StateReadout, nothing};

pub(super) const KIND: ReadoutKind = ReadoutKind {
    name: "final",
    usage: "final",
    parse: |arguments| nothing(arguments).map(|()| Readout::final_state()),
};

/// head(a), a the best iterate after the tail.
pub(super) struct FinalState;

impl StateReadout for FinalState {
    fn spec(&self) -> String {
        "final".to_owned()
    }

    fn states(&self, _: usize) -> Vec<ReadState> {
        vec![ReadState::Final]
    }
}
