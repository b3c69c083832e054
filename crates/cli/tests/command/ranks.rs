//! Several processes train one model. Those under MPI are of builds with the cargo feature `mpi`, which CI tests in a stage of its own.

use std::fs;

use crate::support::{RECIPE, folder, refuse, succeed};

#[test]
fn engines_and_micro_batches_are_checked() {
    let folder = folder();
    let at = folder.path();
    fs::write(at.join("recipe.toml"), RECIPE).unwrap();
    let train = "train --config recipe.toml --out out";
    refuse(at, &format!("{train} --ranks gloo"), 2, &["--ranks gloo", "use mpi"]);
    refuse(
        at,
        &format!("{train} --micro-batch 5"),
        2,
        &["--micro-batch", "must divide batch_size, which is 16"],
    );
    refuse(at, &format!("{train} --micro-batch 0"), 2, &["--micro-batch", "must divide batch_size"]);
    if !cfg!(feature = "mpi") {
        refuse(at, &format!("{train} --ranks mpi"), 2, &["--ranks mpi", "--features mpi"]);
    }
    assert!(!at.join("out").exists());
    // The whole step in one, as without the setting.
    succeed(at, train);
    succeed(at, "train --config recipe.toml --micro-batch 16 --out whole");
    let weights = |name: &str| fs::read(at.join(name).join("steps.jsonl")).unwrap();
    assert_eq!(weights("out"), weights("whole"));
}

#[cfg(all(feature = "mpi", target_os = "linux"))]
mod mpi {
    use std::fs;
    use std::path::Path;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    use crate::support::{RECIPE, folder, succeed};

    /// The command on so many ranks of this machine; `None` without `mpirun`.
    fn mpirun(at: &Path, ranks: usize, arguments: &str) -> Option<Child> {
        let spawned = Command::new("mpirun")
            // Open MPI's: two cores carry more ranks, and the machines of CI know no other user than root.
            .envs(["RUN_AS_ROOT", "RUN_AS_ROOT_CONFIRM"].map(|name| (format!("OMPI_ALLOW_{name}"), "1")))
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_equipoise"), "--threads", "1"])
            .args(arguments.split_whitespace())
            .current_dir(at)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        if spawned.is_err() {
            println!("skipped: no mpirun");
        }
        spawned.ok()
    }

    /// The processes of the command that belong to a folder.
    fn processes(at: &Path) -> Vec<String> {
        let running = fs::read_dir("/proc").unwrap().flatten();
        let own = running.filter(|entry| {
            fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == at)
                && fs::read_to_string(entry.path().join("comm")).is_ok_and(|name| name.trim() == "equipoise")
        });
        own.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }

    fn files(folder: &Path) -> Vec<Vec<u8>> {
        ["model.safetensors", "best.safetensors", "steps.jsonl"]
            .map(|name| fs::read(folder.join(name)).unwrap())
            .into()
    }

    #[test]
    fn any_number_of_processes_comes_to_the_files_of_one_killed_or_not() {
        let folder = folder();
        let at = folder.path().canonicalize().unwrap();
        let recipe = RECIPE
            .replace("batch_size = 16", "batch_size = 16\nmicro_batch = 2")
            .replace("count = 48", "count = 200")
            .replace("development = 0", "development = 40");
        fs::write(at.join("recipe.toml"), recipe).unwrap();
        let train = "train --config recipe.toml --adversary pgd --eps 0.15 --pgd-steps 2 --epochs 3";
        succeed(&at, &format!("{train} --out alone"));
        for ranks in [1, 2, 4] {
            let Some(child) = mpirun(&at, ranks, &format!("{train} --ranks mpi --out ranks-{ranks}")) else {
                return;
            };
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(files(&at.join(format!("ranks-{ranks}"))), files(&at.join("alone")), "{ranks} ranks");
        }
        // One of four is killed; two go on.
        let steps = at.join("killed/steps.jsonl");
        let long = format!("{train} --ranks mpi --out killed");
        let child = mpirun(&at, 4, &long).unwrap();
        let until = Instant::now() + Duration::from_secs(120);
        while fs::read_to_string(&steps).map_or(0, |text| text.lines().count()) < 3 {
            assert!(Instant::now() < until, "three steps take less than two minutes");
            std::thread::sleep(Duration::from_millis(2));
        }
        let victim = processes(&at).pop().expect("a rank that runs");
        assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success() && !at.join("killed/model.safetensors").exists());
        let until = Instant::now() + Duration::from_secs(30);
        while !processes(&at).is_empty() {
            assert!(Instant::now() < until, "no rank outlives another");
            std::thread::sleep(Duration::from_millis(10));
        }
        let resumed = "train --resume --ranks mpi --out killed";
        let output = mpirun(&at, 2, resumed).unwrap().wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(files(&at.join("killed")), files(&at.join("alone")));
        // Refused on every rank, by a message and not by waiting.
        let output =
            mpirun(&at, 2, &format!("{train} --ranks mpi --out alone")).unwrap().wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("the folder is not empty"), "{said}");
    }
}
