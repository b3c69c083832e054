//! Images of several examples behind each other, or of the few that are worked on.

use crate::convolution::direct::{Images, ImagesMut};
use crate::image::plane::Plane;

/// Room for so many images of `each` floats. Examples beyond take the places of earlier ones: what only has to last
/// while a few examples are worked on stays in the cache.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stack {
    data: Vec<f32>,
    each: usize,
    room: usize,
}

impl Stack {
    /// Zeros.
    pub fn new(each: usize, room: usize) -> Self {
        Self { data: vec![0.0; each * room], each, room }
    }

    /// Zeros, one plane per example.
    pub fn of(plane: Plane, room: usize) -> Self {
        Self::new(plane.len(), room)
    }

    /// Where an example's image begins.
    fn place(&self, example: usize) -> usize {
        example % self.room * self.each
    }

    pub fn at(&self, example: usize) -> &[f32] {
        &self.data[self.place(example)..][..self.each]
    }

    pub fn at_mut(&mut self, example: usize) -> &mut [f32] {
        let place = self.place(example);
        &mut self.data[place..][..self.each]
    }

    /// The images from one on, as far as there is room.
    pub fn images(&self, example: usize) -> Images<'_> {
        Images { data: &self.data[self.place(example)..], stride: self.each }
    }

    /// The images from one on, as far as there is room.
    pub fn images_mut(&mut self, example: usize) -> ImagesMut<'_> {
        let place = self.place(example);
        ImagesMut { data: &mut self.data[place..], stride: self.each }
    }

    /// Bytes of all images.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

/// One branch of several examples' flat states: `[count, D]`, of which columns `start..start + len`.
#[derive(Clone, Copy)]
pub(crate) struct Dense<'a> {
    pub data: &'a [f32],
    pub stride: usize,
    pub start: usize,
    pub len: usize,
}

impl<'a> Dense<'a> {
    pub fn at(&self, example: usize) -> &'a [f32] {
        let first = example * self.stride + self.start;
        &self.data[first..first + self.len]
    }
}

/// The same, to write to.
pub(crate) struct DenseMut<'a> {
    pub data: &'a mut [f32],
    pub stride: usize,
    pub start: usize,
    pub len: usize,
}

impl DenseMut<'_> {
    pub fn at(&mut self, example: usize) -> &mut [f32] {
        let first = example * self.stride + self.start;
        &mut self.data[first..first + self.len]
    }
}
