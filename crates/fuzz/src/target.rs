//! Runs the cases of a target.

use std::cell::{Cell, LazyCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use equipoise_files::SUMS;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

use crate::{Choices, MEMORY, Mutator};

/// The seed of a run without `PROPTEST_RNG_SEED`.
const SEED: u64 = 20_260_101;

/// Milliseconds after which a case counts as hung: thousands of times what one takes.
const TIMEOUT: u32 = 20_000;

/// Longest time for making a case smaller, in milliseconds.
const SHRINKING: u32 = 60_000;

/// Memory that a case may take whatever its size: room for tables, threads and a small model.
const ROOM: usize = 96 << 20;

/// Memory that a case may take for each byte of its files.
const PER_BYTE: usize = 64;

/// Files that belong together and can be read as they are.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    files: Vec<(String, Vec<u8>, Option<Mutator>)>,
}

impl Sample {
    /// One file: its path below the folder of a case, its content, and what damages it.
    pub fn of(path: impl Into<String>, content: impl Into<Vec<u8>>, mutator: Mutator) -> Self {
        Self::default().and(path, content, Some(mutator))
    }

    /// With one more file, which is left alone if nothing damages it.
    pub fn and(
        mut self,
        path: impl Into<String>,
        content: impl Into<Vec<u8>>,
        mutator: Option<Mutator>,
    ) -> Self {
        self.files.push((path.into(), content.into(), mutator));
        self
    }

    /// Every file below a folder; `mutator` says by its name what damages it.
    ///
    /// # Panics
    ///
    /// If they cannot be read.
    pub fn folder(folder: &Path, mutator: impl Fn(&str) -> Option<Mutator>) -> Self {
        let mut sample = Self::default();
        let mut folders = vec![folder.to_owned()];
        while let Some(at) = folders.pop() {
            for entry in fs::read_dir(&at).expect("a readable folder") {
                let path = entry.expect("a readable folder").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let name = path.strip_prefix(folder).expect("below it").display().to_string();
                let (content, mutator) = (fs::read(&path).expect("a readable file"), mutator(&name));
                sample = sample.and(name, content, mutator);
            }
        }
        // The order in a folder differs between file systems.
        sample.files.sort_by(|a, b| a.0.cmp(&b.0));
        sample
    }

    /// The same with one file damaged. Checksums of its folder are made right again, but for one time in five.
    fn damaged(&self, choices: &mut Choices<'_>) -> Self {
        let mut damaged = self.clone();
        let files: Vec<_> = damaged.files.iter_mut().filter(|(.., mutator)| mutator.is_some()).collect();
        let at = choices.below(files.len());
        let Some((path, content, Some(mutator))) = files.into_iter().nth(at) else { return damaged };
        *content = mutator(content, choices);
        let path = path.clone();
        if !path.ends_with(SUMS) && !choices.one_in(5) {
            damaged.sum_again();
        }
        damaged
    }

    /// Makes the checksums of folders right.
    fn sum_again(&mut self) {
        let sums = self.files.iter().enumerate().filter_map(|(at, (path, content, _))| {
            let folder = path.strip_suffix(SUMS)?;
            // Every line ends with the name of a file.
            let lines = String::from_utf8_lossy(content).into_owned();
            let names = lines.lines().filter_map(|line| line.split_once("  ")).map(|(_, name)| name);
            let of = |name: &str| self.files.iter().find(|(path, ..)| *path == format!("{folder}{name}"));
            let files = names.filter_map(|name| of(name).map(|(_, content, _)| (name, content.as_slice())));
            Some((at, equipoise_files::sums(files)))
        });
        for (at, sums) in sums.collect::<Vec<_>>() {
            self.files[at].1 = sums.into_bytes();
        }
    }

    fn size(&self) -> usize {
        self.files.iter().map(|(_, content, _)| content.len()).sum()
    }

    fn write(&self, folder: &Path) {
        for (path, content, _) in &self.files {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().expect("below the folder")).expect("a folder can be made");
            fs::write(path, content).expect("a file can be written");
        }
    }
}

/// Reads the files of a case in a folder. An error is what the user would read.
type Reader = Box<dyn Fn(&Path) -> Result<(), String>>;

/// What is fuzzed.
pub struct Target {
    samples: Vec<Sample>,
    read: Reader,
    names_file: bool,
    room: usize,
}

impl Target {
    /// A reader that is given the folder of a case. Every error must name a file in it, or a path that leads to one.
    pub fn new(samples: Vec<Sample>, read: impl Fn(&Path) -> Result<(), String> + 'static) -> Self {
        Self { samples, read: Box::new(read), names_file: true, room: ROOM }
    }

    /// A reader that is given the content of the one file of a case, as text. Its caller knows the file.
    pub fn text(samples: Vec<Sample>, read: impl Fn(&str) -> Result<(), String> + 'static) -> Self {
        let names: Vec<String> = samples.iter().map(|sample| sample.files[0].0.clone()).collect();
        let read = move |folder: &Path| {
            let name = names.iter().find(|name| folder.join(name).exists()).expect("a file of a sample");
            let bytes = fs::read(folder.join(name)).expect("it was written just now");
            match String::from_utf8(bytes) {
                Ok(text) => read(&text),
                Err(error) => Err(error.to_string()),
            }
        };
        Self { samples, read: Box::new(read), names_file: false, room: ROOM }
    }

