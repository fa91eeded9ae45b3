//! Public data sets from the internet: downloaded, verified and unpacked, each step once.
//!
//! In the folder, `<archive>.part` with `<archive>.part.json` (where it comes from) is an unfinished
//! download, and `.<archive>.files` lists the unpacked files. No unpacked file appears before the whole
//! archive is verified.

mod catalogue;
mod checksum;
mod download;
mod meter;
mod unpack;

pub use catalogue::{Archive, find, names};
pub use checksum::{Checksum, file_sha256};

use camtrast_common::error::{Error, Result};
use camtrast_common::files::write_atomically;
use camtrast_common::progress::Progress;
use camtrast_common::run::lock;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One archive and its destination.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// The archive.
    pub archive: Archive,
    /// The folder it is unpacked into, made when missing.
    pub out: PathBuf,
    /// Address of a folder that holds a copy of the archive under the same name, in place of the archive's
    /// address. The checksum is still checked.
    pub base_url: Option<String>,
    /// Whether the archive is unpacked and then removed; otherwise the archive itself is put into the folder.
    pub unpack: bool,
    /// How long the server may send nothing before the download is retried.
    pub stall: Duration,
}

impl FetchOptions {
    /// Default of how long a server may send nothing.
    pub const STALL: Duration = Duration::from_secs(60);
}

/// The result of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The folder or file that holds all of it.
    pub place: PathBuf,
    /// Files unpacked, or 1.
    pub files: usize,
    /// Their bytes together.
    pub bytes: u64,
    /// Whether everything was already there.
    pub was_there: bool,
}

/// Downloads an archive, verifies its checksum and unpacks it. Work of an earlier call is not repeated: an
/// interrupted download is continued, and unpacked files are kept.
///
/// # Errors
/// [`Error::Usage`] for an invalid address; [`Error::Settings`] when the server cannot be reached or has no
/// such file; [`Error::File`] for a wrong checksum or an archive that cannot be unpacked, which is then
/// removed; [`Error::Io`], such as a full disk, after which the same call continues.
pub fn fetch(options: &FetchOptions, progress: &dyn Progress) -> Result<Fetched> {
    let FetchOptions {
        archive,
        out,
        base_url,
        unpack,
        stall,
    } = options;
    let name = file_name(&archive.url)?;
    let url = base_url.as_ref().map_or(archive.url.clone(), |base| {
        format!("{}/{name}", base.trim_end_matches('/'))
    });
    download::check(&url)?;
    fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let _lock = lock(out)?.ok_or_else(|| {
        Error::file(
            out,
            "another camtrast process is downloading into this folder",
            "wait until it ends, or give another --out",
        )
    })?;

    let list = out.join(format!(".{name}.files"));
    if *unpack && let Some(unpacked) = Unpacked::read(&list).filter(|u| u.is_there(out, &archive.checksum)) {
        return Ok(unpacked.fetched(out, true));
    }
    let whole = out.join(&name);
    let is_whole = whole.is_file();
    let part = download::Part::new(&whole);
    if is_whole {
        // The user put it there, so we must not remove it.
        archive.checksum.verify(&whole, progress)?.map_err(|found| {
            let problem = format!("it has {found} instead of {}", archive.checksum);
            Error::file(&whole, problem, "remove it and run the same command again")
        })?;
    } else {
        download::download(&url, &part, archive.size, *stall, progress)?;
        archive.checksum.verify(part.path(), progress)?.map_err(|found| {
            part.remove();
            let problem = format!(
                "what {url} sent has {found} instead of {}, and was removed",
                archive.checksum
            );
            Error::file(
                &whole,
                problem,
                "run the same command again, or use another source",
            )
        })?;
    }
    if !unpack {
        if !is_whole {
            fs::rename(part.path(), &whole).map_err(Error::io(&whole, "write"))?;
            part.remove();
        }
        let bytes = fs::metadata(&whole).map_err(Error::io(&whole, "read"))?.len();
        return Ok(Fetched {
            place: whole,
            files: 1,
            bytes,
            was_there: is_whole,
        });
    }
    let files = unpack::unpack(if is_whole { &whole } else { part.path() }, &name, out, progress)
        .inspect_err(|error| {
            // A full disk does not mean that the archive is bad.
            if !matches!(error, Error::Io { .. }) {
                part.remove();
            }
        })?;
    let unpacked = Unpacked {
        checksum: archive.checksum.to_string(),
        files,
    };
    write_atomically(&list, |out| Ok(serde_json::to_writer(out, &unpacked)?))?;
    part.remove();
    Ok(unpacked.fetched(out, false))
}

// The last part of an address, as the name of a file.
fn file_name(url: &str) -> Result<String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path
        .split_once('/')
        .and_then(|(_, path)| path.rsplit('/').next())
        .unwrap_or_default();
    if name.is_empty() || name.starts_with('.') || name.contains(['\\', '\0']) {
        return Err(Error::Usage {
            problem: format!("the address {url:?} does not end with a file name"),
            remedy: "give the address of one archive".into(),
        });
    }
    Ok(name.to_owned())
}

/// The files unpacked from an archive.
#[derive(Serialize, Deserialize)]
struct Unpacked {
    /// Checksum of the archive.
    checksum: String,
    /// Path below the folder, and bytes.
    files: Vec<(PathBuf, u64)>,
}

impl Unpacked {
    fn read(list: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(list).ok()?).ok()
    }

    fn is_there(&self, out: &Path, checksum: &Checksum) -> bool {
        let there =
            |(path, bytes): &(PathBuf, u64)| fs::metadata(out.join(path)).is_ok_and(|m| m.len() == *bytes);
        self.checksum == checksum.to_string() && self.files.iter().all(there)
    }

    fn fetched(&self, out: &Path, was_there: bool) -> Fetched {
        let first = self.files.first().and_then(|(path, _)| path.components().next());
        let shared = first.filter(|first| {
            self.files
                .iter()
                .all(|(path, _)| path.components().next() == Some(*first))
        });
        let place = shared.map_or(out.to_owned(), |first| out.join(first));
        Fetched {
            place,
            files: self.files.len(),
            bytes: self.files.iter().map(|(_, b)| b).sum(),
            was_there,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_come_from_the_end_of_an_address() {
        assert_eq!(
            file_name("https://a.org/b/c.tar.gz?token=1#x").unwrap(),
            "c.tar.gz"
        );
        for bad in [
            "https://a.org",
            "https://a.org/",
            "https://a.org/b/",
            "https://a.org/..",
            "c.tar",
        ] {
            assert!(matches!(file_name(bad), Err(Error::Usage { .. })), "{bad}");
        }
    }
}
