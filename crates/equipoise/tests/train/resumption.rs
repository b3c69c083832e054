//! Runs that are cut off go on to the same end, and their folders hold nothing else.

use std::path::Path;

use crate::common::small_mdeq;
use crate::plans::{StopAfter, full_plan, lines, plan, weights};
use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::checkpoint::ModelFile;
use equipoise::model::mdeq::MdeqConfig;
use equipoise::train::{EpochReport, Observer, Plan, Schedule, Silent, StepReport, train};
use equipoise_dataset::{Source, Split};

#[test]
fn a_run_that_was_cut_off_ends_with_the_same_weights() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let whole = tempfile::tempdir().unwrap();
    let expected = train(&plan(&data, whole.path()), &device, &Silent).unwrap();
    let history = expected.history.clone();
    let expected = weights(expected);
    // Five steps an epoch: cuts inside warm-up, inside an epoch, at an epoch's end, and in the second epoch.
    for cut in [1, 3, 5, 8] {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&data, folder.path());
        let stopped = train(&plan, &device, &StopAfter::new(cut)).unwrap();
        assert!(!stopped.complete);
        assert!(!folder.path().join("model.safetensors").exists());
        let resumed = train(&plan, &device, &Silent).unwrap();
        for (a, b) in history.iter().zip(&resumed.history) {
            assert_eq!(EpochReport { seconds: 0.0, ..*a }, EpochReport { seconds: 0.0, ..*b });
        }
        assert_eq!(weights(resumed), expected, "cut after {cut}");
    }
}

#[test]
fn a_run_with_everything_is_resumed_to_the_bit() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let (device, whole) = (Device::default(), tempfile::tempdir().unwrap());
    let outcome = train(&full_plan(&data, whole.path()), &device, &Silent).unwrap();
    let (best, epochs) = (outcome.best.unwrap(), outcome.history.len());
    let expected = weights(outcome);
    let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).unwrap();
    let steps = lines(whole.path(), "steps.jsonl");
    assert_eq!(steps.len(), 5 * epochs);
    for (number, line) in steps.iter().enumerate() {
        assert_eq!(line["step"], number + 1);
        // Two steps of warm-up, which solve nothing, and two epochs of regularisation.
        let budget = line["solver_steps"].as_u64();
        assert_eq!(budget.is_some(), number >= 2, "{line}");
        assert!(budget.is_none_or(|budget| (2..=5).contains(&budget)), "{line}");
        assert!(line["jacobian"].is_null() || (2..10).contains(&number), "{line}");
        assert!(line["gradient_norm"].as_f64().unwrap() > 0.0);
    }
    let regularised = steps.iter().filter(|line| line["jacobian"].as_f64() > Some(0.0)).count();
    assert!((1..8).contains(&regularised), "{regularised} of 8 steps");
    let budgets: std::collections::BTreeSet<_> =
        steps.iter().map(|line| line["solver_steps"].as_u64()).collect();
    assert!(budgets.len() > 3, "{budgets:?}");
    let last = lines(whole.path(), "log.jsonl").pop().unwrap();
    assert_eq!((&last["best_epoch"], &last["step"]), (&best.epoch.into(), &(5 * epochs).into()));

    for cut in [1, 4, 5, 8, 10] {
        let folder = tempfile::tempdir().unwrap();
        let plan = full_plan(&data, folder.path());
        assert!(!train(&plan, &device, &StopAfter::new(cut)).unwrap().complete);
        // What a crash may leave behind: a step beyond the checkpoint, and half a line.
        let path = folder.path().join("steps.jsonl");
        let text = std::fs::read_to_string(&path).unwrap() + "{\"step\":14,\"loss\":0}\n{\"st";
        std::fs::write(&path, text).unwrap();
        let resumed = train(&plan, &device, &Silent).unwrap();
        assert_eq!(resumed.best, Some(best));
        assert_eq!(weights(resumed), expected, "cut after {cut}");
        for name in ["steps.jsonl", "best.safetensors", "model.safetensors"] {
            assert!(read(folder.path(), name) == read(whole.path(), name), "{name}, cut after {cut}");
        }
    }
    // Done is done.
    let again = train(&full_plan(&data, whole.path()), &device, &Silent).unwrap();
    assert_eq!(weights(again), expected);
}

