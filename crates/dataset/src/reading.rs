//! How images are read: resized and cropped as torchvision's `Resize` and `CenterCrop` do, and the layout of arrays.

use std::fmt;
use std::str::FromStr;

use crate::decode::MAX_PIXELS;
use crate::resample::{Value, resampled};
use crate::{DatasetError, Limit};

/// The largest side that images are resized to.
const MAX_SIDE: usize = 16_384;

/// What is done to images between their files and the data set. The default does nothing.
///
/// ```
/// use equipoise_dataset::{Reading, Source, Split};
///
/// let reading = Reading { resize: Some("12".parse()?), crop: Some("8x10".parse()?), ..Reading::default() };
/// let test = Source::Digits.load_with(Split::Test, &reading)?;
/// assert_eq!(test.shape, [1, 10, 8]);
/// assert_eq!(test.name, "Digits, shorter side resized to 12, cropped to 8x10");
/// # Ok::<(), equipoise_dataset::DatasetError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The size that images are resized to, before they are cropped.
    pub resize: Option<Resize>,
    /// The size of the part that is cut out of the middle.
    pub crop: Option<Crop>,
    /// Where the channels of the arrays of `npz:PATH` are; where their shape does not say, it must be given.
    pub layout: Option<Layout>,
    /// How much memory the images may take.
    pub limit: Limit,
}

/// A size to resize to, by bilinear interpolation over the area that a new pixel covers: Pillow's `BILINEAR`, with
/// antialiasing where the image shrinks. Written `N` or `WxH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side gets this length, and the other keeps its proportion (rounded down).
    Shorter(usize),
    /// Both sides get a length, whatever the proportions were.
    Exact {
        /// Pixels in a row.
        width: usize,
        /// Rows.
        height: usize,
    },
}

/// A part in the middle of an image, in pixels. Written `N` (a square) or `WxH`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crop {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// Where the channels of an array of images are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Before the rows, as in PyTorch: [N, C, H, W].
    Nchw,
    /// After the columns, as in image files: [N, H, W, C].
    Nhwc,
}

impl Reading {
    /// Whether images are left as they are.
    pub(crate) fn keeps_images(&self) -> bool {
        self.resize.is_none() && self.crop.is_none()
    }

    /// The size, [width, height], that an image of this size gets. The error says what is wrong.
    pub(crate) fn size(&self, [width, height]: [usize; 2]) -> Result<[usize; 2], String> {
        let resized = self.resized([width, height]);
        // The image itself, and what it is after its rows are resized.
        for [width, height] in [resized, [resized[0], height]] {
            if width.saturating_mul(height) > MAX_PIXELS {
                return Err(format!("resizing needs {width}x{height} pixels, more than {MAX_PIXELS}"));
            }
        }
        match self.crop {
            Some(crop) if crop.width > resized[0] || crop.height > resized[1] => {
                Err(format!("{}x{} pixels cannot be cropped to {crop}", resized[0], resized[1]))
            }
            Some(crop) => Ok([crop.width, crop.height]),
            None => Ok(resized),
        }
    }

    fn resized(&self, [width, height]: [usize; 2]) -> [usize; 2] {
        match self.resize {
            None => [width, height],
            Some(Resize::Exact { width, height }) => [width, height],
            Some(Resize::Shorter(side)) if width <= height => [side, side * height / width.max(1)],
            Some(Resize::Shorter(side)) => [side * width / height.max(1), side],
        }
    }

    /// Planes of `from` = [width, height] to planes of [`Reading::size`], appended to `out`.
    pub(crate) fn prepare<T: Value>(&self, planes: &[T], from: [usize; 2], out: &mut Vec<T>) {
        let resized = self.resized(from);
        for plane in planes.chunks_exact(from[0] * from[1]) {
            let plane = resampled(plane, from, resized);
            match self.crop {
                None => out.extend_from_slice(&plane),
                Some(Crop { width, height }) => {
                    let (left, top) = (middle(resized[0], width), middle(resized[1], height));
                    for row in plane.chunks_exact(resized[0]).skip(top).take(height) {
                        out.extend_from_slice(&row[left..left + width]);
                    }
                }
            }
        }
    }
}

/// Where a crop begins: half of what is left over, rounded half to even as Python does.
fn middle(whole: usize, part: usize) -> usize {
    ((whole - part) as f64 / 2.0).round_ties_even() as usize
}

