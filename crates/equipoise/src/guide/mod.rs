// The pages of `docs/guide`, so that their examples are compiled and run with the tests. A page's last lines say where
// its links lead on GitHub; `links.md`, which comes before them, says where the same labels lead here: the first
// definition of a label counts.
#![doc = include_str!("links.md")]
#![doc = include_str!("../../../../docs/guide/README.md")]

macro_rules! page {
    ($name:ident, $file:literal) => {
        #[doc = include_str!("links.md")]
        #[doc = include_str!(concat!("../../../../docs/guide/", $file))]
        pub mod $name {}
    };
}

page!(equilibrium, "equilibrium.md");
page!(gradients_overview, "gradients.md");

/// Gradient estimators, a page each.
pub mod gradients {
    page!(exact, "gradients/exact.md");
    page!(unrolled, "gradients/unrolled.md");
    page!(adjoint, "gradients/adjoint.md");
    page!(through_solver, "gradients/through-solver.md");
    page!(ensemble, "gradients/ensemble.md");
    page!(joint, "gradients/joint.md");
    page!(aimed, "gradients/aimed.md");
}

page!(attacks_overview, "attacks.md");

/// Attacks, a page each.
pub mod attacks {
    page!(pgd, "attacks/pgd.md");
    page!(apgd, "attacks/apgd.md");
    page!(fab, "attacks/fab.md");
    page!(square, "attacks/square.md");
    page!(autoattack, "attacks/autoattack.md");
    page!(whitebox, "attacks/whitebox.md");
}

page!(defences, "defences.md");
page!(training, "training.md");
page!(diagnostics, "diagnostics.md");
page!(report, "report.md");
page!(reporting, "reporting.md");
page!(own_cell, "own-cell.md");
page!(pytorch, "pytorch.md");

#[cfg(test)]
mod tests {
    //! What rustdoc does not see: where links lead on GitHub, and what the commands say.

    use std::fs;
    use std::path::{Path, PathBuf};

    use crate::attack;
    use crate::gradient::parse_list;
    use crate::readout::Readout;

    /// Every page: its path and text.
    fn pages() -> Vec<(PathBuf, String)> {
        fn below(folder: &Path) -> Vec<PathBuf> {
            let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
        }
        let pages = below(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guide"));
        assert!(pages.len() > 20, "{} pages", pages.len());
        pages.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
    }

    /// What stands between `start` and `end`, wherever that is.
    fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
        text.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(inside, _)| inside).collect()
    }

    #[test]
    fn links_lead_to_files() {
        let here = include_str!("links.md");
        for (path, text) in pages() {
            let definitions: Vec<(&str, &str)> =
                text.lines().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect();
            for label in between(&text, "][", "]").into_iter().filter(|label| label.ends_with(".md")) {
                assert!(definitions.iter().any(|(defined, _)| *defined == label), "{path:?}: [{label}]");
                assert!(here.contains(&format!("[{label}]: ")), "links.md: [{label}]");
            }
            let targets = definitions.iter().map(|(_, target)| *target);
            for target in targets.chain(between(&text, "](", ")")) {
                assert!(path.parent().unwrap().join(target).is_file(), "{path:?}: {target}");
            }
        }
    }

    #[test]
    fn commands_name_what_exists() {
        let mut checked = 0;
        for (path, text) in pages() {
            let blocks = between(&text, "```sh\n", "```").join("\n").replace("\\\n", " ");
            for command in blocks.lines().filter(|line| line.starts_with("equipoise ")) {
                // Odd parts stood in quotation marks.
                let parts = command.split('"').enumerate();
                let words: Vec<&str> = parts
                    .flat_map(
                        |(k, part)| if k % 2 == 1 { vec![part] } else { part.split_whitespace().collect() },
                    )
                    .collect();
                for pair in words.windows(2) {
                    match (pair[0], pair[1]) {
                        (_, "none") => continue,
                        ("--gradients" | "--gradient", specs) => {
                            parse_list(specs).unwrap_or_else(|error| panic!("{path:?}: {error}"));
                        }
                        ("--attacks", names) => {
                            for name in names.split(',').filter(|name| *name != "whitebox") {
                                attack::set(name).unwrap_or_else(|error| panic!("{path:?}: {error}"));
                            }
                        }
                        ("--readouts", names) => {
                            for name in names.split(',').filter(|name| *name != "early") {
                                name.parse::<Readout>().unwrap_or_else(|error| panic!("{path:?}: {error}"));
                            }
                        }
                        _ => continue,
                    }
                    checked += 1;
                }
            }
        }
        assert!(checked > 20, "{checked}");
    }
}
