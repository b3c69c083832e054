//! Several ranks come to the weights of one, to the bit; and what they say when they cannot go on.

use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};

use burn::tensor::Device;
use equipoise::architecture::Architecture;
use equipoise::model::monotone::MonotoneConfig;
use equipoise::train::{
    Alone, OptimizerConfig, Outcome, Plan, Ranks, RanksError, Silent, TrainError, Warmup, train,
    train_together,
};
use equipoise_dataset::{Dataset, Source, Split};

use crate::plans::{StopAfter, full_plan, plan};

/// Threads of this process as ranks.
struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    size: usize,
    barrier: Barrier,
    /// By sender and receiver.
    board: Mutex<Vec<Vec<Vec<u8>>>>,
    /// Exchanges that work.
    exchanges: usize,
    done: Mutex<Vec<usize>>,
}

impl Threads {
    fn new(size: usize, exchanges: usize) -> Vec<Self> {
        let board = Mutex::new(vec![Vec::new(); size]);
        let done = Mutex::new(vec![0; size]);
        let shared = Arc::new(Shared { size, barrier: Barrier::new(size), board, exchanges, done });
        (0..size).map(|rank| Self { rank, shared: shared.clone() }).collect()
    }
}

impl Ranks for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn all_to_all(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RanksError> {
        let shared = &self.shared;
        if shared.done.lock().unwrap()[self.rank] == shared.exchanges {
            return Err(RanksError::lost(self, "a rank has died"));
        }
        shared.done.lock().unwrap()[self.rank] += 1;
        shared.board.lock().unwrap()[self.rank] = parts;
        shared.barrier.wait();
        let received = shared.board.lock().unwrap().iter().map(|parts| parts[self.rank].clone()).collect();
        shared.barrier.wait();
        Ok(received)
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError> {
        self.all_to_all(vec![own; self.shared.size])
    }
}

/// Runs a plan on so many ranks, of which so many exchanges work; what became of each.
fn together(
    size: usize,
    exchanges: usize,
    stop_after: usize,
    plan: impl Fn(usize) -> Plan<'static> + Sync,
) -> Vec<Result<Outcome, TrainError>> {
    let run = |ranks: Threads| {
        let plan = plan(ranks.rank);
        // One rank is asked to stop, and all do.
        let observer = StopAfter::new(if ranks.rank == size - 1 { stop_after } else { usize::MAX });
        train_together(&plan, &ranks, &Device::default(), &observer)
    };
    let (run, ranks) = (&run, Threads::new(size, exchanges));
    std::thread::scope(|scope| {
        let threads: Vec<_> = ranks.into_iter().map(|ranks| scope.spawn(move || run(ranks))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn data() -> &'static Dataset {
    Box::leak(Box::new(Source::Digits.load(Split::Train).unwrap().take(100)))
}

fn in_quarters(mut plan: Plan<'static>) -> Plan<'static> {
    plan.config.micro_batch = Some(4);
    plan
}

fn files(folder: &Path) -> Vec<Vec<u8>> {
    ["model.safetensors", "best.safetensors", "steps.jsonl"]
        .map(|name| std::fs::read(folder.join(name)).unwrap())
        .into()
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn any_number_of_ranks_comes_to_the_files_of_one() {
    let data = data();
    for everything in [false, true] {
        let plan = |folder: &Path| {
            in_quarters(if everything { full_plan(data, folder) } else { plan(data, folder) })
        };
        let alone = folder();
        let expected = train(&plan(alone.path()), &Device::default(), &Silent).unwrap();
        for size in [1, 2, 3, 4] {
            let own = folder();
            for outcome in together(size, usize::MAX, usize::MAX, |_| plan(own.path())) {
                let outcome = outcome.unwrap();
                assert_eq!(outcome.model.model.weights(), expected.model.model.weights(), "{size} ranks");
                assert_eq!(outcome.best, expected.best);
            }
            assert_eq!(files(own.path()), files(alone.path()), "{size} ranks");
        }
    }
}

/// Stopped by one rank, killed in the midst of an exchange, and resumed by other numbers of ranks.
#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    let data = data();
    let plan = |folder: &Path| in_quarters(full_plan(data, folder));
    let alone = folder();
    train(&plan(alone.path()), &Device::default(), &Silent).unwrap();
    let own = folder();
    for outcome in together(3, usize::MAX, 3, |_| plan(own.path())) {
        assert!(!outcome.unwrap().complete);
    }
    let mut kept = Vec::new();
    for (size, exchanges) in [(2, 37), (4, 25)] {
        for (rank, outcome) in
            together(size, exchanges, usize::MAX, |_| plan(own.path())).into_iter().enumerate()
        {
            let error = outcome.unwrap_err();
            let said = error.to_string();
            assert!(said.contains(&format!("rank {rank} of {size}: a rank has died")), "{said}");
            let TrainError::Ranks { kept: step, .. } = error else { panic!("{said}") };
            assert_eq!(step.is_some(), rank == 0, "rank 0 alone writes");
            assert_eq!(said.contains("is kept: resume the run"), rank == 0);
            kept.extend(step);
        }
    }
    assert!(kept[0] > 3 && kept[1] > kept[0], "each goes on from the last: {kept:?}");
    let outcomes = together(2, usize::MAX, usize::MAX, |_| plan(own.path()));
    assert!(outcomes.into_iter().all(|outcome| outcome.unwrap().complete));
    assert_eq!(files(own.path()), files(alone.path()));
}

#[test]
fn ranks_that_do_not_fit_together_are_refused() {
    let data = data();
    let own = folder();
    let refused = |size: usize, plan: &(dyn Fn(usize) -> Plan<'static> + Sync), parts: &[&str]| {
        for outcome in together(size, usize::MAX, usize::MAX, plan) {
            let said = outcome.unwrap_err().to_string();
            assert!(parts.iter().all(|part| said.contains(part)), "{said}");
        }
        assert!(!own.path().join("model.safetensors").exists());
    };
    let usual = |_: usize| in_quarters(plan(data, own.path()));
    refused(5, &usual, &["4 micro-batches, fewer than the 5 ranks", "give micro_batch = 2 or a divisor"]);
    let other_seed = |rank: usize| Plan { seed: rank as u64 / 2, ..usual(rank) };
    refused(3, &other_seed, &["rank 2 of 3", "other settings or other data than rank 0"]);
    // A folder that one of them does not see.
    together(2, usize::MAX, 3, usual).into_iter().for_each(|outcome| assert!(!outcome.unwrap().complete));
    let elsewhere = folder();
    let unseen = |rank: usize| {
        let mut plan = usual(rank);
        plan.folder = if rank == 0 { plan.folder } else { elsewhere.path().to_owned() };
        plan
    };
    refused(2, &unseen, &["rank 1 of 2", "it stands after step 0, and rank 0 after step 3"]);
    // A folder of another run: what rank 0 meets, all are told.
    let occupied = |rank: usize| Plan { seed: 9, ..usual(rank) };
    refused(2, &occupied, &["belongs to a run with another seed"]);
}

/// Without statistics of batches the mean of the micro-batches' gradients is that of the batch.
#[test]
fn micro_batches_add_up_to_the_batch() {
    let data = data();
    let (whole, parts) = (folder(), folder());
    let outcome = |folder: &Path, micro_batch: Option<usize>| {
        let mut plan = plan(data, folder);
        plan.metadata.architecture = Architecture::from(MonotoneConfig::digits());
        let config = &mut plan.config;
        (config.warmup, config.adversary, config.micro_batch) = (Warmup::default(), None, micro_batch);
        config.optimizer = OptimizerConfig::Sgd { learning_rate: 0.1, weight_decay: 0.0, momentum: 0.9 };
        train_together(&plan, &Alone, &Device::default(), &Silent).unwrap().model.model.weights()
    };
    let (whole, parts) = (outcome(whole.path(), None), outcome(parts.path(), Some(2)));
    for (name, entry) in &whole {
        for (a, b) in entry.values.iter().zip(&parts[name].values) {
            assert!((a - b).abs() < 1e-4 * (1.0 + a.abs()), "{name}: {a} {b}");
        }
    }
}