impl fmt::Display for Reading {
    /// What follows the name of a data set: `, resized to 32x32, cropped to 28x28`. Empty where images are kept.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.resize {
            Some(Resize::Shorter(side)) => write!(f, ", shorter side resized to {side}")?,
            Some(exact) => write!(f, ", resized to {exact}")?,
            None => {}
        }
        match self.crop {
            Some(crop) => write!(f, ", cropped to {crop}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shorter(side) => write!(f, "{side}"),
            Self::Exact { width, height } => write!(f, "{width}x{height}"),
        }
    }
}

impl fmt::Display for Crop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nchw => "nchw",
            Self::Nhwc => "nhwc",
        })
    }
}

impl FromStr for Resize {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        match sides(text)? {
            (side, None) => Ok(Self::Shorter(side)),
            (width, Some(height)) => Ok(Self::Exact { width, height }),
        }
    }
}

impl FromStr for Crop {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        let (width, height) = sides(text)?;
        Ok(Self { width, height: height.unwrap_or(width) })
    }
}

impl FromStr for Layout {
    type Err = DatasetError;

    fn from_str(text: &str) -> Result<Self, DatasetError> {
        match text.to_ascii_lowercase().as_str() {
            "nchw" => Ok(Self::Nchw),
            "nhwc" => Ok(Self::Nhwc),
            _ => Err(DatasetError::UnknownReading {
                text: text.to_owned(),
                form: "nchw (channels before rows, as in PyTorch) or nhwc (channels last)",
            }),
        }
    }
}

/// `N` or `WxH`.
fn sides(text: &str) -> Result<(usize, Option<usize>), DatasetError> {
    let wrong = || DatasetError::UnknownReading {
        text: text.to_owned(),
        form: "one number or WIDTHxHEIGHT, such as 32 or 40x32, of at most 16384 pixels",
    };
    let side = |text: &str| match text.parse() {
        Ok(side @ 1..=MAX_SIDE) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(side),
        _ => Err(wrong()),
    };
    match text.split_once(['x', 'X']) {
        None => Ok((side(text)?, None)),
        Some((width, height)) => Ok((side(width)?, Some(side(height)?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(resize: &str, crop: &str) -> Reading {
        let of = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Reading {
            resize: of(resize).map(|text| text.parse().unwrap()),
            crop: of(crop).map(|text| text.parse().unwrap()),
            ..Reading::default()
        }
    }

    #[test]
    fn sizes_are_those_of_torchvision() {
        for (resize, crop, from, to) in [
            ("32", "", [40, 36], [35, 32]),
            ("32", "", [36, 40], [32, 35]),
            ("32", "", [28, 28], [32, 32]),
            ("32x24", "", [40, 36], [32, 24]),
            ("32", "32", [40, 36], [32, 32]),
            ("", "30x20", [40, 36], [30, 20]),
            ("", "", [40, 36], [40, 36]),
        ] {
            assert_eq!(reading(resize, crop).size(from).unwrap(), to, "{resize} {crop} {from:?}");
        }
        let message = reading("32", "33").size([40, 36]).unwrap_err();
        assert!(message.contains("35x32 pixels cannot be cropped to 33x33"), "{message}");
    }

    #[test]
    fn the_middle_is_cut_out_rounded_half_to_even() {
        let plane: Vec<u8> = (0..5).collect();
        let crop = |width| {
            let mut out = Vec::new();
            reading("", &format!("{width}x1")).prepare(&plane, [5, 1], &mut out);
            out
        };
        // (5 - 4) / 2 = 0.5 goes to 0, (5 - 2) / 2 = 1.5 to 2.
        assert_eq!((crop(4), crop(3), crop(2)), (vec![0, 1, 2, 3], vec![1, 2, 3], vec![2, 3]));
    }

    #[test]
    fn sizes_and_layouts_are_read_and_written_alike() {
        for text in ["32", "40x32"] {
            assert_eq!(text.parse::<Resize>().unwrap().to_string(), text);
        }
        assert_eq!("28".parse::<Crop>().unwrap().to_string(), "28x28");
        assert_eq!("NHWC".parse::<Layout>().unwrap().to_string(), "nhwc");
        assert_eq!(reading("32", "28").to_string(), ", shorter side resized to 32, cropped to 28x28");
        assert_eq!(reading("40x32", "").to_string(), ", resized to 40x32");
        assert_eq!(Reading::default().to_string(), "");
        for text in ["", "0", "x", "32x", "32x0", "-1", "+5", "3.5", "1000000", "32x32x3"] {
            let message = text.parse::<Resize>().unwrap_err().to_string();
            assert!(message.contains(&format!("\"{text}\"")) && message.contains("40x32"), "{message}");
            assert!(text.parse::<Crop>().is_err(), "{text}");
        }
        assert!("hwc".parse::<Layout>().unwrap_err().to_string().contains("nchw"));
    }
}
