//! White-box evaluation: a cascade of attacks, every success verified.
