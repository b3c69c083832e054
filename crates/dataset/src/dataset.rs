//! Images and labels in memory, checked once.

use std::fmt;

use rayon::prelude::*;

use crate::resample::Value;
use crate::{DatasetError, Reading};

/// The pixels of all images, each in C, H, W order, image after image.
#[derive(Clone, Debug, PartialEq)]
pub enum Pixels {
    /// 8-bit values; 255 means 1.0. What image files hold, at a quarter of the memory.
    U8(Vec<u8>),
    /// Values in `[0, 1]`, kept exactly: adversarial images are not multiples of 1/255.
    F32(Vec<f32>),
}

impl Pixels {
    fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }
}

/// A labelled set of images of one shape.
///
/// The public fields are for reading; build one with [`Dataset::new`], which checks it.
#[derive(Clone, PartialEq)]
pub struct Dataset {
    /// The name to print beside every number, such as `CIFAR-10 (JPEG)`.
    pub name: String,
    /// The shape of one image: channels, height, width.
    pub shape: [usize; 3],
    /// The number of classes; labels are below it.
    pub classes: usize,
    /// One name per class.
    pub class_names: Vec<String>,
    /// One label per image, in `0..classes`.
    pub labels: Vec<usize>,
    /// What whoever reads results should know of the files: what beside the images was there and was not read, or
    /// that their number is not the published one. One line each.
    pub notes: Vec<String>,
    pixels: Pixels,
}

impl Dataset {
    /// Checks the parts and joins them.
    ///
    /// `shape` is `[C, H, W]`; `pixels` holds `labels.len() * C * H * W` values.
    ///
    /// # Errors
    /// When there are no images, a count does not fit the shape, a label is not in `0..classes`, or a float
    /// pixel is not finite or not in `[0, 1]`. The message names the image by its index.
    pub fn new(
        name: impl Into<String>,
        shape: [usize; 3],
        classes: usize,
        class_names: Vec<String>,
        pixels: Pixels,
        labels: Vec<usize>,
    ) -> Result<Self, DatasetError> {
        let name = name.into();
        let place = format!("data set {name}");
        Self::at(&place, name, shape, classes, class_names, pixels, labels)
    }

    /// [`Dataset::new`] for data that came from a file: `place` is what errors name.
    pub(crate) fn at(
        place: &str,
        name: impl Into<String>,
        shape: [usize; 3],
        classes: usize,
        class_names: Vec<String>,
        pixels: Pixels,
        labels: Vec<usize>,
    ) -> Result<Self, DatasetError> {
        let place = || place.to_owned();
        if labels.is_empty() {
            return Err(DatasetError::Empty { place: place(), advice: "give at least one".into() });
        }
        let size = shape.iter().try_fold(1usize, |size, &side| size.checked_mul(side)).unwrap_or(0);
        let Some(expected) = size.checked_mul(labels.len()).filter(|&expected| expected > 0) else {
            return Err(DatasetError::format(
                place(),
                format!("the image shape {shape:?} holds no pixels or too many"),
                "give positive channels, height and width",
            ));
        };
        let length = |what, found, expected| match found == expected {
            true => Ok(()),
            false => Err(DatasetError::Length { place: place(), what, found, expected }),
        };
        length("pixel values", pixels.len(), expected)?;
        length("class names", class_names.len(), classes)?;
        if let Some((index, &label)) = labels.iter().enumerate().find(|&(_, &label)| label >= classes) {
            let place = format!("{}, image {index}", place());
            return Err(DatasetError::Label { place, label: label as i128, classes });
        }
        if let Pixels::F32(values) = &pixels {
            // A range does not contain NaN.
            if let Some(at) = values.iter().position(|value| !(0.0..=1.0).contains(value)) {
                let place = format!("{}, image {}, value {}", place(), at / size, at % size);
                return Err(DatasetError::Pixel { place, value: values[at] });
            }
        }
        Ok(Self { name: name.into(), shape, classes, class_names, labels, notes: Vec::new(), pixels })
    }

    /// The number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images; true only after `take(0)` or `select(&[])`.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The number of values in one image, C·H·W.
    fn size(&self) -> usize {
        self.shape.iter().product()
    }

    /// One image: C·H·W values in `[0, 1]`, in C, H, W order; 8-bit values are divided by 255.
    ///
    /// # Panics
    /// When `index` is not below [`Dataset::len`].
    pub fn image(&self, index: usize) -> Vec<f32> {
        self.images(&[index])
    }

