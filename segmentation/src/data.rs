//! The data that a network is trained and evaluated on, as the user names it.

use crate::classes::ClassSet;
use crate::dataset::Dataset;
use camtrast_common::settings::Numbers;
use camtrast_common::{Error, Result, holdout};
use serde::Serialize;
use std::path::PathBuf;

/// The data to train and evaluate on: Cityscapes, or folders of images and label PNGs.
#[derive(Debug, Clone, PartialEq, Serialize, clap::Args)]
#[serde(rename_all = "kebab-case")]
pub struct TrainData {
    /// Folder of Cityscapes, which contains leftImg8bit/ and gtFine/
    #[arg(long, help_heading = "Data", conflicts_with_all = ["images", "labels", "class_names"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cityscapes: Option<PathBuf>,
    /// Split of Cityscapes to train on
    #[arg(long, default_value = "train", help_heading = "Data")]
    pub train_split: String,
    /// Split of Cityscapes to evaluate on
    #[arg(long, default_value = "val", help_heading = "Data")]
    pub val_split: String,
    /// Split of Cityscapes to validate on while training (see --val-every)
    #[arg(long, help_heading = "Data", requires = "cityscapes")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_split: Option<String>,
    /// Train without this share of the training images, the last ones by name, and evaluate on it instead:
    /// for choosing settings
    #[arg(long, help_heading = "Data", value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<f64>,
    /// Folder of images to train on, in place of Cityscapes
    #[arg(long, help_heading = "Data", requires_all = ["labels", "class_names"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<PathBuf>,
    /// Folder of their label PNGs, one class id a pixel, named as the images
    #[arg(long, help_heading = "Data", requires = "images")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Folder of images to evaluate on (default: the training images)
    #[arg(long, help_heading = "Data", requires_all = ["val_labels", "images"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_images: Option<PathBuf>,
    /// Folder of their label PNGs
    #[arg(long, help_heading = "Data", requires = "val_images")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_labels: Option<PathBuf>,
    /// Folder of images to validate on while training (see --val-every)
    #[arg(long, help_heading = "Data", requires_all = ["dev_labels", "images"])]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_images: Option<PathBuf>,
    /// Folder of their label PNGs
    #[arg(long, help_heading = "Data", requires = "dev_images")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev_labels: Option<PathBuf>,
    /// Text file with one class name per line, the first for id 0
    #[arg(long, help_heading = "Data", requires = "images")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class_names: Option<PathBuf>,
    /// Ids to ignore in training and evaluation, such as 255
    #[arg(long, default_value = "255", help_heading = "Data")]
    pub ignore: Numbers,
}

impl TrainData {
    /// The samples to train on.
    ///
    /// # Errors
    /// [`Error::Usage`] when no data is named, [`Error::Settings`] for a share that cannot be held out,
    /// otherwise as [`Dataset::cityscapes`].
    pub fn training(&self) -> Result<Dataset> {
        self.part(0)
    }

    /// Of the training split the part that is trained on, or the part that is held out.
    fn part(&self, number: usize) -> Result<Dataset> {
        let mut all = self.training_split()?;
        if let Some(share) = self.holdout {
            let held = holdout::last(all.samples.len(), share)?;
            let mut parts = holdout::divide(all.samples, &held);
            all.samples = std::mem::take(&mut parts[number]);
        }
        Ok(all)
    }

    fn training_split(&self) -> Result<Dataset> {
        match (&self.cityscapes, &self.images, &self.labels) {
            (Some(root), _, _) => Dataset::cityscapes(root, &self.train_split),
            (None, Some(images), Some(labels)) => Dataset::folders(images, labels, self.named_classes()?),
            _ => Err(no_data()),
        }
    }

    /// The samples to evaluate on.
    ///
    /// # Errors
    /// As [`TrainData::training`].
    pub fn validation(&self) -> Result<Dataset> {
        if self.holdout.is_some() {
            return self.part(1);
        }
        match (&self.cityscapes, &self.val_images, &self.val_labels) {
            (Some(root), _, _) => Dataset::cityscapes(root, &self.val_split),
            (None, Some(images), Some(labels)) => Dataset::folders(images, labels, self.named_classes()?),
            _ => self.training(),
        }
    }

    /// The samples to validate on while training, when some are named.
    ///
    /// # Errors
    /// As [`TrainData::training`].
    pub fn development(&self) -> Result<Option<Dataset>> {
        match (
            &self.cityscapes,
            &self.dev_split,
            &self.dev_images,
            &self.dev_labels,
        ) {
            (Some(root), Some(split), ..) => Dataset::cityscapes(root, split).map(Some),
            (None, _, Some(images), Some(labels)) => {
                Dataset::folders(images, labels, self.named_classes()?).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn named_classes(&self) -> Result<ClassSet> {
        let names = self.class_names.as_deref().ok_or_else(no_data)?;
        ClassSet::read(names, &self.ignored()?)
    }

    /// `--ignore` as ids.
    ///
    /// # Errors
    /// [`Error::Settings`] when it is not a list of ids.
    pub fn ignored(&self) -> Result<Vec<u8>> {
        ignored_ids(&self.ignore)
    }
}

/// Ids 0..255 of a list of numbers.
///
/// # Errors
/// [`Error::Settings`] for anything else.
pub fn ignored_ids(list: &Numbers) -> Result<Vec<u8>> {
    let id = |n: &f64| (n.fract() == 0.0 && (0.0..256.0).contains(n)).then_some(*n as u8);
    let ids = list.0.iter().map(id).collect::<Option<Vec<u8>>>();
    ids.ok_or_else(|| {
        Error::settings(
            format!("--ignore {list} is not a list of ids"),
            "give ids from 0 to 255",
        )
    })
}

fn no_data() -> Error {
    Error::Usage {
        problem: "no data set is named".into(),
        remedy: "give --cityscapes ROOT, or --images, --labels and --class-names".into(),
    }
}
