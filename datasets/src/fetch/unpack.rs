//! Unpacking tar, tar.gz and zip: plain files below one folder, all of them or none.

use super::meter::Meter;
use camtrast_common::error::{Error, Result};
use camtrast_common::progress::Progress;
use flate2::read::MultiGzDecoder;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use zip::ZipArchive;

/// Unpacks an archive into `out`, replacing files of the same name, and returns each file with its size in
/// bytes, sorted. `name` is for messages. Links in the archive are skipped, with a note.
///
/// # Errors
/// [`Error::File`] for a file that is not an archive, is damaged, or has a path that leads out of `out`;
/// [`Error::Io`]. Nothing is left behind.
pub(super) fn unpack(
    archive: &Path,
    name: &str,
    out: &Path,
    progress: &dyn Progress,
) -> Result<Vec<(PathBuf, u64)>> {
    let staging = Staging::new(out.join(format!(".{name}.unpacking")))?;
    let mut unpacking = Unpacking {
        name,
        staging: &staging.0,
        files: Vec::new(),
        left_out: 0,
    };
    unpacking.read(archive, progress)?;
    if unpacking.left_out > 0 {
        progress.note(&format!("{name}: {} links were skipped", unpacking.left_out));
    }
    let mut files = unpacking.files;
    files.sort();
    // A later file of the same name has replaced the one before.
    files.dedup_by(|later, first| later.0 == first.0);
    if files.is_empty() {
        return Err(Error::file(out.join(name), "holds no files", "check the address"));
    }
    for (path, bytes) in &mut files {
        let (from, to) = (staging.0.join(&*path), out.join(&*path));
        *bytes = fs::metadata(&from).map_err(Error::io(&from, "read"))?.len();
        create_folder_of(&to)?;
        fs::rename(&from, &to).map_err(Error::io(&to, "write"))?;
    }
    Ok(files)
}

/// A temporary folder that is always removed; one of a killed process is replaced.
struct Staging(PathBuf);

impl Staging {
    fn new(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path).map_err(Error::io(&path, "remove"))?;
        }
        fs::create_dir(&path).map_err(Error::io(&path, "create"))?;
        Ok(Staging(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Unpacking<'a> {
    name: &'a str,
    staging: &'a Path,
    files: Vec<(PathBuf, u64)>,
    left_out: usize,
}

impl Unpacking<'_> {
    fn read(&mut self, archive: &Path, progress: &dyn Progress) -> Result<()> {
        let mut file = File::open(archive).map_err(Error::io(archive, "read"))?;
        let size = file.metadata().map_err(Error::io(archive, "read"))?.len();
        let mut head = Vec::new();
        (&mut file)
            .take(512)
            .read_to_end(&mut head)
            .map_err(Error::io(archive, "read"))?;
        file.rewind().map_err(Error::io(archive, "read"))?;
        let metered = Metered {
            file,
            meter: Meter::new(progress, "unpacked", self.name, Some(size), 0),
        };
        let reader = BufReader::with_capacity(1 << 20, metered);
        match &head[..] {
            [0x1f, 0x8b, ..] => self.tar(MultiGzDecoder::new(reader)),
            [b'P', b'K', 3, 4, ..] => self.zip(reader),
            tar if tar.get(257..262) == Some(b"ustar") => self.tar(reader),
            _ => Err(Error::file(
                archive,
                "is neither tar, tar.gz nor zip",
                "give --no-unpack to keep it as it is",
            )),
        }
    }

    fn damaged(&self, problem: impl std::fmt::Display) -> Error {
        let problem = format!(
            "cannot be unpacked: {}",
            problem.to_string().lines().next().unwrap_or_default()
        );
        Error::file(
            self.name,
            problem,
            "give --no-unpack to keep the archive as it is",
        )
    }

    fn tar(&mut self, reader: impl Read) -> Result<()> {
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries().map_err(|e| self.damaged(e))? {
            let mut entry = entry.map_err(|e| self.damaged(e))?;
            let path = entry.path().map_err(|e| self.damaged(e))?.into_owned();
            let kind = entry.header().entry_type();
            if kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse() {
                self.file(&path, &mut entry)?;
            } else if kind.is_dir() {
                self.plain(&path)?;
            } else if kind.is_symlink() || kind.is_hard_link() {
                self.left_out += 1;
            }
        }
        Ok(())
    }

    fn zip(&mut self, reader: impl Read + Seek) -> Result<()> {
        let mut archive = ZipArchive::new(reader).map_err(|e| self.damaged(e))?;
        for i in 0..archive.len() {
            let mut entry = archive.by_index(i).map_err(|e| self.damaged(e))?;
            let path = PathBuf::from(entry.name().map_err(|e| self.damaged(e))?.into_owned());
            if entry.is_symlink() {
                self.left_out += 1;
            } else if entry.is_dir() {
                self.plain(&path)?;
            } else {
                self.file(&path, &mut entry)?;
            }
        }
        Ok(())
    }

    fn plain(&self, path: &Path) -> Result<PathBuf> {
        inside(path).ok_or_else(|| {
            let problem = format!("holds {path:?}, which leads out of the folder, so nothing was unpacked");
            Error::file(self.name, problem, "do not trust its source")
        })
    }

    fn file(&mut self, path: &Path, content: &mut impl Read) -> Result<()> {
        let path = self.plain(path)?;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let to = self.staging.join(&path);
        create_folder_of(&to)?;
        // Not io::copy: whether reading or writing failed makes the difference between a bad archive and a
        // full disk.
        let mut out = File::create(&to).map_err(Error::io(&to, "write"))?;
        let mut buffer = [0; 1 << 16];
        loop {
            let read = content.read(&mut buffer).map_err(|e| self.damaged(e))?;
            if read == 0 {
                break;
            }
            io::Write::write_all(&mut out, &buffer[..read]).map_err(Error::io(&to, "write"))?;
        }
        self.files.push((path, 0));
        Ok(())
    }
}

