//! Image data sets: bytes to (images, labels).
//!
//! A [`Source`] says where the bytes are (`digits`, `cifar10:PATH`, ..) and [`Source::load`] turns one
//! [`Split`] of it into a [`Dataset`]: all images in memory, checked once, of one shape `[C, H, W]`, each
//! pixel in `[0, 1]`. Whoever holds a `Dataset` therefore need not check anything again. Files come from
//! users, so everything wrong with them is a [`DatasetError`] whose message is one line that says what is
//! wrong, where, and what to do; what is not wrong but worth knowing is in [`Dataset::notes`]. [`Reading`] resizes and
//! crops, and [bounds](Limit) the memory that images may take. Nothing is downloaded. [`write_npz`] goes the other way: it saves images
//! for NumPy, and `npz:PATH` reads them back.
//!
//! ```
//! use equipoise_dataset::{Source, Split};
//!
//! let source: Source = "digits".parse()?;
//! let test = source.load(Split::Test)?.take(32);
//! assert_eq!(test.shape, [1, 8, 8]);
//! assert_eq!(test.images(&[0, 1]).len(), 2 * 64);
//! # Ok::<(), equipoise_dataset::DatasetError>(())
//! ```

mod cifar;
mod cifar_bin;
mod cifar_python;
mod dataset;
mod decode;
mod digits;
mod error;
mod folder;
mod idx;
mod known;
mod limit;
mod mnist;
mod npz;
mod parquet_images;
mod pickle;
mod reading;
mod resample;
mod shards;
mod source;
mod survey;
mod svhn;
mod write_npz;

pub use dataset::{Dataset, Pixels};
pub use error::DatasetError;
pub use limit::Limit;
pub use parquet_images::expects_panic;
pub use reading::{Crop, Layout, Reading, Resize};
pub use source::{Source, Split};
pub use write_npz::{NpyArray, write_npz};
