//! Images on their way to a model: what is not read is said, sizes are changed as asked, and the record names it.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::{RECIPE, folder, refuse, run, succeed};

const EVALUATE: &str = "evaluate --model model/model.safetensors --data folder:pictures --count 2 --eps 0.1 --attacks \
                        pgd-2 --gradients none --no-flags";

/// Twenty gray pictures of 10x9 pixels to train on, in two classes; two of one class to test on, and a text.
fn pictures(at: &Path) {
    let put = |path: String, seed: usize| {
        let path = at.join("pictures").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixels = (0..90).map(|pixel| ((pixel * 7 + seed * 31) % 251) as u8);
        fs::write(path, b"P5 10 9 255\n".iter().copied().chain(pixels).collect::<Vec<u8>>()).unwrap();
    };
    for number in 0..20 {
        put(format!("train/{}/more/{number:02}.pgm", ["cat", "dog"][number % 2]), number);
    }
    put("test/dog/0.pgm".into(), 3);
    put("test/dog/1.PGM".into(), 5);
    fs::write(at.join("pictures/test/dog/notes.txt"), "two dogs").unwrap();
    fs::create_dir(at.join("pictures/test/aardvark")).unwrap();
}

#[test]
fn folders_are_resized_for_a_model_and_the_record_says_so() {
    let folder = folder();
    let at = folder.path();
    pictures(at);
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
    succeed(at, "train --config recipe.toml --data folder:pictures --resize 12x8 --crop 8 --out model");
    let recipe = fs::read_to_string(at.join("model/recipe.toml")).unwrap();
    assert!(recipe.contains("resize = \"12x8\"") && recipe.contains("crop = \"8\""), "{recipe}");

    let output = run(at, &format!("{EVALUATE} --resize 12x8 --crop 8 --out same"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("1 file is no image and was not read: dog/notes.txt"), "{stderr}");
    assert!(!stderr.contains("was trained on"), "{stderr}");
    let results: Value = serde_json::from_slice(&fs::read(at.join("same/results.json")).unwrap()).unwrap();
    let evaluation = &results["models"][0];
    assert_eq!(evaluation["dataset"], "pictures, resized to 12x8, cropped to 8x8, test");
    assert_eq!(evaluation["configuration"]["preparation"]["resize"], "12x8");
    // Labels are those of the training split: the only class of the test split is the second one.
    assert_eq!(evaluation["classes"], serde_json::json!(["cat", "dog"]));
    assert_eq!(evaluation["readouts"][0]["examples"][0]["label"], 1);

    // Another way to the same size is another data set, and the model was trained on the first.
    let output = run(at, &format!("{EVALUATE} --resize 8x8 --out other"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let told = "was trained on images resized to 12x8, cropped to 8x8, and these are resized to 8x8";
    assert!(stderr.contains(told), "{stderr}");

    succeed(at, "train --resume --out model");
    refuse(at, "train --resume --resize 8x8 --crop 8 --out model", 2, &["model"]);
}

#[test]
fn sizes_that_do_not_fit_are_refused() {
    let folder = folder();
    let at = folder.path();
    pictures(at);
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
    succeed(at, "train --config recipe.toml --data folder:pictures --resize 8x8 --out model");
    for (flags, parts) in [
        ("", &["folder:pictures", "[1, 9, 10]", "[1, 8, 8]", "--resize and --crop"][..]),
        ("--resize 4", &["[1, 4, 4]", "[1, 8, 8]"]),
        ("--resize large", &["--resize", "\"large\"", "40x32"]),
        ("--resize 0", &["--resize", "\"0\""]),
        ("--crop 11", &["0.pgm", "10x9 pixels cannot be cropped to 11x11"]),
        ("--resize 8x8 --layout nchw", &["--layout nchw", "npz"]),
        ("--resize 8x8 --layout hwc", &["--layout", "\"hwc\"", "nhwc"]),
    ] {
        refuse(at, &format!("{EVALUATE} --out out {flags}"), 2, parts);
    }
    fs::write(at.join("pictures/test/dog/2.gif"), "GIF89a").unwrap();
    refuse(at, &format!("{EVALUATE} --out out --resize 8x8"), 2, &["1 image is not read", "dog/2.gif"]);
    refuse(at, "bench --only solve --resize 8", 2, &["--resize", "--data"]);
    assert!(!at.join("out").exists(), "something was written");
}