    /// Several images, one after another: `indices.len()`·C·H·W values as in [`Dataset::image`].
    ///
    /// # Panics
    /// When an index is not below [`Dataset::len`].
    pub fn images(&self, indices: &[usize]) -> Vec<f32> {
        let mut out = Vec::with_capacity(indices.len() * self.size());
        for &index in indices {
            match &self.pixels {
                Pixels::U8(values) => {
                    out.extend(self.slice(values, index).iter().map(|&value| f32::from(value) / 255.0));
                }
                Pixels::F32(values) => out.extend_from_slice(self.slice(values, index)),
            }
        }
        out
    }

    /// The first `count` images, or all when there are fewer.
    #[must_use]
    pub fn take(mut self, count: usize) -> Self {
        self.labels.truncate(count);
        let values = self.len() * self.size();
        // Give the memory back: 500 test images need not hold on to 10,000.
        match &mut self.pixels {
            Pixels::U8(pixels) => {
                pixels.truncate(values);
                pixels.shrink_to_fit();
            }
            Pixels::F32(pixels) => {
                pixels.truncate(values);
                pixels.shrink_to_fit();
            }
        }
        self
    }

    /// The images at `indices`, in that order; an index may repeat.
    ///
    /// # Panics
    /// When an index is not below [`Dataset::len`].
    #[must_use]
    pub fn select(&self, indices: &[usize]) -> Self {
        Self {
            name: self.name.clone(),
            shape: self.shape,
            classes: self.classes,
            class_names: self.class_names.clone(),
            labels: indices.iter().map(|&index| self.labels[index]).collect(),
            notes: self.notes.clone(),
            pixels: match &self.pixels {
                Pixels::U8(values) => Pixels::U8(self.gather(values, indices)),
                Pixels::F32(values) => Pixels::F32(self.gather(values, indices)),
            },
        }
    }

    /// Gray images as three equal planes, for models that take colour; colour images as they are. Labels, name and
    /// notes stay.
    #[must_use]
    pub fn in_colour(mut self) -> Self {
        if self.shape[0] == 1 {
            let area = self.size();
            match &mut self.pixels {
                Pixels::U8(values) => *values = tripled(values, area),
                Pixels::F32(values) => *values = tripled(values, area),
            }
            self.shape[0] = 3;
        }
        self
    }

    /// All images resized and cropped, and the name says so.
    pub(crate) fn prepared(
        mut self,
        reading: &Reading,
        place: &dyn fmt::Display,
    ) -> Result<Self, DatasetError> {
        let value = match &self.pixels {
            Pixels::U8(_) => 1,
            Pixels::F32(_) => 4,
        };
        reading.limit.check(place, self.len(), self.size() * value)?;
        if reading.keeps_images() {
            return Ok(self);
        }
        let [channels, height, width] = self.shape;
        let [new_width, new_height] = reading
            .size([width, height])
            .map_err(|problem| DatasetError::format(place, problem, "give another --resize or --crop"))?;
        reading.limit.check(place, self.len(), channels * new_width * new_height * value)?;
        let from = [width, height];
        match &mut self.pixels {
            Pixels::U8(values) => *values = prepared(values, self.labels.len(), from, reading),
            Pixels::F32(values) => *values = prepared(values, self.labels.len(), from, reading),
        }
        self.shape = [channels, new_height, new_width];
        self.name += &reading.to_string();
        Ok(self)
    }

    fn gather<T: Copy>(&self, values: &[T], indices: &[usize]) -> Vec<T> {
        indices.iter().flat_map(|&index| self.slice(values, index)).copied().collect()
    }

    fn slice<'a, T>(&self, values: &'a [T], index: usize) -> &'a [T] {
        let size = self.size();
        &values[index * size..(index + 1) * size]
    }
}

/// Each plane of `area` values three times.
fn tripled<T: Copy>(values: &[T], area: usize) -> Vec<T> {
    values.chunks_exact(area).flat_map(|plane| [plane; 3]).flatten().copied().collect()
}

/// All planes of `count` images, resized and cropped, image after image.
fn prepared<T: Value + Send + Sync>(
    values: &[T],
    count: usize,
    from: [usize; 2],
    reading: &Reading,
) -> Vec<T> {
    let images: Vec<Vec<T>> = values
        .par_chunks_exact(values.len() / count)
        .map(|planes| {
            let mut out = Vec::new();
            reading.prepare(planes, from, &mut out);
            out
        })
        .collect();
    images.concat()
}

