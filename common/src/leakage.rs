//! Leakage: whether a network is tested on data it was trained on. Such a result says nothing about new
//! images or new classes. The finding is a text, which is stored and shown with the result: in metrics.json
//! under [`LEAKAGE`], on the terminal, in the report.

use crate::error::{Error, Result};
use crate::tensor_file::hex;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Key of metrics.json for this text.
pub const LEAKAGE: &str = "leakage";

/// Leading bytes of an image file that its print covers, besides its length: compressed images of equal
/// length differ within them.
const START: u64 = 16 << 10;
/// Hexadecimal digits of a print. With 48 bits, the chance that any of 100,000 images collides with any of
/// 10,000 is 1 in 300,000.
const DIGITS: usize = 12;

/// Prints: short checksums of image files, over length and first bytes, so that files need not be read whole.
/// Copies have equal prints, whatever their names and folders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prints(Vec<String>);

impl Prints {
    /// The prints of files, computed in parallel.
    ///
    /// # Errors
    /// [`Error::Io`] naming the first file that cannot be read.
    pub fn of<P: AsRef<Path> + Sync>(files: &[P]) -> Result<Self> {
        files
            .par_iter()
            .map(|file| print(file.as_ref(), START))
            .collect::<Result<_>>()
            .map(Prints)
    }

    /// Whether there are none, as for networks whose training images are not known.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checksum of all of them in their order: 16 hexadecimal digits.
    pub fn sum(&self) -> String {
        hex(&Sha256::digest(self.0.join("\n"))[..8])
    }

    /// How many of the `test` images are among these training images, as a text; `None` if no image is.
    pub fn seen(&self, test: &Prints) -> Option<String> {
        let trained: BTreeSet<&String> = self.0.iter().collect();
        let all = test.0.len();
        match test.0.iter().filter(|print| trained.contains(print)).count() {
            0 => None,
            seen if seen == all => Some(format!("all {all} test images are among the training images")),
            seen => Some(format!(
                "{seen} of {all} test images are among the training images"
            )),
        }
    }
}

/// SHA-256 of a file's whole content, in hexadecimal digits.
///
/// # Errors
/// [`Error::Io`].
pub fn content(path: &Path) -> Result<String> {
    print(path, u64::MAX)
}

fn print(path: &Path, start: u64) -> Result<String> {
    let file = File::open(path).map_err(Error::io(path, "read"))?;
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    let mut bytes = Vec::with_capacity(length.min(start) as usize);
    file.take(start)
        .read_to_end(&mut bytes)
        .map_err(Error::io(path, "read"))?;
    let mut hash = Sha256::new();
    hash.update(length.to_le_bytes());
    hash.update(&bytes);
    Ok(hex(&hash.finalize())[..DIGITS].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_found_whatever_they_are_called_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let trained = Prints::of(&[file("a", b"one"), file("b", b"two"), file("c", b"")]).unwrap();
        let seen = |files: &[std::path::PathBuf]| trained.seen(&Prints::of(files).unwrap());
        assert_eq!(
            seen(&[file("x", b"oneone"), file("y", b"on"), file("z", b"ome")]),
            None
        );
        assert_eq!(seen(&[]), None);
        let copies = [file("x", b"two"), file("y", b"new")];
        assert_eq!(
            seen(&copies).as_deref(),
            Some("1 of 2 test images are among the training images")
        );
        assert_eq!(
            seen(&copies[..1]).as_deref(),
            Some("all 1 test images are among the training images")
        );
        assert!(Prints::default().seen(&trained).is_none() && Prints::default().is_empty());
        assert_ne!(Prints::of(&copies).unwrap().sum(), trained.sum());
        let missing = Prints::of(&[folder.path().join("none")]).unwrap_err().to_string();
        assert!(missing.contains("none"), "{missing}");
    }
}
