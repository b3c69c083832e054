//! Work in a pool of threads of its own, while the thread that called keeps the interpreter and answers what the work asks
//! of Python.
//!
//! So the user's code runs where it was called from: settings that belong to a thread (PyTorch's precision, default device
//! or graph mode) hold, and Ctrl-C reaches it. The interpreter is free whenever nothing is asked. The first error
//! (Ctrl-C is one) ends it all: from then on Python is not called any more, and whoever asks is told so.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel, sync_channel};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rayon::ThreadPoolBuilder;

/// The longest that a signal waits to be seen while Rust is at work.
const PATIENCE: Duration = Duration::from_millis(10);

/// The longest that either side looks out for the other before it sleeps: to wake a thread takes longer than a small operation does.
const LOOKOUT: Duration = Duration::from_micros(20);

/// What comes within that time.
fn looked_out_for<T>(receiver: &Receiver<T>) -> Option<T> {
    let until = Instant::now() + LOOKOUT;
    loop {
        match receiver.try_recv() {
            Ok(received) => return Some(received),
            Err(TryRecvError::Empty) if Instant::now() < until => std::hint::spin_loop(),
            Err(_) => return None,
        }
    }
}

/// Threads of the next pool; 0 for one per processor.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// Sets how many threads Equipoise's own computations take, in evaluations that begin later.
///
/// They are not PyTorch's threads. The model dominates the time, and its threads are `torch.set_num_threads`'.
#[pyfunction]
pub fn set_num_threads(threads: usize) -> PyResult<()> {
    if threads == 0 {
        return Err(PyValueError::new_err("the number of threads is 0: give at least 1"));
    }
    THREADS.store(threads, Ordering::Relaxed);
    Ok(())
}

/// How many threads Equipoise's own computations take: one per processor unless set.
#[pyfunction(name = "get_num_threads")]
pub fn num_threads() -> usize {
    match THREADS.load(Ordering::Relaxed) {
        0 => available_parallelism().map_or(1, NonZeroUsize::get),
        threads => threads,
    }
}

type Call = Box<dyn FnOnce(Python<'_>) -> PyResult<()> + Send>;

/// How the work asks something of Python.
#[derive(Clone)]
pub struct Caller {
    calls: Sender<Call>,
    stopped: Arc<AtomicBool>,
}

impl Caller {
    /// Whether an error has ended it all.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Runs a function with the interpreter, on the thread that called, and waits for its answer. `None` if it failed, or if
    /// an error came before.
    pub fn call<T: Send + 'static>(
        &self,
        function: impl FnOnce(Python<'_>) -> PyResult<T> + Send + 'static,
    ) -> Option<T> {
        if self.stopped() {
            return None;
        }
        let (answer, answered) = sync_channel(1);
        let stopped = self.stopped.clone();
        let call = move |py: Python<'_>| {
            // Before `answer` is dropped, which wakes whoever asked.
            let value = function(py).inspect_err(|_| stopped.store(true, Ordering::Release))?;
            let _ = answer.send(value);
            Ok(())
        };
        self.calls.send(Box::new(call)).ok()?;
        looked_out_for(&answered).or_else(|| answered.recv().ok())
    }
}

/// Does `work` in a pool, and answers its calls until it is done.
///
/// # Errors
///
/// The first error of a call, or of a signal handler: `KeyboardInterrupt`, as a rule.
pub fn serve<T: Send>(py: Python<'_>, work: impl FnOnce(&Caller) -> T + Send) -> PyResult<T> {
    // A pool for each: work that is begun within a call does not wait for threads that wait for it.
    let pool = ThreadPoolBuilder::new()
        .num_threads(num_threads())
        .thread_name(|number| format!("equipoise-{number}"))
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("no threads: {error}")))?;
    let (calls, mut waiting) = channel();
    let stopped = Arc::new(AtomicBool::new(false));
    let caller = Caller { calls, stopped: stopped.clone() };
    let mut result = None;
    let failure = pool.in_place_scope(|scope| {
        let result = &mut result;
        // Whatever can ask is gone when the work is done, or has panicked.
        scope.spawn(move |_| *result = Some(work(&caller)));
        answer_calls(py, &mut waiting, &stopped)
    });
    match (failure, result) {
        (Some(error), _) => Err(error),
        (None, Some(result)) => Ok(result),
        (None, None) => Err(PyRuntimeError::new_err("the work ended without a result")),
    }
}

/// Until nobody can ask any more. The first error.
fn answer_calls(py: Python<'_>, waiting: &mut Receiver<Call>, stopped: &AtomicBool) -> Option<PyErr> {
    let mut failure = None;
    loop {
        let received = {
            // Moved in and out: a receiver can be sent to another thread, and a reference to one cannot.
            let waiting = &mut *waiting;
            py.detach(move || match looked_out_for(waiting) {
                Some(call) => Ok(call),
                None => waiting.recv_timeout(PATIENCE),
            })
        };
        match received {
            // Dropped after a failure: who asked is told that there is no answer.
            Ok(call) => {
                if failure.is_none() {
                    failure = call(py).err();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return failure,
        }
        if failure.is_none()
            && let Err(error) = py.check_signals()
        {
            stopped.store(true, Ordering::Release);
            failure = Some(error);
        }
    }
}
