//! Files are written whole or not at all.

use equipoise_report::{ReportError, write_atomically};
use std::path::Path;

fn listing(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn replaces_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.md");
    write_atomically(&path, "old").unwrap();
    write_atomically(&path, "new").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(listing(folder.path()), ["report.md"]);
}

#[test]
fn leaves_nothing_behind_on_failure() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("taken/full")).unwrap();
    let error = write_atomically(folder.path().join("taken"), "x").unwrap_err();
    assert!(matches!(error, ReportError::Write { .. }));
    assert_eq!(listing(folder.path()), ["taken"]);
}

#[test]
fn says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let error = write_atomically(folder.path().join("missing/report.md"), "x").unwrap_err().to_string();
    assert!(error.contains("report.md") && error.contains("does not exist: create it"), "{error}");
    assert!(!error.contains(".equipoise-"), "{error}");
    assert!(listing(folder.path()).is_empty());
}

#[cfg(unix)]
#[test]
fn an_unwritable_folder_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o555);
    // Permissions do not bind the superuser: there is nothing to test then.
    if std::fs::write(folder.path().join("probe"), "").is_err() {
        let error = write_atomically(folder.path().join("report.md"), "x").unwrap_err().to_string();
        assert!(error.contains("not writable"), "{error}");
        assert!(listing(folder.path()).is_empty());
    }
    mode(0o755);
}
