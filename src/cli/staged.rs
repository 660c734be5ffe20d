//! The files of a bundle on their way to their directory, which they reach all together.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{Builder, TempDir};

use super::Failure;
use super::files::{at, write};
use crate::model::{FileHash, MANIFEST, sha256};

/// A directory beside or within that of a bundle, on its disk; it is removed with this value.
#[derive(Debug)]
pub(super) struct Staged {
    dir: TempDir,
    out: PathBuf,
    /// True if the bundle's directory does not exist yet.
    is_new: bool,
}

impl Staged {
    /// Prepares to write the bundle `out`, so that a place that can't be written is told before the work is done.
    pub(super) fn new(out: &Path) -> Result<Self, Failure> {
        let is_new = !out.exists();
        let refused = |error: &std::io::Error| {
            Failure::refused(format!("--out: {}: found no place to write to: {error}", out.display()))
        };
        let parent =
            out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        let place = if is_new { parent } else { out };
        fs::create_dir_all(place).map_err(|error| refused(&error))?;
        // The bundle gets the permissions that the umask leaves, as any directory does.
        let mut builder = Builder::new();
        builder.prefix(".bundle-").suffix(".part").permissions(Permissions::from_mode(0o777));
        let dir = builder.tempdir_in(place).map_err(|error| refused(&error))?;
        Ok(Self { dir, out: out.to_owned(), is_new })
    }

    /// Returns the directory of the files.
    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Brings a file of another bundle; one of the same directory stays where it is.
    pub(super) fn bring(&self, from: &Path, name: &str) -> Result<(), Failure> {
        let to = self.path().join(name);
        let is_same = fs::canonicalize(from).ok() == fs::canonicalize(self.out.join(name)).ok();
        // A link elsewhere would let a change of one bundle's file change the other's.
        if is_same && fs::hard_link(from, &to).is_ok() {
            return Ok(());
        }
        fs::copy(from, &to).map(|_| ()).map_err(|error| at(from, &error))
    }

    /// Writes a file and returns its hash.
    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> Result<FileHash, Failure> {
        let path = self.path().join(name);
        write(&path, bytes)?;
        let sha256 = sha256(&path).map_err(|error| at(&path, &error))?;
        Ok(FileHash { file: name.to_owned(), sha256 })
    }

    /// Moves the files into the bundle's directory: all at once where it is new, else the manifest last.
    pub(super) fn publish(self) -> Result<(), Failure> {
        let failed = |error: std::io::Error| at(&self.out, &error);
        if self.is_new && !self.out.exists() {
            return fs::rename(self.dir.path(), &self.out).map_err(failed);
        }
        let entries = fs::read_dir(self.dir.path()).map_err(failed)?;
        let names: Vec<_> =
            entries.map(|entry| Ok(entry?.file_name())).collect::<Result<_, _>>().map_err(failed)?;
        let (last, first): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name == MANIFEST);
        fs::create_dir_all(&self.out).map_err(failed)?;
        for name in first.iter().chain(&last) {
            fs::rename(self.dir.path().join(name), self.out.join(name)).map_err(failed)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_bundle_appears_whole_and_what_is_dropped_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("deep/new");
        let staged = Staged::new(&out).unwrap();
        staged.write("heads.onnx", "heads").unwrap();
        assert!(!out.exists());
        drop(staged);
        assert_eq!(names(&dir.path().join("deep")), Vec::<String>::new());

        let staged = Staged::new(&out).unwrap();
        staged.write("heads.onnx", "heads").unwrap();
        staged.publish().unwrap();
        assert_eq!(names(&out), ["heads.onnx"]);
        assert_eq!(names(&dir.path().join("deep")), ["new"]);
    }

    #[test]
    fn a_bundle_in_its_encoders_directory_keeps_the_files_that_are_not_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["encoder.onnx", "README.md", "heads.onnx"] {
            fs::write(dir.path().join(name), name).unwrap();
        }
        let staged = Staged::new(dir.path()).unwrap();
        staged.bring(&dir.path().join("encoder.onnx"), "encoder.onnx").unwrap();
        staged.write("heads.onnx", "new").unwrap();
        staged.write(MANIFEST, "manifest").unwrap();
        staged.publish().unwrap();
        assert_eq!(names(dir.path()), ["README.md", MANIFEST, "encoder.onnx", "heads.onnx"]);
        assert_eq!(fs::read_to_string(dir.path().join("heads.onnx")).unwrap(), "new");
    }

    #[test]
    fn a_place_that_is_a_file_is_refused_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = Staged::new(&file.path().join("bundle")).unwrap_err().message;
        assert!(error.starts_with("--out: ") && error.contains("found no place to write to"), "{error}");
    }
}
