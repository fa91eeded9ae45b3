//! Streets on disk, in the layout of Cityscapes: `leftImg8bit/{train,val}/camtrast/` and
//! `gtFine/{train,val}/camtrast/`.

use super::encode::{encode, encode_grey};
use super::options::SynthOptions;
use super::street::Street;
use camtrast_common::error::{Error, Result};
use camtrast_common::files::write_renamed;
use std::fs;
use std::path::{Path, PathBuf};

const CITY: &str = "camtrast";
const FRAME: &str = "000019";
const SPLITS: [&str; 2] = ["train", "val"];
const KINDS: [(&str, &str); 2] = [
    ("leftImg8bit", "leftImg8bit.png"),
    ("gtFine", "gtFine_labelIds.png"),
];

/// The folders of the streets, empty and ready.
pub(super) struct StreetFolder {
    root: PathBuf,
    training: usize,
}

impl StreetFolder {
    /// Removes the streets of an earlier run below a folder with our marker, and makes the folders for new
    /// ones.
    pub fn open(options: &SynthOptions) -> Result<Self> {
        for (split, count) in SPLITS.iter().zip(options.streets) {
            for (kind, suffix) in KINDS {
                let folder = folder(&options.out, kind, split);
                if folder.is_dir() {
                    clear(&folder, suffix)?;
                }
                if count > 0 {
                    fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
                }
            }
        }
        Ok(StreetFolder {
            root: options.out.clone(),
            training: options.streets[0],
        })
    }

    /// Writes one street and its label ids, training streets first. Not synced.
    pub fn write(&self, index: usize, street: &Street) -> Result<()> {
        let split = SPLITS[usize::from(index >= self.training)];
        let (height, width) = (street.canvas.height, street.canvas.width);
        let files = [
            encode(&street.canvas, ".png", &[])?,
            encode_grey(&street.labels, height, width)?,
        ];
        KINDS.iter().zip(files).try_for_each(|((kind, suffix), bytes)| {
            let path = folder(&self.root, kind, split).join(format!("{CITY}_{index:06}_{FRAME}_{suffix}"));
            write_renamed(&path, &bytes)
        })
    }
}

fn folder(root: &Path, kind: &str, split: &str) -> PathBuf {
    root.join(kind).join(split).join(CITY)
}

fn clear(folder: &Path, suffix: &str) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(&format!("{CITY}_")) && name.ends_with(&format!("_{FRAME}_{suffix}")) {
            fs::remove_file(&path).map_err(Error::io(&path, "delete"))?;
        }
    }
    Ok(())
}
