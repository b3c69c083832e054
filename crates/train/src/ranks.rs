//! Processes that train one model together, and the two exchanges that this takes.
//!
//! The micro-batch is the unit: which rank computes one changes nothing about its gradients, and these are added in the order
//! of a fixed [tree](super::tree). So any number of ranks gives the same weights to the bit, on processors of one kind.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::tree::{Node, Tree};

/// Processes with numbers from 0, each with a whole model.
///
/// All of them call the same operation at the same time; an engine that waits for a process which has died must end with an error.
pub trait Ranks {
    /// The number of this process.
    fn rank(&self) -> usize;

    /// How many there are.
    fn size(&self) -> usize;

    /// Gives part k to rank k. In place k of what comes back is what rank k gave this one.
    ///
    /// # Errors
    ///
    /// If the exchange fails: a process has died, say.
    fn all_to_all(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RanksError>;

    /// What every rank gave, by rank.
    ///
    /// # Errors
    ///
    /// As [`Self::all_to_all`].
    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError>;
}

/// Why ranks cannot go on together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rank {rank} of {size}: {problem}")]
pub struct RanksError {
    /// Who says so, from 0.
    pub rank: usize,
    /// How many there are.
    pub size: usize,
    /// What is wrong.
    pub problem: String,
    /// Whether an exchange failed: a rank is lost. Otherwise the ranks are there, and cannot be right together.
    pub lost: bool,
}

impl RanksError {
    /// Of an exchange that failed, as this rank met it.
    pub fn lost(ranks: &dyn Ranks, problem: impl Into<String>) -> Self {
        Self { rank: ranks.rank(), size: ranks.size(), problem: problem.into(), lost: true }
    }

    /// Of a rank that is at odds with the others.
    fn odd(ranks: &dyn Ranks, rank: usize, problem: impl Into<String>) -> Self {
        Self { rank, size: ranks.size(), problem: problem.into(), lost: false }
    }

    /// The same, as seen from here.
    fn of(ranks: &dyn Ranks, problem: impl Into<String>) -> Self {
        Self::odd(ranks, ranks.rank(), problem)
    }
}

/// One process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ranks for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn all_to_all(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RanksError> {
        Ok(parts)
    }

    fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError> {
        Ok(vec![own])
    }
}

/// What a rank has of so many things that are shared out in order: as many as the others have, or one more.
pub(super) fn share(ranks: &dyn Ranks, count: usize) -> Range<usize> {
    let place = |rank: usize| rank * count / ranks.size();
    place(ranks.rank())..place(ranks.rank() + 1)
}

/// The sums over all leaves, of which each rank has the nodes above its own. Every rank adds up a slice of the numbers, and all
/// get the whole: the traffic of a ring's all-reduce, with an order of additions that does not depend on the number of ranks.
pub(super) fn total(ranks: &dyn Ranks, own: Tree) -> Result<Vec<f32>, RanksError> {
    let leaves = own.leaves();
    let nodes = own.into_nodes();
    let length = nodes.first().map_or(0, |node| node.sum.len());
    let slice = |rank: usize| rank * length / ranks.size()..(rank + 1) * length / ranks.size();
    let parts = (0..ranks.size()).map(|rank| written(&nodes, slice(rank))).collect();
    let mut tree = Tree::new(leaves);
    for part in ranks.all_to_all(parts)? {
        for node in
            read(&part, slice(ranks.rank()).len()).map_err(|problem| RanksError::of(ranks, problem))?
        {
            tree.add(node);
        }
    }
    let sums = tree.total().ok_or_else(|| RanksError::of(ranks, "a micro-batch is missing"))?;
    let whole: Vec<f32> = ranks.all_gather(bytes(&sums))?.iter().flat_map(|part| numbers(part)).collect();
    if whole.len() == length {
        Ok(whole)
    } else {
        Err(RanksError::of(ranks, "slices of another length came back"))
    }
}

/// Level, place and a slice of the sums of each node.
fn written(nodes: &[Node], slice: Range<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    for node in nodes {
        out.extend((node.level as u64).to_le_bytes());
        out.extend((node.place as u64).to_le_bytes());
        out.extend(bytes(&node.sum[slice.clone()]));
    }
    out
}

fn read(part: &[u8], length: usize) -> Result<Vec<Node>, String> {
    let size = 16 + 4 * length;
    if !part.len().is_multiple_of(size) {
        return Err(format!(
            "{} bytes came instead of nodes of {size}: another model, or another build",
            part.len()
        ));
    }
    let word = |bytes: &[u8]| usize::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let node = |bytes: &[u8]| Node {
        level: word(&bytes[..8]),
        place: word(&bytes[8..16]),
        sum: numbers(&bytes[16..]).collect(),
    };
    Ok(part.chunks_exact(size).map(node).collect())
}

