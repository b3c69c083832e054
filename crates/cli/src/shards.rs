//! One evaluation in parts, on as many machines as there are: which images a part has, and what is there of the parts when they
//! come together.
//!
//! Part k of n has every n-th image from the k-th on, and a folder of its own, `shard-k-of-n`, with its journal and `shard.json`. It
//! needs nothing of the others.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::arguments;
use crate::error::{Error, input};
use crate::files;
use crate::machine::Machine;

/// The file in a shard's folder that says what it is and how far it is.
const FILE: &str = "shard.json";

/// The most parts: more folders than that are hardly meant.
const MOST: usize = 100_000;

/// One part of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// From 1.
    pub number: usize,
    /// Parts.
    pub of: usize,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// Variables in which a scheduler or launcher says which of how many processes this is: their names, the first number, and the
/// variable of the distance between two numbers, if there is one.
struct Launcher {
    name: &'static str,
    number: &'static str,
    of: &'static str,
    first: First,
}

/// What the first process is called.
enum First {
    Zero,
    /// As this variable says, with the distance to the next in another.
    In(&'static str, &'static str),
}

const LAUNCHERS: [Launcher; 5] = [
    Launcher {
        name: "a Slurm array",
        number: "SLURM_ARRAY_TASK_ID",
        of: "SLURM_ARRAY_TASK_COUNT",
        first: First::In("SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_STEP"),
    },
    Launcher {
        name: "Open MPI",
        number: "OMPI_COMM_WORLD_RANK",
        of: "OMPI_COMM_WORLD_SIZE",
        first: First::Zero,
    },
    Launcher { name: "MPICH", number: "PMI_RANK", of: "PMI_SIZE", first: First::Zero },
    Launcher { name: "torchrun", number: "RANK", of: "WORLD_SIZE", first: First::Zero },
    Launcher { name: "srun", number: "SLURM_PROCID", of: "SLURM_NTASKS", first: First::Zero },
];

impl Shard {
    /// `--shard`: k/n, or auto for what a launcher says in the environment.
    pub fn parse(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        if text == "auto" {
            return Self::launched(variable);
        }
        let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) && of <= MOST => Ok(Self { number, of }),
            _ => Err(input(format!(
                "--shard {text}: give k/n with k from 1 to n, as 2/7 for the second of seven parts, or auto; at most {MOST} \
                 parts"
            ))),
        }
    }

    /// As the environment says.
    fn launched(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let mut found: Vec<(&str, Self)> = Vec::new();
        for launcher in &LAUNCHERS {
            let number = |name: &str| -> Result<Option<usize>, Error> {
                let Some(text) = variable(name) else { return Ok(None) };
                text.parse().map(Some).map_err(|_| input(format!("--shard auto: {name}={text} is no number")))
            };
            let (Some(rank), Some(of)) = (number(launcher.number)?, number(launcher.of)?) else { continue };
            // A single process of a launcher is none of several: Slurm's array tasks are started as such.
            if of < 2 {
                continue;
            }
            let (first, step) = match launcher.first {
                First::Zero => (0, 1),
                First::In(first, step) => (number(first)?.unwrap_or(0), number(step)?.unwrap_or(1)),
            };
            let place = rank.checked_sub(first).filter(|distance| step > 0 && distance % step == 0);
            let place = place.map(|distance| distance / step).filter(|&place| place < of && of <= MOST);
            let Some(place) = place else {
                return Err(input(format!(
                    "--shard auto: {}={rank} and {}={of} do not fit together; give --shard k/n",
                    launcher.number, launcher.of
                )));
            };
            found.push((launcher.name, Self { number: place + 1, of }));
        }
        match found.as_slice() {
            [] => {
                let known: Vec<String> =
                    LAUNCHERS.iter().map(|one| format!("{} and {}", one.number, one.of)).collect();
                Err(input(format!(
                    "--shard auto: no launcher says which of several processes this is (in {}); give --shard k/n",
                    known.join(", ")
                )))
            }
            [(_, first), rest @ ..] if rest.iter().all(|(_, other)| other == first) => Ok(*first),
            several => {
                let says: Vec<String> =
                    several.iter().map(|(name, shard)| format!("{name} says {shard}")).collect();
                Err(input(format!("--shard auto: {}; give --shard k/n", says.join(", "))))
            }
        }
    }

    /// The places of its images among so many.
    pub fn places(self, images: usize) -> Vec<usize> {
        (self.number - 1..images).step_by(self.of).collect()
    }

    fn name(self) -> String {
        format!("shard-{}-of-{}", self.number, self.of)
    }

    /// Its folder in the one that is for all: that itself if it is its own.
    pub fn folder(self, out: &Path) -> PathBuf {
        if out.file_name().is_some_and(|name| name == self.name().as_str()) {
            out.to_owned()
        } else {
            out.join(self.name())
        }
    }
}

/// What a shard says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Which it is.
    pub shard: Shard,
    /// Whether it is done.
    pub complete: bool,
    /// Its images.
    pub images: usize,
    /// Where it was done last.
    pub machine: Machine,
}

