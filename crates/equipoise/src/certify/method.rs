//! The methods that certificates of monotone DEQs are proved by, and where one says nothing.

use std::fmt;
use std::str::FromStr;

use crate::attack::Norm;

/// How it is shown that a class does not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// By the Lipschitz constant between each two classes, in L2. In L∞, from the middle of the box of images in \[0, 1\], by
    /// the ball around it; of a network that contracts in ℓ∞, by that of the box itself. That of a Lipschitz-bounded network is √2 γ,
    /// where it is the smaller one.
    Lipschitz,
    /// By the fixed points of a ball as an affine function of the image and errors of those ReLUs that may switch in it.
    Affine,
    /// By affine functions of parts of the ball, in which ReLUs that may switch are decided, and the linear program of each part.
    Branching,
    /// By a set of states that a step maps into itself, as a zonotope.
    Zonotopes,
    /// In L∞ by a box that holds the states of all images: for networks whose matrix measure is below 1.
    Boxes,
}

impl Method {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Lipschitz, Self::Affine, Self::Branching, Self::Zonotopes, Self::Boxes];

    /// Those that are quick enough to search for radii by.
    pub const USUAL: [Self; 3] = [Self::Lipschitz, Self::Affine, Self::Boxes];

    /// The name in records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lipschitz => "lipschitz",
            Self::Affine => "affine",
            Self::Branching => "branching",
            Self::Zonotopes => "zonotopes",
            Self::Boxes => "boxes",
        }
    }

    /// Whether it says anything in a norm.
    ///
    /// # Errors
    ///
    /// If it shows next to nothing there; says in which it does.
    pub fn check_norm(self, norm: Norm) -> Result<(), Unbounded> {
        if self == Self::Boxes && norm != Norm::Linf {
            return Err(Unbounded(format!("in {norm} they show next to nothing; use linf")));
        }
        Ok(())
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let found = Self::ALL.into_iter().find(|method| method.name() == text);
        found.ok_or_else(|| format!("unknown method `{text}`: use {names}"))
    }
}

/// A network that no bound is known for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unbounded(String);

impl Unbounded {
    pub(super) fn new(problem: String) -> Self {
        Self(problem)
    }
}
