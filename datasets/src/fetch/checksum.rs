//! Checksums as publishers list them.

use super::meter::{Meter, shown};
use camtrast_common::error::{Error, Result};
use camtrast_common::progress::{Progress, Silent};
use camtrast_common::tensor_file::hex;
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The checksum that a file must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Checksum {
    /// 32 hexadecimal digits.
    Md5(String),
    /// 64 hexadecimal digits.
    Sha256(String),
}

impl Checksum {
    /// MD5 as hexadecimal digits. It detects a damaged download, but does not protect from a forged one.
    ///
    /// # Errors
    /// [`Error::Usage`] when they are not 32 or 64 such digits.
    pub fn md5(digits: &str) -> Result<Self> {
        Ok(Checksum::Md5(checked(digits, 32, "MD5")?))
    }

    /// SHA-256 as hexadecimal digits.
    ///
    /// # Errors
    /// [`Error::Usage`] when they are not 32 or 64 such digits.
    pub fn sha256(digits: &str) -> Result<Self> {
        Ok(Checksum::Sha256(checked(digits, 64, "SHA-256")?))
    }

    /// Whether a file has it; otherwise the checksum that it has instead.
    pub(super) fn verify(&self, path: &Path, progress: &dyn Progress) -> Result<Result<(), Checksum>> {
        let found = match self {
            Checksum::Md5(_) => Checksum::Md5(digest::<Md5>(path, progress)?),
            Checksum::Sha256(_) => Checksum::Sha256(digest::<Sha256>(path, progress)?),
        };
        Ok(if found == *self { Ok(()) } else { Err(found) })
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Checksum::Md5(digits) => write!(f, "MD5 {digits}"),
            Checksum::Sha256(digits) => write!(f, "SHA-256 {digits}"),
        }
    }
}

fn checked(digits: &str, length: usize, name: &str) -> Result<String> {
    let digits = digits.trim();
    if digits.len() != length || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Error::Usage {
            problem: format!("{digits:?} is not a {name}"),
            remedy: format!("give its {length} hexadecimal digits"),
        });
    }
    Ok(digits.to_ascii_lowercase())
}

/// SHA-256 of a file's bytes, as hexadecimal digits.
///
/// # Errors
/// [`Error::Io`].
pub fn file_sha256(path: &Path) -> Result<String> {
    digest::<Sha256>(path, &Silent)
}

fn digest<D: Digest>(path: &Path, progress: &dyn Progress) -> Result<String> {
    let mut file = File::open(path).map_err(Error::io(path, "read"))?;
    let size = file.metadata().map_err(Error::io(path, "read"))?.len();
    let mut meter = Meter::new(progress, "verified", &shown(path), Some(size), 0);
    let mut digest = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if read == 0 {
            return Ok(hex(&digest.finalize()));
        }
        digest.update(&buffer[..read]);
        meter.add(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        let md5 = Checksum::md5("900150983CD24FB0D6963F7D28E17F72").unwrap();
        assert_eq!(md5.verify(&path, &Silent).unwrap(), Ok(()));
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(
            Checksum::sha256(sha256).unwrap().verify(&path, &Silent).unwrap(),
            Ok(())
        );
        let other = Checksum::md5(&"0".repeat(32)).unwrap();
        assert_eq!(other.verify(&path, &Silent).unwrap(), Err(md5));
        assert!(Checksum::md5("abc").is_err() && Checksum::sha256(&"g".repeat(64)).is_err());
    }
}