impl State {
    /// Writes it into the shard's folder.
    pub fn keep(&self, folder: &Path) -> Result<(), Error> {
        let text = serde_json::to_string_pretty(self).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(equipoise_report::write_atomically(folder.join(FILE), text + "\n")?)
    }

    fn read(folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = files::read_text_within(&path, files::SHORT)?;
        serde_json::from_str(&text).map(Some).map_err(|error| {
            input(format!("{}: {error}; delete the folder and make the shard again", path.display()))
        })
    }
}

/// All shards of a folder, every one of them complete, in order.
pub struct Shards {
    /// The folder that is for all.
    pub out: PathBuf,
    /// Parts.
    pub of: usize,
    /// What each says of itself.
    pub states: Vec<State>,
    /// The arguments that the first was made with.
    pub command: Vec<String>,
}

impl Shards {
    /// Those that are there.
    ///
    /// # Errors
    ///
    /// If some are missing or not done, with the commands that make them; if they are of several divisions; or if their
    /// commands differ in more than where they were run.
    pub fn complete(out: &Path) -> Result<Self, Error> {
        let of = division(out)?;
        let shards = (1..=of).map(|number| Shard { number, of });
        let mut states = Vec::new();
        let mut missing = Vec::new();
        let mut command: Option<(Shard, Vec<String>)> = None;
        for shard in shards {
            let folder = shard.folder(out);
            let state = State::read(&folder)?;
            if let Some(kept) = arguments::read(&folder)? {
                let own = arguments::of_all_shards(&kept);
                match &command {
                    None => command = Some((shard, kept)),
                    Some((first, kept)) if arguments::of_all_shards(kept) != own => {
                        return Err(input(format!(
                            "{}: shard {shard} was made with `{}`, and shard {first} with `{}`; delete the folder of the wrong \
                             one and make it again as the other",
                            out.display(),
                            own.join(" "),
                            arguments::of_all_shards(kept).join(" ")
                        )));
                    }
                    Some(_) => {}
                }
            }
            match state {
                Some(state) if state.complete && state.shard == shard => states.push(state),
                _ => missing.push(shard),
            }
        }
        let command = command.map(|(_, kept)| kept).ok_or_else(|| {
            input(format!("{}: no shard in it says how it was made; make them again", out.display()))
        })?;
        if missing.is_empty() {
            return Ok(Self { out: out.to_owned(), of, states, command });
        }
        Err(input(unfinished(out, of, &missing, &arguments::without_shard(&command))))
    }

    /// The folder of a shard, and the places of its images among so many.
    pub fn parts(&self, images: usize) -> impl Iterator<Item = (PathBuf, Vec<usize>)> {
        let shards = (1..=self.of).map(|number| Shard { number, of: self.of });
        shards.map(move |shard| (shard.folder(&self.out), shard.places(images)))
    }

    /// How many kinds of machines they are from: of one kind the last digits agree.
    pub fn kinds(&self) -> usize {
        let mut kinds: Vec<&Machine> = Vec::new();
        for state in &self.states {
            if !kinds.iter().any(|kind| kind.alike(&state.machine)) {
                kinds.push(&state.machine);
            }
        }
        kinds.len()
    }
}

/// Shards that are named with their commands; of the others the numbers.
const NAMED: usize = 3;

/// Which shards are still to be made, and how.
fn unfinished(out: &Path, of: usize, missing: &[Shard], command: &[String]) -> String {
    let quoted = |word: &String| crate::configuration::quoted(word);
    let words = command.iter().map(quoted).collect::<Vec<_>>().join(" ");
    let folder = crate::configuration::quoted(&out.display().to_string());
    let make = |shard: &Shard| {
        let state = if shard.folder(out).exists() { "not done" } else { "missing" };
        format!("{shard} is {state} (`equipoise {words} --shard {shard} --out {folder}`)")
    };
    let named = missing.iter().take(NAMED).map(make).collect::<Vec<_>>().join(", ");
    let rest: Vec<String> = missing.iter().skip(NAMED).map(ToString::to_string).collect();
    let rest = if rest.is_empty() { String::new() } else { format!("; likewise {}", rest.join(", ")) };
    format!(
        "{}: {} of {of} shards are to be made before they can be merged: {named}{rest}",
        out.display(),
        missing.len()
    )
}

