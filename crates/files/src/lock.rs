//! One writer at a time in a folder: a lock that ends with its process, however that ends.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::sweep;

/// The file that is locked.
pub(crate) const NAME: &str = ".lock";

/// A folder that nobody else writes to until this is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    held: bool,
}

impl Lock {
    /// Whether others are locked out: not on a file system without locks, as some clusters have them.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// What to tell the user where others are not locked out.
    pub fn warning(&self) -> Option<String> {
        let folder = self.path.parent().unwrap_or(&self.path).display();
        (!self.held).then(|| {
            format!("{folder}: its file system has no locks; see to it that no other run writes there")
        })
    }
}

/// Makes a folder for the only run that writes to it until the lock is dropped. One that is resumed loses what a killed run
/// left half written.
///
/// # Errors
///
/// Those of [`lock`]; what the operating system says if the folder cannot be made or cleared.
pub fn claim(folder: impl AsRef<Path>, resumed: bool) -> io::Result<Lock> {
    fs::create_dir_all(&folder)?;
    let lock = lock(&folder)?;
    if resumed {
        sweep(&folder)?;
    }
    Ok(lock)
}

/// Locks a folder against other processes (and other locks of this one) that lock it too.
///
/// # Errors
///
/// [`ErrorKind::ResourceBusy`] if it is locked already; what the operating system says if the folder cannot be written
/// to.
pub fn lock(folder: impl AsRef<Path>) -> io::Result<Lock> {
    let path = folder.as_ref().join(NAME);
    loop {
        let file = File::options().create(true).truncate(false).write(true).open(&path)?;
        let held = match file.try_lock() {
            Ok(()) => true,
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(ErrorKind::ResourceBusy, "another run is writing to this folder"));
            }
            Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => false,
            Err(TryLockError::Error(error)) => return Err(error),
        };
        // Whoever held the lock may have removed the file in between: then this one has no name, and locks nobody out.
        if is_at(&file, &path)? {
            return Ok(Lock { file, path, held });
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    match fs::metadata(path) {
        Ok(there) => {
            let here = file.metadata()?;
            Ok((here.dev(), here.ino()) == (there.dev(), there.ino()))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Where open files cannot be removed.
#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> io::Result<bool> {
    Ok(true)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // First the name, then the lock: nobody can lock a file that is about to go. What fails leaves an empty file.
        let _ = fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_writer() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        assert_eq!(lock(folder.path()).unwrap_err().kind(), ErrorKind::ResourceBusy);
        assert!(held.is_held());
        drop(held);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        // What a killed process left behind locks nobody out.
        fs::write(folder.path().join(NAME), "").unwrap();
        drop(lock(folder.path()).unwrap());
        assert_eq!(lock(folder.path().join("none")).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_a_killed_run_left_half_written_goes_when_it_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("a/b");
        drop(claim(&out, false).unwrap());
        let left = out.join(".equipoise-x");
        fs::write(&left, "half").unwrap();
        drop(claim(&out, false).unwrap());
        assert!(left.exists());
        let held = claim(&out, true).unwrap();
        assert!(!left.exists());
        assert_eq!(held.warning(), None);
        assert_eq!(claim(&out, true).unwrap_err().kind(), ErrorKind::ResourceBusy);
    }

    #[test]
    fn of_many_that_come_and_go_never_two_are_inside() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let folder = tempfile::tempdir().unwrap();
        let (inside, entered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while entered.load(Ordering::SeqCst) < 400 {
                        let Ok(held) = lock(folder.path()) else { continue };
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        entered.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        drop(held);
                    }
                });
            }
        });
    }
}
