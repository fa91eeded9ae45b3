//! The data that a detector is trained and evaluated on, as the user names it.

use crate::Dataset;
use crate::coco::{self, CocoOptions};
use crate::voc::{self, VocOptions, VocSplit};
use camtrast_common::progress::Progress;
use camtrast_common::{Error, Result, holdout};
use clap::Args;
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

/// The data to evaluate on.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TestData {
    /// VOCdevkit folder, which contains VOC2007/ or similar folders
    #[arg(
        long,
        help_heading = "Data",
        required_unless_present = "coco",
        conflicts_with = "coco",
        requires = "test"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voc: Option<PathBuf>,
    /// Splits to evaluate on, such as 2007:test or BCCD:test
    #[arg(long, help_heading = "Data", value_delimiter = ',', requires = "voc")]
    #[serde(serialize_with = "by_commas", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<VocSplit>,
    /// Names of the classes, separated by commas (default: the 20 VOC classes)
    #[arg(long, help_heading = "Data", value_delimiter = ',', conflicts_with = "coco")]
    #[serde(serialize_with = "by_commas", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// COCO instances JSON, in place of --voc
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco: Option<PathBuf>,
    /// Folder of the images that --coco names (default: the folder of the JSON)
    #[arg(long, help_heading = "Data", requires = "coco")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco_images: Option<PathBuf>,
    /// Skip unusable images and annotations and list them, instead of stopping
    #[arg(long, help_heading = "Data")]
    pub skip_bad: bool,
}

/// The data to train and evaluate on.
#[derive(Debug, Clone, Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TrainData {
    /// VOCdevkit folder, which contains VOC2007/ or similar folders
    #[arg(
        long,
        help_heading = "Data",
        required_unless_present = "coco",
        conflicts_with = "coco",
        requires = "train"
    )]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voc: Option<PathBuf>,
    /// Splits to train on, such as 2007:trainval,2012:trainval
    #[arg(long, help_heading = "Data", value_delimiter = ',', requires = "voc")]
    #[serde(serialize_with = "by_commas", skip_serializing_if = "Vec::is_empty")]
    pub train: Vec<VocSplit>,
    /// Train without this share of the training images, which is drawn, and evaluate on it instead of test
    /// data: for choosing settings
    #[arg(long, help_heading = "Data", value_name = "SHARE")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holdout: Option<f64>,
    /// Splits to evaluate on, such as 2007:test (default: no evaluation)
    #[arg(long, help_heading = "Data", value_delimiter = ',', requires = "voc")]
    #[serde(serialize_with = "by_commas", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<VocSplit>,
    /// Splits to validate on while training (see --val-every), such as 2007:val
    #[arg(long, help_heading = "Data", value_delimiter = ',', requires = "voc")]
    #[serde(serialize_with = "by_commas", skip_serializing_if = "Vec::is_empty")]
    pub val: Vec<VocSplit>,
    /// Names of the classes, separated by commas (default: the 20 VOC classes)
    #[arg(long, help_heading = "Data", value_delimiter = ',', conflicts_with = "coco")]
    #[serde(serialize_with = "by_commas", skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// COCO instances JSON to train on, in place of --voc
    #[arg(long, help_heading = "Data")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco: Option<PathBuf>,
    /// Folder of the images that --coco names (default: the folder of the JSON)
    #[arg(long, help_heading = "Data", requires = "coco")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco_images: Option<PathBuf>,
    /// COCO instances JSON to evaluate on (default: no evaluation)
    #[arg(long, help_heading = "Data", requires = "coco")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco_test: Option<PathBuf>,
    /// Folder of the images that --coco-test names (default: that of the training images)
    #[arg(long, help_heading = "Data", requires = "coco_test")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco_test_images: Option<PathBuf>,
    /// COCO instances JSON to validate on while training
    #[arg(long, help_heading = "Data", requires = "coco")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco_val: Option<PathBuf>,
    /// Folder of the images that --coco-val names (default: that of the training images)
    #[arg(long, help_heading = "Data", requires = "coco_val")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coco_val_images: Option<PathBuf>,
    /// Skip unusable images and annotations and list them, instead of stopping
    #[arg(long, help_heading = "Data")]
    pub skip_bad: bool,
}

fn by_commas<T: ToString, S: Serializer>(list: &[T], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&list.iter().map(T::to_string).collect::<Vec<_>>().join(","))
}

fn read_voc(
    root: &Path,
    splits: &[VocSplit],
    classes: &[String],
    skip_bad: bool,
    progress: &dyn Progress,
) -> Result<Dataset> {
    let classes = match classes {
        [] => voc::CLASSES.map(String::from).to_vec(),
        given => given.to_vec(),
    };
    let dataset = voc::read(&VocOptions {
        root: root.to_owned(),
        splits: splits.to_vec(),
        classes,
        skip_bad,
    })?;
    note_bad_parts(&dataset, progress);
    Ok(dataset)
}

