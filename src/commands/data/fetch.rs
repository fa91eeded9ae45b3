//! `camtrast data fetch`.

use crate::commands::Common;
use anyhow::Result;
use camtrast_common::Error;
use camtrast_datasets::fetch::{Archive, Checksum, find, names};
use camtrast_datasets::{FetchOptions, fetch};
use clap::Args;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Args)]
pub struct FetchArgs {
    /// The data sets; for those that need an account, the command prints where to get them
    #[arg(
        value_name = "NAME",
        required_unless_present = "url",
        value_parser = PossibleValuesParser::new(names())
    )]
    names: Vec<String>,
    /// Folder to unpack into
    #[arg(long)]
    out: PathBuf,
    /// Folder of a mirror that has the archives under the same names; they must have the same checksums
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Any other archive (tar, tar.gz or zip), instead of a name
    #[arg(long, conflicts_with_all = ["names", "base_url"])]
    url: Option<String>,
    /// SHA-256 of the archive at --url
    #[arg(long, value_name = "HEX", requires = "url", conflicts_with = "md5")]
    sha256: Option<String>,
    /// MD5 of the archive at --url, if no SHA-256 is published
    #[arg(long, value_name = "HEX", requires = "url")]
    md5: Option<String>,
    /// Keep the archive as it is, do not unpack it
    #[arg(long)]
    no_unpack: bool,
    /// Seconds without data after which the download is retried
    #[arg(
        long,
        default_value_t = FetchOptions::STALL.as_secs(),
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    stall: u64,
    #[command(flatten)]
    common: Common,
}

impl FetchArgs {
    fn archives(&self) -> Result<Vec<Archive>, Error> {
        let Some(url) = &self.url else {
            let mut archives: Vec<Archive> = Vec::new();
            for archive in self
                .names
                .iter()
                .map(|name| find(name))
                .collect::<Result<Vec<_>, _>>()?
                .into_iter()
                .flatten()
            {
                if !archives.contains(&archive) {
                    archives.push(archive);
                }
            }
            return Ok(archives);
        };
        let checksum = match (&self.sha256, &self.md5) {
            (Some(digits), _) => Checksum::sha256(digits)?,
            (None, Some(digits)) => Checksum::md5(digits)?,
            (None, None) => {
                let remedy = "give --sha256, as its publisher lists it or as \
                      `sha256sum` prints for a trusted copy";
                return Err(Error::Usage {
                    problem: "--url has no checksum".into(),
                    remedy: remedy.into(),
                });
            }
        };
        Ok(vec![Archive {
            url: url.clone(),
            checksum,
            size: None,
        }])
    }
}

pub fn run(args: FetchArgs) -> Result<()> {
    let archives = args.archives()?;
    let screen = args.common.screen()?;
    for archive in archives {
        let options = FetchOptions {
            archive,
            out: args.out.clone(),
            base_url: args.base_url.clone(),
            unpack: !args.no_unpack,
            stall: Duration::from_secs(args.stall),
        };
        let fetched = fetch(&options, &screen)?;
        let archive = options.archive.url.rsplit('/').next().unwrap_or_default();
        let size = fetched.bytes as f64 / 1e6;
        let there = if fetched.was_there { ", there already" } else { "" };
        let files = if fetched.files == 1 {
            "1 file".into()
        } else {
            format!("{} files", fetched.files)
        };
        println!(
            "{}: {files} of {archive}, {size:.1} MB{there}",
            fetched.place.display()
        );
    }
    Ok(())
}
