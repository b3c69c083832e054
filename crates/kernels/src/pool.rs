//! Chunks of a batch, one task each, and the memory that is kept for them between calls: fresh memory costs more than
//! what is written to it.

use std::sync::Mutex;

/// Examples per chunk, at most `most`: as many as useful, but every thread gets some.
pub(crate) fn chunk(count: usize, most: usize) -> usize {
    count.div_ceil(rayon::current_num_threads()).clamp(1, most)
}

/// Memory for some examples.
pub(crate) trait Room {
    /// How many it has room for.
    fn room(&self) -> usize;
}

/// Spare pieces.
#[derive(Debug)]
pub(crate) struct Pool<T> {
    spare: Mutex<Vec<T>>,
    most: usize,
}

impl<T: Room> Pool<T> {
    /// A pool that keeps so many pieces at most.
    pub fn of(most: usize) -> Self {
        Self { spare: Mutex::new(Vec::new()), most }
    }

    /// A piece with room for `count` examples: a spare one, or a new one.
    pub fn take(&self, count: usize, new: impl FnOnce() -> T) -> T {
        let mut spare = self.spare.lock().expect("no thread panics while it holds this");
        let found = spare.iter().position(|piece| piece.room() >= count).map(|at| spare.swap_remove(at));
        drop(spare);
        found.unwrap_or_else(new)
    }

    /// Lets go of spare pieces.
    pub fn clear(&self) {
        if let Ok(mut spare) = self.spare.lock() {
            spare.clear();
        }
    }

    /// Keeps some pieces for the next time.
    pub fn put(&self, pieces: impl IntoIterator<Item = T>) {
        // A poisoned pool is only without its spare pieces: this runs when values are dropped, too.
        if let Ok(mut spare) = self.spare.lock() {
            let room = self.most.saturating_sub(spare.len());
            spare.extend(pieces.into_iter().take(room));
        }
    }
}
