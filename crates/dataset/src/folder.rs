//! `folder:PATH`: image files sorted into `PATH/{train,test}/CLASS/`, read as torchvision's `ImageFolder` does.
//!
//! A class is a folder with an image somewhere below it. The classes are those of the training split, sorted, so that
//! labels mean in both splits what a model learned; without a training split they are those of the split itself.
//! Images alternate between the classes (the first of each, the second of each, ..), so that the first n images are
//! not all of one class. Nothing is passed over in silence: images that cannot be read are an error, and everything
//! else that is not read is named in a note.

use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::decode::{Image, Undecoded, decode};
use crate::survey::{ENDINGS, Survey, counted, folders, has_image};
use crate::{Dataset, DatasetError, Pixels, Reading, Split};

pub(crate) fn load(folder: &Path, split: Split, reading: &Reading) -> Result<Dataset, DatasetError> {
    let split_folder = folder.join(split.name());
    if !split_folder.is_dir() {
        return Err(DatasetError::Missing {
            place: folder.display().to_string(),
            missing: format!("the folder {}", split_folder.display()),
            advice: format!("put the images at {}", split_folder.join("CLASS").join("IMAGE.png").display()),
        });
    }
    let mut notes = Vec::new();
    let class_names = classes(folder, split, &mut notes)?;
    let survey = Survey::of(&split_folder)?;
    survey.refuse_unread()?;
    notes.extend(survey.notes());
    let files = labelled(&survey, &class_names, folder, split)?;
    if files.is_empty() {
        return Err(DatasetError::Empty {
            place: split_folder.display().to_string(),
            advice: format!("put .{} files into one folder per class", ENDINGS.join(", .")),
        });
    }
    let (shape, pixels) = images(&split_folder, &files, reading)?;
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy();
    let mut set = Dataset::at(
        &split_folder.display().to_string(),
        format!("{name}{reading}"),
        shape,
        class_names.len(),
        class_names,
        Pixels::U8(pixels),
        files.into_iter().map(|(_, label)| label).collect(),
    )?;
    set.notes = notes;
    Ok(set)
}

/// The names of the classes, sorted: of the training split when there is one.
fn classes(folder: &Path, split: Split, notes: &mut Vec<String>) -> Result<Vec<String>, DatasetError> {
    let training = folder.join(Split::Train.name());
    let source = if training.is_dir() { training } else { folder.join(split.name()) };
    if split == Split::Test && source == folder.join(split.name()) {
        notes.push(format!(
            "{}: there is no folder train, so that the classes are numbered by those of test: a model must have been \
             trained on the same ones",
            folder.display()
        ));
    }
    let (mut classes, mut empty) = (Vec::new(), Vec::new());
    for name in folders(&source)? {
        match has_image(&source.join(&name))? {
            true => classes.push(name),
            false => empty.push(name),
        }
    }
    if !empty.is_empty() {
        let what = match empty.len() {
            1 => "1 folder without images, which is no class".to_owned(),
            count => format!("{count} folders without images, which are no classes"),
        };
        notes.push(format!("{}: {what}: {}", source.display(), counted(&empty)));
    }
    Ok(classes)
}

/// Every image with its label, in turns.
fn labelled(
    survey: &Survey,
    class_names: &[String],
    folder: &Path,
    split: Split,
) -> Result<Vec<(PathBuf, usize)>, DatasetError> {
    let mut files: Vec<(usize, usize, PathBuf)> = Vec::new();
    for (class, images) in &survey.images {
        let label = class_names.binary_search(class).map_err(|_| {
            DatasetError::format(
                folder.join(split.name()).join(class).display(),
                format!("the training split has no class {class}"),
                format!(
                    "its classes are {}; move these {} images elsewhere",
                    class_names.join(", "),
                    images.len()
                ),
            )
        })?;
        files.extend(images.iter().enumerate().map(|(turn, path)| (turn, label, path.clone())));
    }
    files.sort();
    Ok(files.into_iter().map(|(_, label, path)| (path, label)).collect())
}

/// The shape of all images, and their planes. Each is prepared as soon as it is decoded, so that memory holds what
/// the data set will.
fn images(
    place: &Path,
    files: &[(PathBuf, usize)],
    reading: &Reading,
) -> Result<([usize; 3], Vec<u8>), DatasetError> {
    // All are as large as the first: what they take is known before the others are decoded.
    let first = open(&files[0].0, reading, None)?;
    let (height, width) = (first.height, first.width);
    reading.limit.check(place.display(), files.len(), first.channels * height * width)?;
    let like = Like { size: [width, height], path: &files[0].0 };
    let others: Vec<Result<Image, DatasetError>> =
        files[1..].par_iter().map(|(path, _)| open(path, reading, Some(like))).collect();
    let others = others.into_iter().collect::<Result<Vec<_>, _>>()?;
    let images: Vec<Image> = std::iter::once(first).chain(others).collect();
    let channels = images.iter().map(|image| image.channels).max().unwrap_or(1);
    let size = channels * height * width;
    reading.limit.check(place.display(), files.len(), size)?;
    let mut pixels = vec![0; images.len() * size];
    pixels.par_chunks_exact_mut(size).zip(&images).for_each(|(planes, image)| image.write_planes(planes));
    Ok(([channels, height, width], pixels))
}

/// The size that every image must have, and one that has it.
#[derive(Clone, Copy)]
struct Like<'a> {
    /// Width and height, after resizing and cropping.
    size: [usize; 2],
    path: &'a Path,
}

impl Like<'_> {
    /// An image that has, or would get, another size.
    fn refuse(self, path: &Path, [width, height]: [usize; 2], reading: &Reading) -> DatasetError {
        let [expected_width, expected_height] = self.size;
        DatasetError::format(
            path.display(),
            format!(
                "the image is {width}x{height} pixels, expected {expected_width}x{expected_height} like {} (sizes are \
                 width x height{})",
                self.path.display(),
                if reading.resize.is_some() { ", after resizing" } else { "" }
            ),
            "bring all to one size with --resize WxH, or --resize N and --crop N",
        )
    }
}

fn open(path: &Path, reading: &Reading, like: Option<Like<'_>>) -> Result<Image, DatasetError> {
    let bytes = fs::read(path).map_err(|error| DatasetError::read(path, error))?;
    let size = like.filter(|_| reading.keeps_images()).map(|like| like.size);
    let image = decode(&bytes, size).map_err(|problem| match (problem, like) {
        (Undecoded::Size(found), Some(like)) => like.refuse(path, found, reading),
        (Undecoded::Size(_), None) => unreachable!("no size is expected of the first image"),
        (Undecoded::Damaged(problem), _) => {
            DatasetError::format(path.display(), problem, "repair or remove the file")
        }
    })?;
    if reading.keeps_images() {
        return Ok(image);
    }
    let from = [image.width, image.height];
    let [width, height] = reading.size(from).map_err(|problem| {
        DatasetError::format(path.display(), problem, "give another --resize or --crop, or remove the file")
    })?;
    if let Some(like) = like.filter(|like| like.size != [width, height]) {
        return Err(like.refuse(path, [width, height], reading));
    }
    let mut planes = Vec::with_capacity(width * height * image.channels);
    reading.prepare(&image.planes, from, &mut planes);
    Ok(Image { width, height, channels: image.channels, planes })
}
