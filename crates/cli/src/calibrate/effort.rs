//! How much is run: everything, or a piece of it in seconds.

/// Numbers of models, seeds and images.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Steps of each training.
    pub training: usize,
    /// Models of each kind.
    pub models: u64,
    /// Evaluation seeds of each model, for each null.
    pub seeds: u64,
    /// The same for converged solves, which take longest.
    pub seeds_converged: u64,
    /// Images of a null.
    pub images: usize,
    /// Images of a planted fault.
    pub fault_images: usize,
    /// Evaluation seeds of each model, for each planted fault.
    pub fault_seeds: u64,
    /// Evaluation seeds of each model, healthy.
    pub healthy_seeds: u64,
    /// Images of a check.
    pub check_images: usize,
    /// Groups of images of each model, for the checks.
    pub check_groups: usize,
}

impl Effort {
    /// What the documentation is made of.
    pub const FULL: Self = Self {
        training: 300,
        models: 6,
        seeds: 8,
        seeds_converged: 6,
        images: 500,
        fault_images: 1000,
        fault_seeds: 1,
        healthy_seeds: 8,
        check_images: 100,
        check_groups: 5,
    };

    /// To see that it works.
    pub const QUICK: Self = Self {
        training: 60,
        models: 1,
        seeds: 1,
        seeds_converged: 1,
        images: 100,
        fault_images: 100,
        fault_seeds: 1,
        healthy_seeds: 1,
        check_images: 25,
        check_groups: 1,
    };
}
