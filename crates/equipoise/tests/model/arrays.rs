//! Weights from NumPy and MATLAB: arrays with the letters of the equations.

use std::path::Path;

use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::checkpoint::{Configuration, ImportOptions, import};
use equipoise::model::monotone::MonotoneConfig;
use equipoise::model::state_dict::StateDict;
use equipoise::victim::Deployment;
use equipoise_dataset::{NpyArray, write_npz};

fn configuration() -> Configuration {
    let monotone = MonotoneConfig { hidden: 5, image: [1, 2, 3], classes: 4, ..MonotoneConfig::digits() };
    Configuration { architecture: monotone.into(), deployment: Deployment::default() }
}

/// The weights of a model by the letters of its equation.
fn letters() -> (Vec<(&'static str, &'static str)>, StateDict) {
    let names = vec![
        ("A", "fullstage.a"),
        ("B", "fullstage.b"),
        ("C", "classifier.weight"),
        ("U", "injection.weight"),
        ("c", "classifier.bias"),
        ("u", "injection.bias"),
    ];
    let architecture: Architecture = configuration().architecture;
    (names, architecture.init(3, &Device::default()).unwrap().weights())
}

/// A MAT-file of level 5, little-endian and not compressed. MATLAB has columns instead of vectors.
fn write_mat(path: &Path, arrays: &[(&str, Vec<usize>, Vec<f64>)]) {
    let element = |kind: u32, data: &[u8]| {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    };
    let mut file = vec![b' '; 124];
    file.extend(b"\x00\x01IM");
    for (name, shape, values) in arrays {
        let (rows, columns) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let sides: Vec<u8> = [rows, columns].iter().flat_map(|side| (*side as i32).to_le_bytes()).collect();
        // Column by column.
        let columns = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
        let numbers: Vec<u8> = columns.flat_map(|at| values[at].to_le_bytes()).collect();
        let parts = [
            // A class of doubles.
            element(6, &[6, 0, 0, 0, 0, 0, 0, 0]),
            element(5, &sides),
            element(1, name.as_bytes()),
            element(9, &numbers),
        ];
        file.extend(element(14, &parts.concat()));
    }
    std::fs::write(path, file).unwrap();
}

#[test]
fn letters_of_equations_are_names() {
    let folder = tempfile::tempdir().unwrap();
    let (names, weights) = letters();
    let [npz, mat] = ["w.npz", "w.mat"].map(|name| folder.path().join(name));
    let arrays: Vec<(&str, NpyArray)> = names
        .iter()
        .map(|(letter, name)| {
            let shape = weights[*name].shape.clone();
            (*letter, NpyArray::F32 { shape, values: &weights[*name].values })
        })
        .collect();
    write_npz(&npz, &arrays).unwrap();
    let arrays: Vec<(&str, Vec<usize>, Vec<f64>)> = names
        .iter()
        .map(|(letter, name)| {
            let entry = &weights[*name];
            (*letter, entry.shape.clone(), entry.values.iter().map(|value| f64::from(*value)).collect())
        })
        .collect();
    write_mat(&mat, &arrays);
    for path in [npz, mat] {
        let imported =
            import(&path, configuration(), "m", &ImportOptions::default(), &Device::default()).unwrap();
        assert_eq!(imported.model.model.weights(), weights, "{}", path.display());
    }
}

#[test]
fn what_is_missing_or_no_weight_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (_, weights) = letters();
    let failure = |name: &str| {
        let path = folder.path().join(name);
        import(&path, configuration(), "m", &ImportOptions::default(), &Device::default())
            .unwrap_err()
            .to_string()
    };
    let u = &weights["injection.weight"];
    let shape = u.shape.clone();
    write_npz(
        folder.path().join("part.npz"),
        &[("U", NpyArray::F32 { shape: shape.clone(), values: &u.values })],
    )
    .unwrap();
    assert!(failure("part.npz").contains("missing"), "{}", failure("part.npz"));
    let counts = vec![1; u.values.len()];
    write_npz(folder.path().join("counts.npz"), &[("U", NpyArray::I64 { shape, values: &counts })]).unwrap();
    assert!(failure("counts.npz").contains("injection.weight is i8"), "{}", failure("counts.npz"));
    let mut hdf5 = b"MATLAB 7.3 MAT-file".to_vec();
    hdf5.resize(600, 0);
    std::fs::write(folder.path().join("new.mat"), hdf5).unwrap();
    assert!(failure("new.mat").contains("-v7"), "{}", failure("new.mat"));
}
