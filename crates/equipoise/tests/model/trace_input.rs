//! What a trace does not accept, and how it says so.

use std::path::Path;

use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::checkpoint::{Configuration, ImportOptions, import};
use equipoise::trace::{TraceError, TraceOptions, read_input, trace_file};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// Writes `x` of zeros, with `pixel` at the start of its second image, and `y`.
fn write(path: &Path, shape: [usize; 4], pixel: f32, y: &[i64]) {
    let mut x = vec![0.0_f32; shape.iter().product()];
    let second = shape[1..].iter().product::<usize>();
    if let Some(at) = x.get_mut(second) {
        *at = pixel;
    }
    let x: Vec<u8> = x.iter().flat_map(|pixel| pixel.to_le_bytes()).collect();
    let labels: Vec<u8> = y.iter().flat_map(|label| label.to_le_bytes()).collect();
    let x = TensorView::new(Dtype::F32, shape.to_vec(), &x).unwrap();
    let y = TensorView::new(Dtype::I64, vec![y.len()], &labels).unwrap();
    std::fs::write(path, safetensors::serialize([("x", x), ("y", y)], None).unwrap()).unwrap();
}

#[test]
fn inputs_that_are_refused_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.safetensors");
    let architecture = Architecture::named("mdeq-digits").unwrap();
    let read = || read_input(&path, &architecture, &Device::default());
    write(&path, [2, 1, 8, 8], 1.0, &[0, 9]);
    let (images, labels) = read().unwrap();
    assert_eq!((images.dims(), labels), ([2, 1, 8, 8], vec![0, 9]));
    for (shape, pixel, labels, problem) in [
        ([2, 3, 8, 8], 0.0, &[0, 1][..], "x: has shape [2, 3, 8, 8], and the model takes [N, 1, 8, 8]"),
        ([0, 1, 8, 8], 0.0, &[], "x: has shape [0, 1, 8, 8]"),
        ([2, 1, 8, 8], f32::NAN, &[0, 1], "x: image 1: NaN is not an intensity in [0, 1]"),
        ([2, 1, 8, 8], 255.0, &[0, 1], "x: image 1: 255 is not an intensity"),
        ([2, 1, 8, 8], 0.0, &[0, 1, 2], "y: has shape [3], and x has 2 images"),
        ([2, 1, 8, 8], 0.0, &[0, 10], "y: label 10 of image 1 is not a class, 0 to 9"),
        ([2, 1, 8, 8], 0.0, &[-1, 0], "y: label -1 of image 0"),
    ] {
        write(&path, shape, pixel, labels);
        let message = read().unwrap_err().to_string();
        assert!(message.contains(problem) && message.contains("in.safetensors"), "{message}");
    }
    std::fs::write(&path, b"{}").unwrap();
    assert!(read().unwrap_err().to_string().contains("this is a text file"));
    std::fs::remove_file(&path).unwrap();
    assert!(read().unwrap_err().to_string().contains("file: cannot read"));
}

#[test]
fn only_a_deq_is_traced_and_nothing_is_written_on_failure() {
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in.safetensors"), folder.path().join("out.safetensors"));
    write(&input, [1, 3, 16, 16], 0.0, &[0]);
    let architecture = Architecture::named("resnet18").unwrap().with_width(2).unwrap();
    let configuration = Configuration { architecture: architecture.clone(), deployment: Default::default() };
    let weights = folder.path().join("weights.pth");
    let network = architecture.init(0, &Device::default()).unwrap();
    equipoise::checkpoint::export_pytorch(&*network, &weights).unwrap();
    let file = import(&weights, configuration, "baseline", &ImportOptions::default(), &Device::default())
        .unwrap()
        .model;
    let result = trace_file(&file, &input, &output, &TraceOptions::default(), &Device::default());
    assert!(matches!(result, Err(TraceError::NotADeq(name)) if name == "baseline"));
    assert!(!output.exists());
}

#[test]
fn one_string_for_one_estimator_names_its_tensors() {
    let specs = ["unrolled:state=2", "unrolled:state=1..2,steps=0,lead=1", "exact,ensemble(exact)"];
    let options = TraceOptions::default().with_gradients(&specs).unwrap();
    let names: Vec<&str> = options.gradients.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "unrolled:state=2",
            "unrolled:state=1,lead=1,steps=0,damping=0.5",
            "unrolled:state=2,lead=1,steps=0,damping=0.5",
            "exact",
            "ensemble(exact)",
        ]
    );
    assert!(TraceOptions::default().with_gradients(&["exakt"]).is_err());
}
