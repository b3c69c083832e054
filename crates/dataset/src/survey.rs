//! What lies below the folder of a split: images by class, images that are not read, and everything else.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::DatasetError;
use crate::decode::{Format, MAGIC_LENGTH};

/// The endings of images that are read, in lower case: those of torchvision.
pub(crate) const ENDINGS: [&str; 9] = ["png", "jpg", "jpeg", "bmp", "ppm", "pgm", "tif", "tiff", "webp"];

/// Endings of images that are not read.
const UNREAD: [&str; 38] = [
    "apng", "arw", "avif", "cr2", "cr3", "cur", "dcm", "dds", "dng", "exr", "gif", "hdr", "heic", "heif",
    "icns", "ico", "j2k", "jfif", "jif", "jp2", "jpe", "jpx", "jxl", "nef", "orf", "pam", "pbm", "pcx",
    "pfm", "pnm", "psd", "qoi", "raw", "sgi", "svg", "tga", "xbm", "xpm",
];

/// Every file below a folder.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    folder: PathBuf,
    /// By class, each class in torchvision's order: by folder, then by name.
    pub images: BTreeMap<String, Vec<PathBuf>>,
    /// Images in the folder itself, which have no class.
    loose: Vec<String>,
    /// Images of kinds that are not read, or whose ending does not say that they are images.
    unread: Vec<String>,
    /// What is no image: texts, hidden files and folders, archives.
    others: Vec<String>,
}

/// What a file is by its name, and where that says nothing by its first bytes.
enum Kind {
    Image,
    UnreadImage,
    Other,
}

impl Survey {
    /// Looks at everything below the folder of a split.
    pub fn of(folder: &Path) -> Result<Self, DatasetError> {
        let mut survey = Self { folder: folder.to_owned(), ..Self::default() };
        let mut classes = Vec::new();
        for (name, is_folder) in entries(folder)? {
            match is_folder {
                true if name.starts_with('.') => survey.others.push(name + "/"),
                true => classes.push(name),
                false => match kind(&folder.join(&name))? {
                    Kind::Image => survey.loose.push(name),
                    Kind::UnreadImage => survey.unread.push(name),
                    Kind::Other => survey.others.push(name),
                },
            }
        }
        for class in classes {
            let mut images = Vec::new();
            survey.descend(&folder.join(&class), &class, &mut Vec::new(), &mut images)?;
            // As Python sorts: by the text of the folder's path, then by name.
            images.sort();
            if !images.is_empty() {
                let paths = images.into_iter().map(|(below, name)| folder.join(below).join(name)).collect();
                survey.images.insert(class, paths);
            }
        }
        Ok(survey)
    }

    fn descend(
        &mut self,
        folder: &Path,
        below: &str,
        above: &mut Vec<PathBuf>,
        images: &mut Vec<(String, String)>,
    ) -> Result<(), DatasetError> {
        enter(folder, above)?;
        for (name, is_folder) in entries(folder)? {
            let (path, shown) = (folder.join(&name), format!("{below}/{name}"));
            match is_folder {
                true if name.starts_with('.') => self.others.push(shown + "/"),
                true => self.descend(&path, &shown, above, images)?,
                false => match kind(&path)? {
                    Kind::Image => images.push((below.to_owned(), name)),
                    Kind::UnreadImage => self.unread.push(shown),
                    Kind::Other => self.others.push(shown),
                },
            }
        }
        above.pop();
        Ok(())
    }

    /// Images that would be passed over are an error: without them it is another data set.
    pub fn refuse_unread(&self) -> Result<(), DatasetError> {
        if self.unread.is_empty() {
            return Ok(());
        }
        let count = self.unread.len();
        Err(DatasetError::format(
            self.folder.display(),
            format!(
                "{count} {} not read because of {} kind or ending: {}",
                if count == 1 { "image is" } else { "images are" },
                if count == 1 { "its" } else { "their" },
                counted(&self.unread)
            ),
            format!("convert them to one of .{}, or remove them", ENDINGS.join(", .")),
        ))
    }

    /// What was not read, counted and named.
    pub fn notes(&self) -> Vec<String> {
        let note = |names: &[String], one: &str, many: &str| {
            let what = if names.len() == 1 { one } else { many };
            (!names.is_empty())
                .then(|| format!("{}: {} {what}: {}", self.folder.display(), names.len(), counted(names)))
        };
        let loose = note(
            &self.loose,
            "image lies in no folder of a class and was not read",
            "images lie in no folder of a class and were not read",
        );
        let others =
            note(&self.others, "file is no image and was not read", "files are no images and were not read");
        loose.into_iter().chain(others).collect()
    }
}

/// Up to five names, and how many more there are.
pub(crate) fn counted(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(5) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The names of the folders in a folder, sorted, without hidden ones.
pub(crate) fn folders(folder: &Path) -> Result<Vec<String>, DatasetError> {
    let folders =
        entries(folder)?.into_iter().filter(|(name, is_folder)| *is_folder && !name.starts_with('.'));
    Ok(folders.map(|(name, _)| name).collect())
}

/// Whether an image lies somewhere below a folder, of a kind that is read or not.
pub(crate) fn has_image(folder: &Path) -> Result<bool, DatasetError> {
    fn search(folder: &Path, above: &mut Vec<PathBuf>) -> Result<bool, DatasetError> {
        enter(folder, above)?;
        let mut below = Vec::new();
        for (name, is_folder) in entries(folder)? {
            let path = folder.join(&name);
            match is_folder {
                true if name.starts_with('.') => {}
                true => below.push(path),
                false if !matches!(kind(&path)?, Kind::Other) => return Ok(true),
                false => {}
            }
        }
        for folder in below {
            if search(&folder, above)? {
                return Ok(true);
            }
        }
        above.pop();
        Ok(false)
    }
    search(folder, &mut Vec::new())
}

/// Adds a folder to those above what comes next; a link to one of them would never end.
fn enter(folder: &Path, above: &mut Vec<PathBuf>) -> Result<(), DatasetError> {
    let real = folder.canonicalize().map_err(|error| DatasetError::read(folder, error))?;
    if above.contains(&real) {
        return Err(DatasetError::format(
            folder.display(),
            format!("a link leads in a circle, to {}", real.display()),
            "remove the link",
        ));
    }
    above.push(real);
    Ok(())
}

fn kind(path: &Path) -> Result<Kind, DatasetError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // `.DS_Store`, and the shadows (`._1.png`) that macOS leaves of images.
    if name.starts_with('.') {
        return Ok(Kind::Other);
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    if ENDINGS.contains(&ending.as_str()) {
        return Ok(Kind::Image);
    }
    if UNREAD.contains(&ending.as_str()) {
        return Ok(Kind::UnreadImage);
    }
    // A pipe would wait for somebody to write.
    if !path.is_file() {
        return Ok(Kind::Other);
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAGIC_LENGTH as u64).read_to_end(&mut start));
    read.map_err(|error| DatasetError::read(path, error))?;
    Ok(if Format::of(&start).is_some() { Kind::UnreadImage } else { Kind::Other })
}

/// The names in a folder, sorted, and whether each is a folder.
fn entries(folder: &Path) -> Result<Vec<(String, bool)>, DatasetError> {
    let unreadable = |error| DatasetError::read(folder, error);
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        match entry.file_name().into_string() {
            // Links count as what they lead to.
            Ok(name) => names.push((name, entry.path().is_dir())),
            Err(name) => {
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
