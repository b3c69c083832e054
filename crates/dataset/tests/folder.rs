//! `folder:PATH`.

mod common;

use std::fs;
use std::path::Path;

use common::*;
use equipoise_dataset::{Reading, Source, Split};
use png::ColorType;
use tempfile::{TempDir, tempdir};

fn put(folder: &TempDir, path: &str, content: impl AsRef<[u8]>) {
    let path = folder.path().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn source(folder: &TempDir) -> Source {
    Source::Folder(folder.path().into())
}

fn gray(value: u8) -> Vec<u8> {
    png(2, 3, ColorType::Grayscale, &[value; 6])
}

#[test]
fn classes_are_sorted_and_images_alternate() {
    let folder = tempdir().unwrap();
    put(&folder, "train/cat/a.png", gray(1));
    put(&folder, "train/cat/b.PNG", gray(2));
    put(&folder, "train/ant/z.png", gray(3));
    put(&folder, "train/dog/a.png", gray(9));
    put(&folder, "test/dog/a.png", gray(4));
    let train = source(&folder).load(Split::Train).unwrap();
    assert_eq!((train.shape, train.class_names.join(" ").as_str()), ([1, 3, 2], "ant cat dog"));
    assert_eq!(train.labels, [0, 1, 2, 1]);
    assert_eq!(bytes(&train), [[3; 6], [1; 6], [9; 6], [2; 6]].concat());
    assert_eq!(train.notes, [""; 0]);
    // A class that a split lacks keeps its number.
    let test = source(&folder).load(Split::Test).unwrap();
    assert_eq!((test.labels.as_slice(), test.class_names.len()), (&[2][..], 3));
}

#[test]
fn labels_follow_the_training_split() {
    let folder = tempdir().unwrap();
    put(&folder, "train/cat/a.png", gray(1));
    put(&folder, "train/dog/a.png", gray(1));
    put(&folder, "test/bee/a.png", gray(1));
    put(&folder, "test/bee/b.png", gray(1));
    put(&folder, "test/dog/a.png", gray(1));
    says(
        &failure(&source(&folder), Split::Test),
        &["test/bee: the training split has no class bee", "cat, dog", "these 2 images"],
    );
    fs::remove_dir_all(folder.path().join("test/bee")).unwrap();
    assert_eq!(source(&folder).load(Split::Test).unwrap().labels, [1]);
    // Names differ in case.
    fs::rename(folder.path().join("test/dog"), folder.path().join("test/Dog")).unwrap();
    says(&failure(&source(&folder), Split::Test), &["no class Dog", "cat, dog"]);
    // Without a training split the classes are those of the split, and that is said.
    fs::remove_dir_all(folder.path().join("train")).unwrap();
    let test = source(&folder).load(Split::Test).unwrap();
    assert_eq!((test.labels.as_slice(), test.class_names.join(" ").as_str()), (&[0][..], "Dog"));
    says(&test.notes.join(";"), &["there is no folder train", "numbered by those of test"]);
}

#[test]
fn folders_below_a_class_are_read_in_torchvisions_order() {
    let folder = tempdir().unwrap();
    // By folder as text ("a-b" before "a/z", because '-' is before '/'), then by name.
    for (value, path) in ["cat/z.png", "cat/a-b/2.png", "cat/a/1.png", "cat/a/deep/er/0.png", "cat/b/1.png"]
        .into_iter()
        .enumerate()
    {
        put(&folder, &format!("train/{path}"), gray(value as u8));
    }
    let train = source(&folder).load(Split::Train).unwrap();
    let values: Vec<u8> = bytes(&train).chunks(6).map(|image| image[0]).collect();
    assert_eq!(values, [0, 2, 1, 3, 4]);
    assert_eq!(train.class_names, ["cat"]);
    assert_eq!(train.notes, [""; 0]);
}

#[test]
fn folders_without_images_are_no_classes() {
    let folder = tempdir().unwrap();
    for split in ["train", "test"] {
        put(&folder, &format!("{split}/cat/a.png"), gray(1));
        put(&folder, &format!("{split}/dog/a.png"), gray(1));
        put(&folder, &format!("{split}/__MACOSX/cat/._a.png"), "a shadow of macOS");
        put(&folder, &format!("{split}/.ipynb_checkpoints/a.png"), gray(1));
        fs::create_dir_all(folder.path().join(split).join("ant/deep")).unwrap();
    }
    for split in Split::ALL {
        let set = source(&folder).load(split).unwrap();
        assert_eq!((set.class_names.join(" ").as_str(), set.labels.as_slice()), ("cat dog", &[0, 1][..]));
        let notes = set.notes.join(";");
        says(&notes, &["2 folders without images, which are no classes: __MACOSX, ant"]);
        says(&notes, &["2 files are no images and were not read: .ipynb_checkpoints/, __MACOSX/cat/._a.png"]);
    }
}

#[test]
fn files_that_are_no_images_are_counted_and_named() {
    let folder = tempdir().unwrap();
    put(&folder, "train/cat/a.png", gray(1));
    put(&folder, "train/cat/Thumbs.db", "no image");
    for name in
        ["labels.csv", "cat/a.json", "cat/.DS_Store", "cat/more/notes.txt", "cat/empty", "cat/BMI of cats"]
    {
        put(&folder, &format!("train/{name}"), "BM is how this text begins");
    }
    fs::write(folder.path().join("train/cat/empty"), "").unwrap();
    put(&folder, "train/loose.png", gray(1));
    let train = source(&folder).load(Split::Train).unwrap();
    assert_eq!(train.len(), 1);
    let notes = train.notes.join(";");
    says(&notes, &["7 files are no images and were not read: labels.csv", "cat/.DS_Store", " and 2 more"]);
    says(&notes, &["1 image lies in no folder of a class and was not read: loose.png"]);
}

#[test]
fn images_that_would_be_passed_over_are_an_error() {
    let folder = tempdir().unwrap();
    put(&folder, "train/cat/a.png", gray(1));
    put(&folder, "train/cat/b.gif", "GIF89a");
    put(&folder, "train/dog/deep/c.HEIC", "whatever");
    // Images by their contents, whatever their ending says.
    put(&folder, "train/dog/d", gray(1));
    put(&folder, "train/dog/e.jpeg.part", fs::read(fixture("gray.jpg")).unwrap());
    let message = failure(&source(&folder), Split::Train);
    says(
        &message,
        &["4 images are not read", "cat/b.gif, dog/d, dog/deep/c.HEIC, dog/e.jpeg.part", "convert"],
    );
}

#[test]
fn images_of_other_sizes_are_resized_and_cropped() {
    let folder = tempdir().unwrap();
    put(&folder, "train/a/1.png", png(8, 4, ColorType::Grayscale, &[200; 32]));
    put(&folder, "train/a/2.png", plain_png(6, 9, [10, 20, 30]));
    let read = |resize: &str, crop: &str| {
        let of = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let reading = Reading {
            resize: of(resize).map(|text| text.parse().unwrap()),
            crop: of(crop).map(|text| text.parse().unwrap()),
            ..Reading::default()
        };
        source(&folder).load_with(Split::Train, &reading)
    };
    says(&failure(&source(&folder), Split::Train), &["2.png: the image is 6x9", "8x4 like", "--resize WxH"]);
    let set = read("5x3", "").unwrap();
    assert_eq!(set.shape, [3, 3, 5]);
    says(&set.name, &[", resized to 5x3"]);
    assert_eq!(bytes(&set)[..45], [200; 45]);
    assert_eq!(bytes(&set)[45..], [[10; 15], [20; 15], [30; 15]].concat());
    let set = read("4", "4").unwrap();
    assert_eq!(set.shape, [3, 4, 4]);
    says(&set.name, &[", shorter side resized to 4, cropped to 4x4"]);
    says(
        &read("4", "").unwrap_err().to_string(),
        &["2.png: the image is 4x6", "expected 8x4", "after resizing"],
    );
    says(
        &read("", "7").unwrap_err().to_string(),
        &["1.png: 8x4 pixels cannot be cropped to 7x7", "--resize"],
    );
    let reading = Reading { layout: "nchw".parse().ok(), ..Reading::default() };
    let message = source(&folder).load_with(Split::Train, &reading).unwrap_err().to_string();
    says(&message, &["--layout nchw is for the arrays of npz"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_circles_are_refused() {
    let folder = tempdir().unwrap();
    put(&folder, "elsewhere/a.png", gray(1));
    fs::create_dir_all(folder.path().join("train")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), folder.path().join("train/cat")).unwrap();
    assert_eq!(source(&folder).load(Split::Train).unwrap().class_names, ["cat"]);
    std::os::unix::fs::symlink(folder.path().join("train"), folder.path().join("elsewhere/back")).unwrap();
    says(&failure(&source(&folder), Split::Train), &["a link leads in a circle"]);
}

#[test]
fn one_colour_image_makes_all_of_them_colour() {
    let folder = tempdir().unwrap();
    put(&folder, "train/a/1.png", gray(9));
    put(&folder, "train/a/2.png", plain_png(2, 3, [1, 2, 3]));
    put(&folder, "train/a/3.png", png(2, 3, ColorType::Rgba, &[4, 5, 6, 255].repeat(6)));
    let train = source(&folder).load(Split::Train).unwrap();
    assert_eq!(train.shape, [3, 3, 2]);
    let planes = |colour: [u8; 3]| colour.map(|value| [value; 6]).concat();
    assert_eq!(bytes(&train), [planes([9; 3]), planes([1, 2, 3]), planes([4, 5, 6])].concat());
}

#[test]
fn jpeg_values_are_those_of_libjpeg_within_rounding() {
    let folder = tempdir().unwrap();
    put(&folder, "train/a/1.jpg", fs::read(fixture("gray.jpg")).unwrap());
    put(&folder, "test/a/1.jpeg", fs::read(fixture("colour.jpg")).unwrap());
    let train = source(&folder).load(Split::Train).unwrap();
    assert_eq!(train.shape, [1, 32, 32]);
    let test = source(&folder).load(Split::Test).unwrap();
    assert_eq!(test.shape, [3, 32, 32]);
    let near = |value: u8, expected: usize| assert!(usize::from(value).abs_diff(expected) <= 8);
    for (at, &value) in bytes(&train).iter().enumerate() {
        near(value, at % 32 * 8);
    }
    let colour = bytes(&test);
    for y in 4..28 {
        for x in 4..28 {
            near(colour[y * 32 + x], x * 8);
            near(colour[1024 + y * 32 + x], y * 8);
            near(colour[2048 + y * 32 + x], 128);
        }
    }
}

#[test]
fn missing_folders_are_named() {
    let folder = tempdir().unwrap();
    put(&folder, "cat/a.png", gray(1));
    let looked = folder.path().join("test");
    says(&failure(&source(&folder), Split::Test), &[looked.to_str().unwrap(), "not found", "CLASS"]);
    let absent = Source::Folder(Path::new("no/such/folder").into());
    says(&failure(&absent, Split::Train), &["no/such/folder"]);
}

#[test]
fn no_images_is_an_error() {
    let folder = tempdir().unwrap();
    put(&folder, "train/cat/a.txt", "no image");
    says(&failure(&source(&folder), Split::Train), &["no images", ".png, .jpg, .jpeg"]);
}

#[test]
fn bad_files_are_named() {
    let folder = tempdir().unwrap();
    put(&folder, "train/a/1.png", gray(1));
    put(&folder, "train/a/2.png", plain_png(4, 3, [0; 3]));
    says(
        &failure(&source(&folder), Split::Train),
        &["2.png: the image is 4x3", "expected 2x3 like", "1.png"],
    );
    put(&folder, "train/a/2.png", &gray(1)[..40]);
    says(&failure(&source(&folder), Split::Train), &["2.png:"]);
    put(&folder, "train/a/2.png", png(2, 3, ColorType::GrayscaleAlpha, &[0, 254].repeat(6)));
    says(&failure(&source(&folder), Split::Train), &["2.png:", "transparent"]);
}