fn bytes(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

pub(super) fn numbers(bytes: &[u8]) -> impl Iterator<Item = f32> + '_ {
    bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes")))
}

/// The items of all ranks, in their order.
pub(super) fn gathered<T>(ranks: &dyn Ranks, own: Vec<T>) -> Result<Vec<T>, RanksError>
where
    T: Serialize + DeserializeOwned,
{
    if ranks.size() == 1 {
        return Ok(own);
    }
    let wrong = |error: serde_json::Error| RanksError::of(ranks, format!("what ranks say: {error}"));
    let own = serde_json::to_vec(&own).map_err(wrong)?;
    let mut all = Vec::new();
    for said in ranks.all_gather(own)? {
        all.extend(serde_json::from_slice::<Vec<T>>(&said).map_err(wrong)?);
    }
    Ok(all)
}

/// What happened here, unless it failed on another rank: then that.
pub(super) fn agreed<T, E>(ranks: &dyn Ranks, here: Result<T, E>) -> Result<T, E>
where
    E: std::fmt::Display + From<RanksError>,
{
    let own = here.as_ref().err().map(ToString::to_string);
    let all = gathered(ranks, vec![own])?;
    let here = here?;
    match all.into_iter().enumerate().find_map(|(rank, problem)| problem.map(|problem| (rank, problem))) {
        None => Ok(here),
        Some((rank, problem)) => Err(RanksError::odd(ranks, rank, problem).into()),
    }
}

/// Where a rank stands. All stand at the same place, or they train different models.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Standing {
    /// Hash of settings and data.
    pub plan: u64,
    /// Steps taken.
    pub step: usize,
    /// Hash of the weights.
    pub weights: u64,
}

/// Compares where the ranks stand.
pub(super) fn compared(ranks: &dyn Ranks, own: Standing) -> Result<(), RanksError> {
    let all = gathered(ranks, vec![own])?;
    let first = &all[0];
    let Some((rank, other)) = all.iter().enumerate().find(|(_, other)| *other != first) else {
        return Ok(());
    };
    let problem = if other.plan != first.plan {
        "it was started with other settings or other data than rank 0; start all ranks by the same command"
            .to_owned()
    } else if other.step != first.step {
        format!(
            "it stands after step {}, and rank 0 after step {}; the folder of a run that is resumed must be one that \
             every rank reads, on a shared file system",
            other.step, first.step
        )
    } else {
        format!(
            "after step {} its weights are others than those of rank 0; all ranks must run the same build on \
             processors of one kind",
            other.step
        )
    };
    Err(RanksError::odd(ranks, rank, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Says what the others say.
    struct Others(Vec<Vec<u8>>);

    impl Ranks for Others {
        fn rank(&self) -> usize {
            0
        }
        fn size(&self) -> usize {
            1 + self.0.len()
        }
        fn all_to_all(&self, _: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RanksError> {
            Err(RanksError::lost(self, "not here"))
        }
        fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError> {
            Ok(std::iter::once(own).chain(self.0.clone()).collect())
        }
    }

    #[test]
    fn ranks_that_stand_elsewhere_are_named() {
        let own = Standing { plan: 1, step: 20, weights: 3 };
        let others = |other: &Standing| {
            Others([&own, other].map(|standing| serde_json::to_vec(&[standing]).unwrap()).into())
        };
        assert_eq!(compared(&others(&own), own.clone()), Ok(()));
        for (other, problem) in [
            (Standing { plan: 2, ..own.clone() }, "other settings or other data"),
            (Standing { step: 0, ..own.clone() }, "it stands after step 0, and rank 0 after step 20"),
            (
                Standing { weights: 4, ..own.clone() },
                "after step 20 its weights are others than those of rank 0",
            ),
        ] {
            let error = compared(&others(&other), own.clone()).unwrap_err();
            assert!(error.to_string().starts_with("rank 2 of 3: ") && !error.lost, "{error}");
            assert!(error.problem.contains(problem), "{error}");
        }
    }

    #[test]
    fn what_fails_on_one_rank_fails_on_all() {
        let said = |problem: Option<&str>| Others(vec![serde_json::to_vec(&[problem]).unwrap()]);
        assert_eq!(agreed::<_, RanksError>(&said(None), Ok(5)), Ok(5));
        let error = agreed::<_, RanksError>(&said(Some("the disk is full")), Ok(5)).unwrap_err();
        assert_eq!(error.to_string(), "rank 1 of 2: the disk is full");
        let own = RanksError::odd(&Alone, 0, "mine");
        assert_eq!(agreed::<(), _>(&said(None), Err(own.clone())), Err(own));
    }
}