impl fmt::Debug for Dataset {
    /// Everything but the pixels, of which there are millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("shape", &self.shape)
            .field("classes", &self.classes)
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|class| class.to_string()).collect()
    }

    fn three() -> Dataset {
        let pixels = Pixels::U8(vec![0, 51, 102, 153, 204, 255]);
        Dataset::new("three", [1, 1, 2], 3, names(3), pixels, vec![2, 0, 1]).unwrap()
    }

    #[test]
    fn bytes_become_fractions_of_one() {
        assert_eq!(three().image(1), [0.4, 0.6]);
        assert_eq!(three().images(&[2, 0]), [0.8, 1.0, 0.0, 0.2]);
    }

    #[test]
    fn take_and_select_keep_images_with_their_labels() {
        let two = three().take(2);
        assert_eq!((two.len(), two.images(&[0, 1])), (2, vec![0.0, 0.2, 0.4, 0.6]));
        assert_eq!(three().take(9), three());
        assert!(three().take(0).is_empty());
        let picked = three().select(&[2, 2, 0]);
        assert_eq!(picked.labels, [1, 1, 2]);
        assert_eq!(picked.images(&[0, 1, 2]), [0.8, 1.0, 0.8, 1.0, 0.0, 0.2]);
    }

    #[test]
    fn gray_becomes_three_equal_planes() {
        let colour = three().in_colour();
        assert_eq!(colour.shape, [3, 1, 2]);
        assert_eq!(colour.image(1), [0.4, 0.6, 0.4, 0.6, 0.4, 0.6]);
        assert_eq!(colour.clone().in_colour(), colour);
    }

    #[test]
    fn images_are_resized_and_the_name_says_so() {
        let reading = Reading { resize: "4x2".parse().ok(), crop: "2x1".parse().ok(), ..Reading::default() };
        let set = three().prepared(&reading, &"here").unwrap();
        assert_eq!((set.shape, set.name.as_str()), ([1, 1, 2], "three, resized to 4x2, cropped to 2x1"));
        // 0, 51 becomes 0, 13, 38, 51; the middle of that remains.
        assert_eq!(set.image(0), [13.0 / 255.0, 38.0 / 255.0]);
        let pixels = Pixels::F32(vec![0.0, 0.2]);
        let floats = Dataset::new("f", [1, 1, 2], 1, names(1), pixels, vec![0]).unwrap();
        let image = floats.prepared(&reading, &"here").unwrap().image(0);
        assert!((image[0] - 0.05).abs() < 1e-7 && (image[1] - 0.15).abs() < 1e-7, "{image:?}");
        let small = Reading { limit: crate::Limit(100), ..reading };
        let message = three().prepared(&small, &"here").unwrap_err().to_string();
        assert!(message.contains("here: 3 images of 2 bytes") && message.contains("100 bytes"), "{message}");
        let crop = Reading { crop: "3".parse().ok(), ..Reading::default() };
        let message = three().prepared(&crop, &"here").unwrap_err().to_string();
        assert!(message.contains("here: 2x1 pixels cannot be cropped to 3x3"), "{message}");
    }

    #[test]
    fn floats_are_kept_exactly() {
        let value = 0.123_456_7_f32;
        let set = Dataset::new("f", [1, 1, 1], 1, names(1), Pixels::F32(vec![value]), vec![0]).unwrap();
        assert_eq!(set.image(0), [value]);
    }

    #[test]
    fn every_bad_part_is_named() {
        let try_new = |shape, classes, pixels, labels| {
            Dataset::new("bad", shape, classes, names(2), pixels, labels).unwrap_err().to_string()
        };
        let two = || Pixels::U8(vec![0, 0]);
        let message = try_new([1, 1, 1], 2, two(), vec![]);
        assert!(message.starts_with("data set bad: no images"), "{message}");
        let message = try_new([1, 1, 1], 2, two(), vec![0, 2]);
        assert!(message.contains("image 1: label 2 is outside 0..=1"), "{message}");
        let message = try_new([1, 1, 1], 2, two(), vec![0]);
        assert!(message.contains("pixel values: found 2, expected 1"), "{message}");
        let message = try_new([1, 1, 1], 3, two(), vec![0, 1]);
        assert!(message.contains("class names: found 2, expected 3"), "{message}");
        let message = try_new([1, 0, 1], 2, two(), vec![0, 1]);
        assert!(message.contains("[1, 0, 1]"), "{message}");
        let message = try_new([usize::MAX, 2, 2], 2, two(), vec![0, 1]);
        assert!(message.contains("too many"), "{message}");
        for bad in [f32::NAN, f32::INFINITY, -0.001, 1.001] {
            let message = try_new([1, 1, 2], 2, Pixels::F32(vec![0.0, 1.0, 0.5, bad]), vec![0, 1]);
            assert!(message.contains("image 1, value 1: pixel value"), "{message}");
        }
    }

    #[test]
    fn debug_leaves_the_pixels_out() {
        assert!(format!("{:?}", three()).len() < 120);
    }
}