/// Into how many parts a folder is divided.
fn division(out: &Path) -> Result<usize, Error> {
    let entries = fs::read_dir(out).map_err(files::failed(out, "read"))?;
    let mut divisions = Vec::new();
    for entry in entries {
        let entry = entry.map_err(files::failed(out, "read"))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let numbers = name.strip_prefix("shard-").and_then(|rest| rest.split_once("-of-"));
        let shard = numbers.and_then(|(k, n)| Shard::parse(&format!("{k}/{n}"), &|_| None).ok());
        if let Some(Shard { of, .. }) = shard.filter(|shard| shard.name() == name)
            && !divisions.contains(&of)
        {
            divisions.push(of);
        }
    }
    divisions.sort_unstable();
    match divisions.as_slice() {
        [of] => Ok(*of),
        [] => Err(input(format!(
            "{}: there are no shards in it; make them with `equipoise evaluate .. --shard k/n --out {}`",
            out.display(),
            out.display()
        ))),
        several => {
            let several: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(input(format!(
                "{}: it holds shards of divisions into {} parts; move those of all but one away",
                out.display(),
                several.join(" and ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(variables: &[(&str, &str)]) -> Result<String, String> {
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Shard::parse("auto", &variable).map(|shard| shard.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn every_image_is_in_one_part() {
        for of in 1..9 {
            for images in 0..20 {
                let mut all: Vec<usize> =
                    (1..=of).flat_map(|number| Shard { number, of }.places(images)).collect();
                all.sort_unstable();
                assert_eq!(all, (0..images).collect::<Vec<_>>(), "{images} in {of}");
            }
        }
        assert_eq!(Shard { number: 2, of: 3 }.places(9), [1, 4, 7]);
    }

    #[test]
    fn parts_are_read_as_k_of_n() {
        let parse = |text: &str| Shard::parse(text, &|_| None).map(|shard| (shard.number, shard.of));
        assert_eq!(parse("2/7").unwrap(), (2, 7));
        assert_eq!(parse("1/1").unwrap(), (1, 1));
        for wrong in ["0/3", "4/3", "3", "a/b", "", "1/0", "-1/3", "1/1000000"] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("give k/n"), "{wrong}: {error}");
        }
    }

    #[test]
    fn launchers_say_which_part_it_is() {
        let array = |id: &'static str, min: &'static str, step: &'static str, count: &'static str| {
            auto(&[
                ("SLURM_ARRAY_TASK_ID", id),
                ("SLURM_ARRAY_TASK_MIN", min),
                ("SLURM_ARRAY_TASK_STEP", step),
                ("SLURM_ARRAY_TASK_COUNT", count),
                ("SLURM_PROCID", "0"),
                ("SLURM_NTASKS", "1"),
            ])
        };
        assert_eq!(array("0", "0", "1", "4").unwrap(), "1/4");
        assert_eq!(array("5", "2", "1", "4").unwrap(), "4/4");
        assert_eq!(array("9", "1", "4", "3").unwrap(), "3/3");
        assert!(array("9", "2", "4", "3").unwrap_err().contains("do not fit"));
        assert!(array("x", "0", "1", "3").unwrap_err().contains("is no number"));
        assert_eq!(auto(&[("OMPI_COMM_WORLD_RANK", "2"), ("OMPI_COMM_WORLD_SIZE", "3")]).unwrap(), "3/3");
        assert_eq!(auto(&[("PMI_RANK", "0"), ("PMI_SIZE", "2")]).unwrap(), "1/2");
        assert_eq!(auto(&[("RANK", "1"), ("WORLD_SIZE", "8")]).unwrap(), "2/8");
        assert_eq!(auto(&[("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4")]).unwrap(), "4/4");
        // mpirun below Slurm: both say the same.
        let both = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4"), ("RANK", "3"), ("WORLD_SIZE", "4")];
        assert_eq!(auto(&both).unwrap(), "4/4");
        let other = [("SLURM_PROCID", "1"), ("SLURM_NTASKS", "4"), ("RANK", "3"), ("WORLD_SIZE", "4")];
        assert!(auto(&other).unwrap_err().contains("torchrun says 4/4, srun says 2/4"));
        assert!(auto(&[("RANK", "4"), ("WORLD_SIZE", "4")]).unwrap_err().contains("do not fit"));
        assert!(auto(&[]).unwrap_err().contains("give --shard k/n"));
        assert!(auto(&[("RANK", "0"), ("WORLD_SIZE", "1")]).unwrap_err().contains("no launcher"));
    }

    equipoise_fuzz::fuzz!(states_of_shards, 1000, {
        let machine = Machine {
            host: "here".into(),
            processor: "a processor".into(),
            instruction_set: "AVX2".into(),
            equipoise: "0.1.0".into(),
            binary: "0".repeat(64),
        };
        let state = State { shard: Shard { number: 1, of: 1 }, complete: true, images: 7, machine };
        let command = r#"{"equipoise":"0.1.0","arguments":["evaluate","--shard","1/1"]}"#;
        let text = serde_json::to_string(&state).unwrap();
        let sample =
            equipoise_fuzz::Sample::of("shard-1-of-1/shard.json", text, equipoise_fuzz::mutate::json);
        let sample = sample.and("shard-1-of-1/command.json", command, Some(equipoise_fuzz::mutate::json));
        equipoise_fuzz::Target::new(vec![sample], |folder| {
            let shards = Shards::complete(folder).map_err(|error| error.to_string())?;
            assert!(shards.states.len() == 1 && shards.states[0].complete && shards.kinds() == 1);
            Ok(())
        })
    });

    #[test]
    fn a_shard_in_its_own_folder_makes_no_other() {
        let shard = Shard { number: 2, of: 7 };
        assert_eq!(shard.folder(Path::new("out")), Path::new("out/shard-2-of-7"));
        assert_eq!(shard.folder(Path::new("out/shard-2-of-7")), Path::new("out/shard-2-of-7"));
    }
}
