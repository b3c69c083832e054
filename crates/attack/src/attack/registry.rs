//! The families of attacks of this crate, in the order in which messages name them.

use super::names::AttackFamily;
use super::{apgd, fab, pgd, square};
use crate::registry::Named;

impl Named for AttackFamily {
    const BUILT_IN: &'static [Self] = &[pgd::FAMILY, apgd::FAMILY, fab::FAMILY, square::FAMILY];

    fn name(&self) -> &'static str {
        self.names.first().unwrap_or(&self.usage)
    }

    fn usage(&self) -> &'static str {
        self.usage
    }
}
