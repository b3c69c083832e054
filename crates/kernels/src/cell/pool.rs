//! Memory that is kept between calls: fresh memory costs more than what is written to it.

use std::sync::Mutex;

/// Pieces that are kept, at most.
const SPARE: usize = 64;

/// Memory for some examples.
pub(crate) trait Room {
    /// How many it has room for.
    fn room(&self) -> usize;
}

/// Spare pieces.
#[derive(Debug)]
pub(crate) struct Pool<T>(Mutex<Vec<T>>);

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Room> Pool<T> {
    /// A piece with room for `count` examples: a spare one, or a new one.
    pub fn take(&self, count: usize, new: impl FnOnce() -> T) -> T {
        let mut spare = self.0.lock().expect("no thread panics while it holds this");
        let found = spare.iter().position(|piece| piece.room() >= count).map(|at| spare.swap_remove(at));
        drop(spare);
        found.unwrap_or_else(new)
    }

    /// Keeps some pieces for the next time.
    pub fn put(&self, pieces: impl IntoIterator<Item = T>) {
        // A poisoned pool is only without its spare pieces: this runs when values are dropped, too.
        if let Ok(mut spare) = self.0.lock() {
            let room = SPARE.saturating_sub(spare.len());
            spare.extend(pieces.into_iter().take(room));
        }
    }
}
