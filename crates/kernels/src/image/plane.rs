//! How one example's image lies in memory: H, W, C order, with or without a border of one zero pixel.
//!
//! Channels are padded with zeros to a multiple of [`LANES`], so that no kernel has a tail. Three by three
//! convolutions read from bordered planes: a tap outside of the image reads a zero instead of testing for one.

/// Channels are padded to a multiple of this, and weights are packed in panels of this many outputs.
pub(crate) const LANES: usize = 16;

/// The layout of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plane {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    border: usize,
}

impl Plane {
    /// Without a border.
    pub fn plain([channels, height, width]: [usize; 3]) -> Self {
        Self { channels, height, width, border: 0 }
    }

    /// With a border of one zero pixel.
    pub fn bordered(shape: [usize; 3]) -> Self {
        Self { border: 1, ..Self::plain(shape) }
    }

    /// Width of the border, 0 or 1.
    pub fn border(&self) -> usize {
        self.border
    }

    /// Channels with their padding: the distance between neighbouring pixels.
    pub fn stride(&self) -> usize {
        self.channels.next_multiple_of(LANES)
    }

    /// Distance between rows.
    pub fn row_stride(&self) -> usize {
        (self.width + 2 * self.border) * self.stride()
    }

    /// Floats that the image takes.
    pub fn len(&self) -> usize {
        (self.height + 2 * self.border) * self.row_stride()
    }

    /// Where the pixel at row y, column x begins, counted from the border: (0, 0) is the corner of the
    /// border where there is one.
    pub fn raw_offset(&self, y: usize, x: usize) -> usize {
        y * self.row_stride() + x * self.stride()
    }

    /// Where the pixel at row y, column x of the image begins.
    pub fn offset(&self, y: usize, x: usize) -> usize {
        self.raw_offset(y + self.border, x + self.border)
    }

    /// Floats of one row of the image, without the border.
    pub fn row_len(&self) -> usize {
        self.width * self.stride()
    }

    /// Row y of an image, without the border.
    pub fn row<'a>(&self, image: &'a [f32], y: usize) -> &'a [f32] {
        let start = self.offset(y, 0);
        &image[start..start + self.row_len()]
    }

    /// Row y of an image, without the border.
    pub fn row_mut<'a>(&self, image: &'a mut [f32], y: usize) -> &'a mut [f32] {
        let start = self.offset(y, 0);
        &mut image[start..start + self.row_len()]
    }
}
