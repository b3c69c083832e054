//! `--ranks`: the processes that train one model together.

use equipoise::train::{Alone, Ranks};

use crate::error::{Error, input};

/// The ranks of an engine, by its name; this process alone if none was given.
pub fn open(engine: Option<&str>) -> Result<Box<dyn Ranks>, Error> {
    match engine {
        None => Ok(Box::new(Alone)),
        #[cfg(feature = "mpi")]
        Some("mpi") => mpi::open(),
        #[cfg(not(feature = "mpi"))]
        Some("mpi") => Err(input(
            "--ranks mpi: this build has no MPI; build with `cargo install --path crates/cli --features mpi` where an MPI \
             library and libclang are installed",
        )),
        Some(other) => {
            Err(input(format!("--ranks {other}: unknown; use mpi, or leave it out to train in one process")))
        }
    }
}

#[cfg(feature = "mpi")]
mod mpi {
    use equipoise::train::{Ranks, RanksError};
    use mpi::Count;
    use mpi::datatype::{Partition, PartitionMut};
    use mpi::environment::Universe;
    use mpi::topology::SimpleCommunicator;
    use mpi::traits::{Communicator, CommunicatorCollectives};

    use crate::error::{Error, input};

    /// The processes that `mpirun` or `srun` has started. MPI itself ends them all if one dies.
    struct Mpi {
        world: SimpleCommunicator,
        /// Ends MPI when it goes.
        _universe: Universe,
    }

    pub fn open() -> Result<Box<dyn Ranks>, Error> {
        // One thread exchanges: that which trains.
        let (universe, _) = mpi::initialize_with_threading(mpi::Threading::Funneled)
            .ok_or_else(|| input("--ranks mpi: MPI is running in this process already"))?;
        Ok(Box::new(Mpi { world: universe.world(), _universe: universe }))
    }

    impl Mpi {
        fn count(&self, length: usize) -> Result<Count, RanksError> {
            let problem =
                || RanksError::lost(self, format!("{length} bytes are more than MPI sends at once"));
            Count::try_from(length).map_err(|_| problem())
        }

        /// Where each of several parts begins, and their length together.
        fn places(&self, counts: &[Count]) -> Result<(Vec<Count>, usize), RanksError> {
            let total = counts.iter().map(|&count| count as usize).sum();
            self.count(total)?;
            let places = counts.iter().scan(0, |next, count| Some(std::mem::replace(next, *next + count)));
            Ok((places.collect(), total))
        }
    }

    /// The parts of what was received.
    fn split(received: &[u8], counts: &[Count]) -> Vec<Vec<u8>> {
        let mut rest = received;
        let part = |&count: &Count| {
            let (part, others) = rest.split_at(count as usize);
            rest = others;
            part.to_vec()
        };
        counts.iter().map(part).collect()
    }

    impl Ranks for Mpi {
        fn rank(&self) -> usize {
            self.world.rank() as usize
        }

        fn size(&self) -> usize {
            self.world.size() as usize
        }

        fn all_to_all(&self, parts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, RanksError> {
            let given: Result<Vec<Count>, _> = parts.iter().map(|part| self.count(part.len())).collect();
            let given = given?;
            let mut taken: Vec<Count> = vec![0; given.len()];
            self.world.all_to_all_into(&given[..], &mut taken[..]);
            let ((from, _), (to, total)) = (self.places(&given)?, self.places(&taken)?);
            let mut received = vec![0; total];
            self.world.all_to_all_varcount_into(
                &Partition::new(&parts.concat()[..], &given[..], &from[..]),
                &mut PartitionMut::new(&mut received[..], &taken[..], &to[..]),
            );
            Ok(split(&received, &taken))
        }

        fn all_gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>, RanksError> {
            let mut counts: Vec<Count> = vec![0; self.size()];
            self.world.all_gather_into(&self.count(own.len())?, &mut counts[..]);
            let (places, total) = self.places(&counts)?;
            let mut received = vec![0; total];
            let mut partition = PartitionMut::new(&mut received[..], &counts[..], &places[..]);
            self.world.all_gather_varcount_into(&own[..], &mut partition);
            Ok(split(&received, &counts))
        }
    }
}