    /// With other bytes of memory that a case may take whatever its size.
    pub fn with_room(self, room: usize) -> Self {
        Self { room, ..self }
    }
}

/// How the cases of a target ended.
struct Tally {
    file: PathBuf,
    read: Cell<u64>,
    refused: Cell<u64>,
    slowest: Cell<f64>,
}

impl Tally {
    fn new(file: PathBuf) -> Self {
        Self { file, read: Cell::new(0), refused: Cell::new(0), slowest: Cell::new(0.0) }
    }
}

/// The cases of a child process are over: its parent reads this. The parent has none itself.
impl Drop for Tally {
    fn drop(&mut self) {
        let (read, refused) = (self.read.get(), self.refused.get());
        if read + refused == 0 {
            return;
        }
        let line = format!("{read} read, {refused} refused, slowest {:.2} s", self.slowest.get());
        // Only a missing line in the log.
        let _ = fs::write(&self.file, line);
    }
}

/// Runs the cases of a target; the [`fuzz`](crate::fuzz) macro calls it with the test's path.
///
/// # Panics
///
/// If a case panics, aborts, hangs, takes too much memory, or is refused without a word about the file.
pub fn run(name: &'static str, cases: u32, target: impl FnOnce() -> Target) {
    let times = std::env::var("EQUIPOISE_FUZZ_TIMES").map_or(1, |times| {
        times.parse().unwrap_or_else(|_| panic!("EQUIPOISE_FUZZ_TIMES={times}: give a whole number"))
    });
    let defaults = Config::default();
    let config = Config {
        cases: cases * times,
        fork: true,
        timeout: TIMEOUT,
        test_name: Some(name),
        failure_persistence: None,
        max_shrink_time: SHRINKING,
        max_shrink_iters: 2048,
        rng_seed: match defaults.rng_seed {
            RngSeed::Random => RngSeed::Fixed(SEED),
            given => given,
        },
        ..defaults
    };
    let folder = folder(name);
    let (case, kept, tally) = (folder.join("case"), folder.join("failed"), folder.join("tally"));
    let counts = Tally::new(tally.clone());
    // Only the child needs the samples, and makes them anew after each abort.
    let place = case.clone();
    let target = LazyCell::new(move || {
        let target = target();
        sound(&target, &place);
        target
    });
    let paths = (case.clone(), kept.clone());
    let test = move |bytes: Vec<u8>| {
        let (case, kept) = &paths;
        // What a dead child was reading.
        if case.exists() {
            keep(case, kept);
        }
        let mut choices = Choices::new(&bytes);
        let sample = &target.samples[choices.below(target.samples.len())];
        let sample = sample.damaged(&mut choices);
        sample.write(case);
        let allowed = target.room + PER_BYTE * sample.size();
        let begun = Instant::now();
        MEMORY.set_limit(MEMORY.allocated() + allowed).expect("more than is taken");
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (target.read)(case)));
        MEMORY.set_limit(usize::MAX).expect("more than is taken");
        counts.slowest.set(counts.slowest.get().max(begun.elapsed().as_secs_f64()));
        let fault = match found {
            Ok(Ok(())) => {
                counts.read.set(counts.read.get() + 1);
                None
            }
            Ok(Err(message)) => {
                counts.refused.set(counts.refused.get() + 1);
                let named = !target.names_file || message.contains(&*case.to_string_lossy());
                (!named).then(|| format!("the error does not name the file: {message}"))
            }
            Err(panic) => Some(format!("panicked: {}", words(&*panic))),
        };
        if fault.is_some() {
            keep(case, kept);
        }
        let _ = fs::remove_dir_all(case);
        fault.map_or(Ok(()), |fault| Err(TestCaseError::fail(fault)))
    };
    let outcome = TestRunner::new(config).run(&vec(any::<u8>(), 32..160), test);
    // Left by the last child, if it died.
    if case.exists() {
        keep(&case, &kept);
    }
    println!("{name}: {}", fs::read_to_string(&tally).unwrap_or_default());
    if let Err(error) = outcome {
        panic!("{name}: {error}\nthe files of the smallest case are in {}", kept.display());
    }
    let _ = fs::remove_dir_all(&folder);
}

/// Every sample must be readable: else its damaged copies say nothing.
fn sound(target: &Target, case: &Path) {
    assert!(!target.samples.is_empty(), "a target has samples");
    for sample in &target.samples {
        sample.write(case);
        if let Err(message) = (target.read)(case) {
            panic!("an undamaged sample is refused: {message}");
        }
        fs::remove_dir_all(case).expect("it was written just now");
    }
}

/// Where the files of this target's cases are: beside the test's program, which its child processes share and other
/// checkouts do not.
fn folder(name: &str) -> PathBuf {
    let program = std::env::current_exe().expect("a test has a program");
    program.with_file_name("fuzz").join(name.replace("::", "-"))
}

fn keep(case: &Path, kept: &Path) {
    let _ = fs::remove_dir_all(kept);
    fs::rename(case, kept).expect("both are in one folder");
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
