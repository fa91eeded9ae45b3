//! What `detection predict` and `segmentation predict` have in common: a folder of somebody's own images, and
//! a folder for what is found in them.

use crate::protocol::Protocol;
use crate::screen::Screen;
use anyhow::{Result, bail};
use camtrast_common::Error;
use camtrast_common::files::{names, remove};
use camtrast_common::progress::Progress;
use camtrast_images::folder::{Photo, Photos};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub struct PredictArgs {
    /// Folder of images (jpg, png, bmp, webp, tif, ppm), also in folders below it
    #[arg(long)]
    images: PathBuf,
    /// Folder for the results: a new or empty one, or one of an earlier prediction, which is replaced
    #[arg(long)]
    pub out: PathBuf,
    /// Draw no pictures
    #[arg(long)]
    pub no_pictures: bool,
}

impl PredictArgs {
    /// Reads the images, prepares the folder, which then holds the record of the command only, and predicts
    /// by `predict`, which writes the files and folders `written` and returns the errors of single images.
    ///
    /// # Errors
    /// Those of folders, and, when all else is done, one that counts the images without results.
    pub fn run(
        self,
        mut protocol: Protocol,
        written: &[&str],
        device: &str,
        screen: &Screen,
        predict: impl FnOnce(&[Photo], &Path) -> camtrast_common::Result<Vec<Error>>,
    ) -> Result<()> {
        let PredictArgs { images, out, .. } = &self;
        prepare(out, images, protocol.command(), written)?;
        let mut photos = Photos::read(images)?;
        if let [first, ..] = &photos.others[..] {
            let (count, first) = (photos.others.len(), first.display());
            screen.note(&format!(
                "passed over, having no image's extension: {count} (the first: {first})"
            ));
        }
        protocol.set("images", images.display().to_string());
        protocol.note("dataset", "images", photos.images.len() as i64);
        protocol.write_config(out, device)?;
        let all = photos.images.len() + photos.problems.len();
        photos.problems.extend(predict(&photos.images, out)?);
        println!("{}", out.display());
        let Some(first) = photos.problems.first() else {
            return Ok(());
        };
        if let [first] = &photos.problems[..] {
            bail!(
                "{first} (1 of {all} images; the results of the others are in {})",
                out.display()
            );
        }
        photos
            .problems
            .iter()
            .for_each(|problem| screen.note(&format!("warning: {problem}")));
        let count = photos.problems.len();
        bail!("{count} of {all} images have no result, the first: {first}")
    }
}

// Makes the folder, or removes an earlier prediction of the same command.
fn prepare(out: &Path, images: &Path, command: &str, written: &[&str]) -> camtrast_common::Result<()> {
    let remedy = "give a new or an empty folder with --out";
    let existing = out
        .ancestors()
        .find_map(|path| match path.as_os_str().is_empty() {
            true => fs::canonicalize(".").ok(),
            false => fs::canonicalize(path).ok(),
        });
    let images = fs::canonicalize(images).map_err(Error::io(images, "read"))?;
    if existing.is_some_and(|existing| existing.starts_with(&images)) {
        return Err(Error::file(out, "lies in the folder of the images", remedy));
    }
    fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
    let record = fs::read_to_string(out.join("config.toml")).unwrap_or_default();
    let ours = record
        .lines()
        .any(|line| line == format!("command = {command:?}"));
    let entries = names(out)?;
    let known = |name: &String| ours && (name == "config.toml" || written.contains(&&name[..]));
    if let Some(other) = entries.iter().find(|name| !known(name)) {
        return Err(Error::file(
            out,
            format!("holds something else ({other})"),
            remedy,
        ));
    }
    for path in entries
        .iter()
        .filter(|name| *name != "config.toml")
        .map(|name| out.join(name))
    {
        remove(&path)?;
    }
    Ok(())
}
