//! `folder:PATH`: image files sorted into `PATH/{train,test}/CLASS/`.
//!
//! The classes are the folder names of both splits together, sorted, so that a class that lacks test images
//! does not shift the labels of the others. Images alternate between the classes (the first of each, the
//! second of each, ..), so that the first n images are not all of one class.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::decode::{Image, decode};
use crate::{Dataset, DatasetError, Pixels, Split};

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

pub(crate) fn load(folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let split_folder = folder.join(split.name());
    if !split_folder.is_dir() {
        return Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: format!("the folder {}", split_folder.display()),
            advice: format!("put the images at {}", split_folder.join("CLASS").join("IMAGE.png").display()),
        });
    }
    let class_names = classes(folder)?;
    let mut by_class = Vec::new();
    for name in &class_names {
        by_class.push(image_files(&split_folder.join(name))?);
    }
    let files = alternate(by_class);
    if files.is_empty() {
        return Err(DatasetError::Empty {
            place: split_folder.display().to_string(),
            advice: format!("put .{} files into one folder per class", EXTENSIONS.join(", .")),
        });
    }

    let images: Vec<Result<Image, DatasetError>> = files.par_iter().map(|(path, _)| open(path)).collect();
    let images = images.into_iter().collect::<Result<Vec<_>, _>>()?;
    let (height, width) = (images[0].height, images[0].width);
    for (image, (path, _)) in images.iter().zip(&files) {
        if (image.height, image.width) != (height, width) {
            return Err(DatasetError::ImageSize {
                place: path.display().to_string(),
                found: image.size(),
                expected: format!("{} like {}", images[0].size(), files[0].0.display()),
            });
        }
    }
    let channels = images.iter().map(|image| image.channels).max().unwrap_or(1);
    let size = channels * height * width;
    let mut pixels = vec![0; images.len() * size];
    pixels.par_chunks_exact_mut(size).zip(&images).for_each(|(planes, image)| image.write_planes(planes));

    Dataset::at(
        &split_folder.display().to_string(),
        folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy(),
        [channels, height, width],
        class_names.len(),
        class_names,
        Pixels::U8(pixels),
        files.into_iter().map(|(_, label)| label).collect(),
    )
}

fn open(path: &Path) -> Result<Image, DatasetError> {
    let bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    decode(&bytes)
        .map_err(|problem| DatasetError::format(path.display(), problem, "repair or remove the file"))
}

/// The names of the class folders of both splits, sorted.
fn classes(folder: &Path) -> Result<Vec<String>, DatasetError> {
    let mut names = Vec::new();
    for split in Split::ALL {
        let folder = folder.join(split.name());
        if folder.is_dir() {
            names.extend(entries(&folder)?.into_iter().filter(|name| folder.join(name).is_dir()));
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// The images of a class, sorted by name; none when the split lacks the class.
fn image_files(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let files = entries(folder)?.into_iter().map(|name| folder.join(name));
    Ok(files.filter(|path| is_image(path) && path.is_file()).collect())
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
}

/// The names in a folder, sorted, without hidden ones (`.DS_Store`, `.ipynb_checkpoints`).
fn entries(folder: &Path) -> Result<Vec<String>, DatasetError> {
    let unreadable = |error| DatasetError::read(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let name = entry.map_err(unreadable)?.file_name();
        match name.to_str() {
            Some(name) if name.starts_with('.') => {}
            Some(name) => names.push(name.to_owned()),
            None => {
                return Err(DatasetError::format(
                    folder.join(name).display(),
                    "the name is not valid Unicode",
                    "rename it",
                ));
            }
        }
    }
    names.sort();
    Ok(names)
}

/// The first file of every class, then the second of every class, and so on, each with its label.
fn alternate(by_class: Vec<Vec<PathBuf>>) -> Vec<(PathBuf, usize)> {
    let mut files: Vec<(usize, usize, PathBuf)> = Vec::new();
    for (label, paths) in by_class.into_iter().enumerate() {
        files.extend(paths.into_iter().enumerate().map(|(turn, path)| (turn, label, path)));
    }
    files.sort();
    files.into_iter().map(|(_, label, path)| (path, label)).collect()
}
