//! Memory of a pass: the images of a few examples, kept from one pass to the next.

use std::sync::Arc;

use crate::image::plane::Plane;
use crate::image::stack::Stack;
use crate::pool::{Pool, Room};

/// Pieces of memory that are kept between passes.
const SPARE: usize = 64;

/// Memory for passes through a network in training, kept from one to the next. A clone shares it. It may serve one network after
/// another; what does not fit the next one is let go.
#[derive(Debug, Clone)]
pub struct TrainingMemory(pub(super) Arc<Pool<Chunk>>);

impl Default for TrainingMemory {
    fn default() -> Self {
        Self(Arc::new(Pool::of(SPARE)))
    }
}

impl TrainingMemory {
    /// Lets go of what no pass is using.
    pub fn clear(&self) {
        self.0.clear();
    }
}

/// The images of a few examples.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// For so many there is room.
    pub room: usize,
    /// What for.
    pub layout: Layout,
    pub count: usize,
    /// Of the inputs and layers.
    pub images: Vec<Stack>,
    /// By place.
    pub cotangents: Vec<Stack>,
    /// By layer.
    pub terms: Vec<Vec<AtTerm>>,
    pub spares: Vec<Stack>,
}

/// What a chunk keeps of a term.
#[derive(Debug)]
pub(crate) struct AtTerm {
    /// A normalised convolution's output; on the way back, the cotangent of any convolution's output.
    pub y: Stack,
    /// Of a normalisation.
    pub sums: Stack,
}

/// Of which planes a chunk's images are, and what its layers' terms keep.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layout {
    /// Of the inputs and layers.
    pub images: Vec<Plane>,
    /// By place.
    pub cotangents: Vec<Plane>,
    /// Whether there is a convolution, and a normalisation: by layer.
    pub terms: Vec<Vec<[bool; 2]>>,
    /// One of each shape.
    pub spares: Vec<Plane>,
}

impl Layout {
    /// Zeros for so many examples.
    pub fn chunk(&self, room: usize) -> Chunk {
        let stacks = |planes: &[Plane]| planes.iter().map(|&plane| Stack::of(plane, room)).collect();
        let inputs = self.images.len() - self.terms.len();
        let terms = self.terms.iter().zip(&self.images[inputs..]).map(|(terms, &plane)| {
            let at = |&[conv, norm]: &[bool; 2]| AtTerm {
                y: if conv { Stack::of(plane, room) } else { Stack::default() },
                sums: if norm { Stack::new(2 * plane.stride(), room) } else { Stack::default() },
            };
            terms.iter().map(at).collect()
        });
        Chunk {
            room,
            layout: self.clone(),
            count: room,
            images: stacks(&self.images),
            cotangents: stacks(&self.cotangents),
            terms: terms.collect(),
            spares: stacks(&self.spares),
        }
    }
}

impl Room for Chunk {
    fn room(&self) -> usize {
        self.room
    }
}
