//! Images of several examples behind each other.

use crate::conv::{Images, ImagesMut};
use crate::plane::Plane;

/// `count` images of `each` floats.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stack {
    data: Vec<f32>,
    each: usize,
}

impl Stack {
    /// Zeros.
    pub fn new(each: usize, count: usize) -> Self {
        Self { data: vec![0.0; each * count], each }
    }

    /// Zeros, one plane per example.
    pub fn of(plane: Plane, count: usize) -> Self {
        Self::new(plane.len(), count)
    }

    pub fn at(&self, example: usize) -> &[f32] {
        &self.data[example * self.each..(example + 1) * self.each]
    }

    pub fn at_mut(&mut self, example: usize) -> &mut [f32] {
        &mut self.data[example * self.each..(example + 1) * self.each]
    }

    /// The images from one on.
    pub fn images(&self, example: usize) -> Images<'_> {
        Images { data: &self.data[example * self.each..], stride: self.each }
    }

    /// The images from one on.
    pub fn images_mut(&mut self, example: usize) -> ImagesMut<'_> {
        ImagesMut { data: &mut self.data[example * self.each..], stride: self.each }
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