fn read_coco(
    instances: &Path,
    images: Option<PathBuf>,
    skip_bad: bool,
    progress: &dyn Progress,
) -> Result<Dataset> {
    let dataset = coco::read(&CocoOptions {
        instances: instances.to_owned(),
        images,
        skip_bad,
    })?;
    note_bad_parts(&dataset, progress);
    Ok(dataset)
}

fn note_bad_parts(dataset: &Dataset, progress: &dyn Progress) {
    note_problems(&dataset.problems, "the data set", progress);
    for note in &dataset.notes {
        progress.note(&format!("warning: {note}"));
    }
}

fn own_folder(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

impl TestData {
    /// Reads the data set, and reports through `progress` what was left out of it. Without `images`, COCO's
    /// image files are not looked for.
    ///
    /// # Errors
    /// As [`voc::read`] and [`coco::read`].
    pub fn read(&self, images: bool, progress: &dyn Progress) -> Result<Dataset> {
        match (&self.voc, &self.coco) {
            (None, Some(coco)) => {
                let folder = images.then(|| self.coco_images.clone().unwrap_or_else(|| own_folder(coco)));
                read_coco(coco, folder, self.skip_bad, progress)
            }
            (root, _) => {
                let root = root.clone().unwrap_or_default();
                read_voc(&root, &self.test, &self.classes, self.skip_bad, progress)
            }
        }
    }
}

impl TrainData {
    /// Reads the training set and, when one is named, the test set, and reports through `progress` what was
    /// left out of them.
    ///
    /// # Errors
    /// As [`voc::read`] and [`coco::read`]; [`Error::File`] for a test set of other categories;
    /// [`Error::Settings`] for a share that cannot be held out.
    pub fn read(&self, progress: &dyn Progress) -> Result<(Dataset, Option<Dataset>)> {
        let Some(share) = self.holdout else {
            return self.splits(progress);
        };
        let (training, _) = TrainData {
            test: Vec::new(),
            coco_test: None,
            ..self.clone()
        }
        .splits(progress)?;
        let held = holdout::drawn(training.images.len(), share)?;
        let [left, out] = holdout::divide(training.images, &held);
        let out = Dataset {
            images: out,
            classes: training.classes.clone(),
            category_ids: training.category_ids.clone(),
            crowds: training.crowds,
            ..Dataset::default()
        };
        Ok((
            Dataset {
                images: left,
                ..training
            },
            Some(out),
        ))
    }

    fn splits(&self, progress: &dyn Progress) -> Result<(Dataset, Option<Dataset>)> {
        if let Some(coco) = &self.coco {
            let folder = self.coco_images.clone().unwrap_or_else(|| own_folder(coco));
            let training = read_coco(coco, Some(folder), self.skip_bad, progress)?;
            let test = self.other_coco(&self.coco_test, &self.coco_test_images, &training, progress)?;
            return Ok((training, test));
        }
        let root = self.voc.clone().unwrap_or_default();
        let read = |splits: &[VocSplit]| read_voc(&root, splits, &self.classes, self.skip_bad, progress);
        let training = read(&self.train)?;
        let test = (!self.test.is_empty()).then(|| read(&self.test)).transpose()?;
        Ok((training, test))
    }

    /// Reads the images to validate on while training on `training`, when some are named.
    ///
    /// # Errors
    /// As [`TrainData::read`].
    pub fn validation(&self, training: &Dataset, progress: &dyn Progress) -> Result<Option<Dataset>> {
        if self.val.is_empty() {
            return self.other_coco(&self.coco_val, &self.coco_val_images, training, progress);
        }
        let root = self.voc.clone().unwrap_or_default();
        read_voc(&root, &self.val, &self.classes, self.skip_bad, progress).map(Some)
    }

    // Instances of the categories trained on.
    fn other_coco(
        &self,
        instances: &Option<PathBuf>,
        images: &Option<PathBuf>,
        training: &Dataset,
        progress: &dyn Progress,
    ) -> Result<Option<Dataset>> {
        let Some(instances) = instances else {
            return Ok(None);
        };
        let folder = images.clone().or(self.coco_images.clone());
        let folder = folder.unwrap_or_else(|| own_folder(instances));
        let dataset = read_coco(instances, Some(folder), self.skip_bad, progress)?;
        if dataset.classes != training.classes {
            return Err(Error::file(
                instances,
                "has other categories than the instances trained on",
                "give both files the same categories, in the same order",
            ));
        }
        Ok(Some(dataset))
    }
}

/// Reports what was left out of the data: one line each, at most twenty.
pub fn note_problems(problems: &[String], of: &str, progress: &dyn Progress) {
    const MOST: usize = 20;
    if problems.is_empty() {
        return;
    }
    progress.note(&format!(
        "warning: {} bad parts of {of} were left out:",
        problems.len()
    ));
    problems
        .iter()
        .take(MOST)
        .for_each(|line| progress.note(&format!("warning: {line}")));
    if problems.len() > MOST {
        progress.note(&format!("warning: and {} more", problems.len() - MOST));
    }
}
