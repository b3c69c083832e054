//! What the documents say: links lead somewhere, commands are understood, versions agree, and crates hold what their
//! sources include.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use equipoise::assess::ReadoutChoice;
use equipoise::attack;
use equipoise::gradient::parse_list;

/// Where the workspace begins.
fn root() -> PathBuf {
    normal(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."))
}

/// Without `.` and `..`, which are resolved by name: a symbolic link stays one.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => assert!(normal.pop(), "{path:?}"),
            part => normal.push(part),
        }
    }
    normal
}

/// All files below a folder whose names end so, symbolic links left out.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let (path, kind) = entry.map(|entry| (entry.path(), entry.file_type().unwrap())).unwrap();
        if kind.is_dir() {
            found.extend(files(&path, ending));
        } else if kind.is_file() && path.to_string_lossy().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

/// A Markdown file.
struct Page {
    path: PathBuf,
    /// Lines outside code blocks.
    prose: Vec<String>,
    /// Code blocks, by language.
    code: Vec<(String, String)>,
}

impl Page {
    fn read(path: PathBuf) -> Self {
        let (mut prose, mut code) = (Vec::new(), Vec::<(String, String)>::new());
        let mut inside = false;
        for line in fs::read_to_string(&path).unwrap().lines() {
            match (line.trim_start().strip_prefix("```"), inside) {
                (Some(language), false) => code.push((language.to_owned(), String::new())),
                (None, false) => {
                    prose.push(line.to_owned());
                    continue;
                }
                (Some(_), true) => {}
                (None, true) => {
                    let block = &mut code.last_mut().unwrap().1;
                    block.push_str(line);
                    block.push('\n');
                    continue;
                }
            }
            inside = !inside;
        }
        assert!(!inside, "{path:?}: a code block has no end");
        Self { path, prose, code }
    }

    /// The anchors of its headings, as GitHub and mdBook name them.
    fn anchors(&self) -> BTreeSet<String> {
        let headings = self.prose.iter().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let title = line.trim_start_matches('#').trim().to_lowercase();
                let kept = title.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }
}

/// What the site holds; see `docs/site/build`.
const CONTENTS: &str = "docs/site/SUMMARY.md";

fn pages() -> Vec<Page> {
    let root = root();
    let mut paths: Vec<PathBuf> =
        ["docs", "models", "benchmarks"].iter().flat_map(|folder| files(&root.join(folder), ".md")).collect();
    let top = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path());
    paths.extend(top.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    // The site's table of contents is no page: it counts from the repository's root.
    paths.retain(|path| !path.ends_with(CONTENTS));
    assert!(paths.len() > 35, "{} pages", paths.len());
    paths.into_iter().map(Page::read).collect()
}

/// What stands between `start` and `end`, wherever that is.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Vec<&'a str> {
    text.split(start).skip(1).filter_map(|rest| rest.split_once(end)).map(|(inside, _)| inside).collect()
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let anchors = |file: &Path, anchor: &str| {
        let page = pages.iter().find(|page| page.path == file);
        page.is_some_and(|page| page.anchors().contains(anchor))
    };
    let rustdoc = fs::read_to_string(root().join("crates/equipoise/src/guide/links.md")).unwrap();
    let mut checked = 0;
    for page in &pages {
        let path = &page.path;
        let definitions: Vec<(&str, &str)> =
            page.prose.iter().filter_map(|line| line.strip_prefix('[')?.split_once("]: ")).collect();
        let text = page.prose.join("\n");
        for label in between(&text, "][", "]").into_iter().filter(|label| label.ends_with(".md")) {
            assert!(definitions.iter().any(|(defined, _)| *defined == label), "{path:?}: [{label}]");
            let guide = path.starts_with(root().join("docs/guide"));
            assert!(!guide || rustdoc.contains(&format!("[{label}]: ")), "links.md: [{label}]");
        }
        let targets = definitions.iter().map(|(_, target)| *target);
        for target in targets.chain(between(&text, "](", ")")) {
            if target.starts_with("https://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file =
                if file.is_empty() { path.clone() } else { normal(&path.parent().unwrap().join(file)) };
            assert!(file.exists(), "{path:?}: {target}");
            assert!(anchor.is_empty() || anchors(&file, anchor), "{path:?}: {target}: no such heading");
            checked += 1;
        }
    }
    assert!(checked > 150, "{checked}");
}

#[test]
fn the_site_holds_every_page() {
    let contents = fs::read_to_string(root().join(CONTENTS)).unwrap();
    for page in pages() {
        let path = page.path.strip_prefix(root()).unwrap().display().to_string();
        assert!(contents.contains(&format!("]({path})")), "{CONTENTS} lacks {path}");
    }
}

