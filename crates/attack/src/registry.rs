//! What is known by name: a table of this crate, and what other crates registered.

use inventory::Collect;

/// Something that a name stands for, such as a kind of estimator.
pub trait Named: Collect + Copy {
    /// Those of this crate, in the order in which messages name them.
    const BUILT_IN: &'static [Self];

    /// The name; of several, the first.
    fn name(&self) -> &'static str;

    /// How it is written, for messages.
    fn usage(&self) -> &'static str;
}

/// Those of this crate, then those of others by their names.
pub fn all<N: Named>() -> Vec<N> {
    let mut others: Vec<N> = inventory::iter::<N>.into_iter().copied().collect();
    others.sort_by_key(Named::name);
    [N::BUILT_IN, &others].concat()
}

/// Why a name stands for nothing.
pub enum Unknown {
    /// Nothing has this name; these can be written, as a phrase.
    Name(String),
    /// So many have it.
    Ambiguous(usize),
}

/// The one of this name.
pub fn named<N: Named>(name: &str) -> Result<N, Unknown> {
    let all = all::<N>();
    let found: Vec<&N> = all.iter().filter(|known| known.name() == name).collect();
    match found.as_slice() {
        [one] => Ok(**one),
        [] => {
            let usages: Vec<&str> = all.iter().map(Named::usage).collect();
            let (last, others) = usages.split_last().expect("there are built-in ones");
            Err(Unknown::Name(format!("{} or {last}", others.join(", "))))
        }
        several => Err(Unknown::Ambiguous(several.len())),
    }
}
