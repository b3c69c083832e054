//! Images of single examples in memory that is still in the cache: their layout, and all that is done to them
//! between convolutions.

pub(crate) mod plane;
pub(crate) mod stack;
pub(crate) mod transpose;
pub(crate) mod layout;
pub(crate) mod norm;
pub(crate) mod passes;
pub(crate) mod signs;