fn create_folder_of(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(Error::io(folder, "create"))
}

/// A path below a folder, however an archive wrote it; `None` when it leads elsewhere.
fn inside(path: &Path) -> Option<PathBuf> {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(plain)
}

/// A file that counts the bytes read from it.
struct Metered<'a> {
    file: File,
    meter: Meter<'a>,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.meter.add(read);
        Ok(read)
    }
}

impl Seek for Metered<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::files::names;
    use camtrast_common::progress::Silent;
    use std::io::Write;
    use zip::write::{SimpleFileOptions, ZipWriter};

    fn zipped(path: &Path, entries: &[(&str, &str)]) {
        let mut writer = ZipWriter::new(File::create(path).unwrap());
        for (name, text) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
    }

    #[test]
    fn zips_are_unpacked_over_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, out) = (folder.path().join("a.zip"), folder.path().join("out"));
        fs::create_dir_all(out.join("set")).unwrap();
        fs::write(out.join("set/one"), "old").unwrap();
        fs::write(out.join("set/other"), "stays").unwrap();
        zipped(&archive, &[("set/one", "1"), ("set/deep/two", "22")]);
        let files = unpack(&archive, "a.zip", &out, &Silent).unwrap();
        assert_eq!(files, [("set/deep/two".into(), 2), ("set/one".into(), 1)]);
        assert_eq!(fs::read_to_string(out.join("set/one")).unwrap(), "1");
        assert_eq!(names(&out).unwrap(), ["set"]);
        assert_eq!(names(&out.join("set")).unwrap(), ["deep", "one", "other"]);
    }

    #[test]
    fn a_bad_path_or_a_cut_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, out) = (folder.path().join("a.zip"), folder.path().join("out"));
        fs::create_dir(&out).unwrap();
        zipped(&archive, &[("good", "1"), ("../evil", "22")]);
        let message = unpack(&archive, "a.zip", &out, &Silent).unwrap_err().to_string();
        assert!(message.contains("leads out of the folder"), "{message}");
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(2000);
        tar.append_data(&mut header, "good", &[7; 2000][..]).unwrap();
        let bytes = tar.into_inner().unwrap();
        fs::write(&archive, &bytes[..1500]).unwrap();
        let message = unpack(&archive, "a.tar", &out, &Silent).unwrap_err().to_string();
        assert!(message.contains("a.tar: cannot be unpacked"), "{message}");
        assert!(names(&out).unwrap().is_empty() && names(folder.path()).unwrap() == ["a.zip", "out"]);
    }

    #[test]
    fn links_are_never_made() {
        let folder = tempfile::tempdir().unwrap();
        let (archive, out) = (folder.path().join("a.tar"), folder.path().join("out"));
        fs::create_dir(&out).unwrap();
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "way", folder.path()).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(1);
        tar.append_data(&mut header, "way/evil", &b"x"[..]).unwrap();
        tar.finish().unwrap();
        assert_eq!(
            unpack(&archive, "a.tar", &out, &Silent).unwrap(),
            [("way/evil".into(), 1)]
        );
        assert!(!folder.path().join("evil").exists() && out.join("way/evil").is_file());
    }

    #[test]
    fn paths_of_archives_stay_below_the_folder() {
        assert_eq!(inside(Path::new("./a/./b")), Some("a/b".into()));
        assert_eq!(inside(Path::new("a/..b")), Some("a/..b".into()));
        for bad in ["../a", "a/../../b", "/a"] {
            assert_eq!(inside(Path::new(bad)), None, "{bad}");
        }
    }
}