#[test]
fn a_checkpoint_of_another_run_is_refused() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let first = plan(&data, folder.path());
    train(&first, &Device::default(), &StopAfter::new(3)).unwrap();
    let other = Plan { seed: 2, ..plan(&data, folder.path()) };
    let message = train(&other, &Device::default(), &Silent).unwrap_err().to_string();
    assert!(message.contains("another seed"), "{message}");
}

/// Under a constant learning rate the length of a run decides nothing but its end; under a cosine it decides every step.
#[test]
fn a_run_can_be_lengthened_where_its_steps_do_not_depend_on_its_length() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let constant = |folder: &Path, epochs| {
        let mut plan = plan(&data, folder);
        (plan.config.schedule, plan.config.epochs) = (Schedule::Constant, epochs);
        plan
    };
    let whole = tempfile::tempdir().unwrap();
    let expected = train(&constant(whole.path(), 3), &device, &Silent).unwrap();
    let folder = tempfile::tempdir().unwrap();
    train(&constant(folder.path(), 1), &device, &Silent).unwrap();
    // What is kept and when it stops decides no weight either.
    let mut longer = constant(folder.path(), 3);
    (longer.config.keep_every, longer.config.checkpoint_steps) = (Some(1), 7);
    let resumed = train(&longer, &device, &Silent).unwrap();
    assert_eq!(resumed.history.len(), 3);
    assert_eq!(weights(resumed), weights(expected));
    let kept = |epoch| folder.path().join(format!("epoch-00{epoch}.safetensors"));
    assert!(!kept(1).exists());
    let second = ModelFile::read(&kept(2), &device).unwrap();
    assert_eq!(
        (&second.metadata.training["epoch"], &second.metadata.training["step"]),
        (&2.into(), &10.into())
    );
    let last = ModelFile::read(&folder.path().join("model.safetensors"), &device).unwrap();
    assert_eq!(ModelFile::read(&kept(3), &device).unwrap().metadata, last.metadata);

    let refused = |plan: &Plan<'_>| train(plan, &device, &Silent).unwrap_err().to_string();
    let message = refused(&constant(folder.path(), 2));
    assert!(message.contains("epochs 2") && message.contains("at least 3"), "{message}");
    let cosine = tempfile::tempdir().unwrap();
    train(&plan(&data, cosine.path()), &device, &Silent).unwrap();
    let mut longer = plan(&data, cosine.path());
    longer.config.epochs = 3;
    let message = refused(&longer);
    assert!(message.contains("number of epochs") && message.contains("initial weights"), "{message}");
}

