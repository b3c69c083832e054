//! Bytes as a source of choices.

use arbitrary::Unstructured;

/// Choices drawn from bytes. When there are no bytes left, every choice is the first one: fewer and smaller bytes make
/// a simpler case.
#[derive(Debug)]
pub struct Choices<'a>(Unstructured<'a>);

impl<'a> Choices<'a> {
    /// From the bytes of a case.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(Unstructured::new(bytes))
    }

    /// A number below `count`; 0 if that is 0.
    pub fn below(&mut self, count: usize) -> usize {
        self.0.int_in_range(0..=count.saturating_sub(1)).unwrap_or(0)
    }

    /// One of some things.
    ///
    /// # Panics
    ///
    /// If there are none.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// True once in `count` times.
    pub fn one_in(&mut self, count: usize) -> bool {
        self.below(count) + 1 == count
    }

    /// How many changes to make.
    pub fn changes(&mut self) -> usize {
        self.pick(&[0, 1, 1, 1, 1, 2, 3, 6])
    }

    /// A place in something of this length, its end included: anywhere, or near the start or the end, where headers and
    /// directories are.
    pub fn place(&mut self, length: usize) -> usize {
        match self.below(4) {
            0 | 1 => self.below(length.min(200) + 1),
            2 => self.below(length + 1),
            _ => length - self.below(length.min(100) + 1),
        }
    }
}