/// The words of a line as a POSIX shell splits them; a comment ends it.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            ('#', None) if word.is_none() => break,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    assert!(quote.is_none(), "a quotation mark has no partner: {line}");
    words.extend(word);
    words
}

fn equipoise(arguments: &[String]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_equipoise")).args(arguments).output().unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// Every command line of the documents and of `--help`, without the program's name, and where it stands.
fn commands() -> Vec<(String, Vec<String>)> {
    let mut lines = Vec::new();
    for page in pages() {
        let shell = page.code.iter().filter(|(language, _)| language == "sh").map(|(_, code)| code);
        let shell = shell.map(String::as_str).collect::<Vec<_>>().join("\n").replace("\\\n", " ");
        let here = page.path.display().to_string();
        lines.extend(shell.lines().map(|line| (here.clone(), line.trim().to_owned())));
    }
    for name in
        ["train", "evaluate", "certify", "diagnose", "trace", "import", "export", "info", "report", "bench"]
    {
        let (_, help) = equipoise(&[name.to_owned(), "--help".to_owned()]);
        let examples = help.split_once("\nExamples:\n").or(help.split_once("\nExample:\n"));
        let examples = examples.unwrap_or_else(|| panic!("{name} --help has no example")).1;
        // A long line is wrapped: what does not begin with a command belongs to the line before it.
        let mut joined: Vec<String> = Vec::new();
        for line in examples.lines().take_while(|line| !line.trim().is_empty()) {
            let line = line.trim();
            match joined.last_mut() {
                Some(last) if !["equipoise ", "sh "].iter().any(|begin| line.starts_with(begin)) => {
                    *last += &format!(" {line}");
                }
                _ => joined.push(line.to_owned()),
            }
        }
        lines.extend(joined.into_iter().map(|line| (format!("{name} --help"), line)));
    }
    let commands = lines.into_iter().filter_map(|(here, line)| {
        Some((here, words(line.strip_prefix("equipoise ").or(line.strip_prefix("cargo run --release -- "))?)))
    });
    commands.collect()
}

#[test]
fn commands_are_understood() {
    let commands = commands();
    assert!(commands.len() > 60, "{}", commands.len());
    let mut specs = 0;
    for (here, words) in commands {
        // The parser sees all words before it comes to the help that it is asked for.
        let (understood, said) = equipoise(&[&words[..], &["--help".to_owned()]].concat());
        assert!(understood, "{here}: {words:?}: {said}");
        for pair in words.windows(2) {
            let (flag, value) = (pair[0].as_str(), pair[1].as_str());
            let wrong = |error: &dyn std::fmt::Display| -> ! { panic!("{here}: {flag} {value}: {error}") };
            let names = || equipoise::readout::names(value);
            match flag {
                _ if value == "none" => continue,
                "--gradients" | "--gradient" => {
                    parse_list(value).unwrap_or_else(|error| wrong(&error));
                }
                "--attacks" => names().filter(|name| *name != "whitebox").for_each(|name| {
                    attack::set(name).unwrap_or_else(|error| wrong(&error));
                }),
                "--readouts" => names().for_each(|name| {
                    name.parse::<ReadoutChoice>().unwrap_or_else(|error| wrong(&error));
                }),
                _ => continue,
            }
            specs += 1;
        }
    }
    assert!(specs > 40, "{specs}");
}

#[test]
fn citations_name_this_version() {
    let version = env!("CARGO_PKG_VERSION");
    let says = |file: &str, line: &str| {
        let text = fs::read_to_string(root().join(file)).unwrap();
        assert!(text.lines().any(|l| l.trim() == line), "{file}: no line `{line}`");
    };
    says("CITATION.cff", &format!("version: {version}"));
    says("README.md", &format!("version = {{{version}}},"));
    says("Cargo.toml", &format!("version = \"{version}\""));
}

/// A package is a crate's folder alone: what lies outside builds here and fails for whoever installs it.
#[test]
fn crates_hold_what_they_include() {
    let mut checked = 0;
    for entry in fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        for source in files(&folder.join("src"), ".rs") {
            let text = fs::read_to_string(&source).unwrap();
            for included in
                between(&text, "include_str!(", ")").into_iter().chain(between(&text, "include_bytes!(", ")"))
            {
                let path = included.split('"').nth(1).unwrap_or_else(|| panic!("{source:?}: {included}"));
                let path = normal(&source.parent().unwrap().join(path));
                assert!(path.starts_with(&folder), "{source:?} includes {path:?}");
                assert!(path.exists(), "{source:?} includes {path:?}");
                checked += 1;
            }
        }
    }
    assert!(checked > 5, "{checked}");
}