/// Files of a folder and those below it, by their path within it, with their content.
fn files(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = std::collections::BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn no_bit_of_a_checkpoint_may_change() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&data, folder.path());
    train(&plan, &device, &StopAfter::new(3)).unwrap();
    let kept: Vec<_> =
        files(folder.path()).into_iter().filter(|(path, _)| path.starts_with("step-000000003")).collect();
    assert_eq!(kept.len(), 4);
    for (path, bytes) in kept {
        let path = folder.path().join(path);
        let mut changed = vec![Vec::new(), bytes[..bytes.len() / 2].to_vec(), [&bytes[..], b"x"].concat()];
        changed.extend((0..bytes.len()).step_by(1 + bytes.len() / 29).map(|at| {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            bytes
        }));
        for bytes in changed {
            std::fs::write(&path, bytes).unwrap();
            let error = train(&plan, &device, &Silent).unwrap_err().to_string();
            assert!(error.contains("step-000000003"), "{error}");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(train(&plan, &device, &Silent).unwrap_err().to_string().contains("step-000000003"));
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(train(&plan, &device, &Silent).unwrap().complete);
}

/// An optimiser's state that is not of this model would end a later step in a panic.
#[test]
fn the_state_of_another_optimiser_is_refused_even_with_right_checksums() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let [folder, other] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let plan_here = plan(&data, folder.path());
    let mut plan_there = plan(&data, other.path());
    plan_there.metadata.architecture = Architecture::from(MdeqConfig { final_channels: 12, ..small_mdeq() });
    for plan in [&plan_here, &plan_there] {
        train(plan, &device, &StopAfter::new(3)).unwrap();
    }
    let [here, there] = [&folder, &other].map(|folder| folder.path().join("step-000000003"));
    std::fs::copy(there.join("optimizer.bpk"), here.join("optimizer.bpk")).unwrap();
    let names = ["model.safetensors", "optimizer.bpk"];
    let contents = names.map(|name| std::fs::read(here.join(name)).unwrap());
    let sums = equipoise_files::sums(names.into_iter().zip(contents.iter().map(Vec::as_slice)));
    std::fs::write(here.join(equipoise_files::SUMS), sums).unwrap();
    let error = train(&plan_here, &device, &Silent).unwrap_err().to_string();
    assert!(error.contains("optimizer.bpk") && error.contains("no parameter of the model"), "{error}");
}

#[test]
fn the_same_run_writes_the_same_bytes() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let [once, again] = [(); 2].map(|()| {
        let folder = tempfile::tempdir().unwrap();
        train(&plan(&data, folder.path()), &device, &StopAfter::new(3)).unwrap();
        files(folder.path())
    });
    assert!(once.len() >= 5 && once.keys().eq(again.keys()));
    for (path, bytes) in once {
        assert!(again[&path] == bytes, "{}", path.display());
    }
}

#[test]
fn a_folder_has_one_run_and_no_litter() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let device = Device::default();
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&data, folder.path());
    train(&plan, &device, &StopAfter::new(3)).unwrap();
    let before = files(folder.path());
    let held = equipoise_files::lock(folder.path()).unwrap();
    let error = train(&plan, &device, &Silent).unwrap_err().to_string();
    assert!(error.contains("another run") && error.contains(&*folder.path().to_string_lossy()), "{error}");
    drop(held);
    assert_eq!(files(folder.path()), before, "nothing was touched");
    // What a killed run leaves: a temporary file and folder, and an older checkpoint of which a part is removed.
    std::fs::write(folder.path().join(".equipoise-abcdef"), "half").unwrap();
    std::fs::create_dir(folder.path().join(".equipoise-ghijkl")).unwrap();
    std::fs::create_dir(folder.path().join("step-000000001")).unwrap();
    std::fs::write(folder.path().join("step-000000001/progress.json"), "{}").unwrap();
    train(&plan, &device, &StopAfter::new(1)).unwrap();
    let names: Vec<_> = files(folder.path()).into_keys().map(|path| path.display().to_string()).collect();
    assert!(names.iter().all(|name| name.starts_with("step-000000004") || !name.contains('/')), "{names:?}");
    assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
}

/// Removes its folder after a step.
struct Remove<'a>(&'a Path);

impl Observer for Remove<'_> {
    fn begin(&self, _step: usize, _steps: usize) {}
    fn step(&self, report: &StepReport) {
        if report.step == 3 {
            std::fs::remove_dir_all(self.0).unwrap();
        }
    }
    fn epoch(&self, _report: &EpochReport) {}
    fn cancelled(&self) -> bool {
        false
    }
}

#[test]
fn a_run_ends_when_its_folder_is_removed() {
    let data = Source::Digits.load(Split::Train).unwrap().take(100);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let error = train(&plan(&data, &path), &Device::default(), &Remove(&path)).unwrap_err().to_string();
    assert!(error.contains(&*path.to_string_lossy()) && error.contains("was removed"), "{error}");
    assert!(!path.exists(), "it is not made anew");
}
