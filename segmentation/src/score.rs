//! mIoU of label PNGs of any program.

use crate::classes::ClassSet;
use crate::confusion::{Confusion, Unknown};
use crate::dataset::{
    Files, cityscapes_labels, cityscapes_predictions, labels_sum, plain_labels, some, unknown_id,
};
use crate::label_image::LabelImage;
use camtrast_common::progress::Progress;
use camtrast_common::{Error, Result};
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// How files of ground truth and prediction are matched, and the meaning of their ids.
#[derive(Debug, Clone)]
pub enum Naming {
    /// `*_labelIds.png` in Cityscapes' ids, by `<city>_<seq>_<frame>`.
    Cityscapes,
    /// PNGs of the same path below their folders, in the ids of this list.
    Same(ClassSet),
}

impl Naming {
    /// The classes.
    pub fn classes(&self) -> ClassSet {
        match self {
            Naming::Cityscapes => ClassSet::cityscapes(),
            Naming::Same(classes) => classes.clone(),
        }
    }
}

/// Counts all pixels of all images: memory grows with the number of threads, not of images. Predicted ids
/// that the data set does not have count as wrong, with a warning; predictions without ground truth are
/// skipped, with a warning.
///
/// # Errors
/// [`Error::File`] for ground truth without prediction, files of different sizes, true ids that the data set
/// does not have, and files that are not label PNGs.
pub fn score(
    truth: &Path,
    predictions: &Path,
    naming: &Naming,
    progress: &dyn Progress,
) -> Result<Confusion> {
    let classes = naming.classes();
    let pairs = pairs(truth, predictions, naming, progress)?;
    progress.start("scoring", pairs.len() as u64, 0);
    let odd: Mutex<Vec<(PathBuf, Unknown)>> = Mutex::new(Vec::new());
    let add = |mut counted: Counted, (truth, prediction): &(PathBuf, PathBuf)| -> Result<Counted> {
        if let Some(unknown) = counted.add(truth, prediction, &classes)? {
            odd.lock()
                .expect("no panic while counting")
                .push((prediction.clone(), unknown));
        }
        progress.advance(1, "");
        Ok(counted)
    };
    let nothing = || Confusion::new(&classes);
    let counted = pairs.par_iter().try_fold(|| Counted::new(nothing()), add);
    let confusion = counted
        .map(|counted| counted.map(|counted| counted.confusion))
        .try_reduce(nothing, |mut a, b| {
            a.merge(&b);
            Ok(a)
        });
    progress.finish();
    let mut odd = odd.into_inner().expect("no panic while counting");
    odd.sort_by(|a, b| a.0.cmp(&b.0));
    if let Some((path, Unknown { id, pixels })) = odd.first() {
        progress.note(&format!(
            "warning: {} of {} predictions contain ids that the data set does not have; they count as \
             wrong; the \
             first is {} with id {id} \
             in {pixels} pixels",
            odd.len(),
            pairs.len(),
            path.display()
        ));
    }
    confusion
}

/// Number of label files of a truth folder, and the checksum of their content, as
/// [`crate::Dataset::labels_sum`].
///
/// # Errors
/// [`Error::File`], [`Error::Io`].
pub fn truth_sum(truth: &Path, naming: &Naming) -> Result<(usize, String)> {
    let files = match naming {
        Naming::Cityscapes => cityscapes_labels(truth)?,
        Naming::Same(_) => plain_labels(truth)?,
    };
    let sum = labels_sum(files.iter().map(|(name, path)| (&name[..], path.as_path())))?;
    Ok((files.len(), sum))
}

fn pairs(
    truth: &Path,
    predictions: &Path,
    naming: &Naming,
    progress: &dyn Progress,
) -> Result<Vec<(PathBuf, PathBuf)>> {
    let (truths, mut predicted): (Files, Files) = match naming {
        Naming::Cityscapes => (cityscapes_labels(truth)?, cityscapes_predictions(predictions)?),
        Naming::Same(_) => (plain_labels(truth)?, plain_labels(predictions)?),
    };
    if truths.is_empty() {
        let wanted = if matches!(naming, Naming::Cityscapes) {
            "*_gtFine_labelIds.png"
        } else {
            "label PNGs"
        };
        return Err(Error::file(
            truth,
            format!("holds no {wanted}"),
            "give the folder of a split's ground truth",
        ));
    }
    let missing: Vec<&str> = truths
        .keys()
        .filter(|k| !predicted.contains_key(*k))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        let problem = format!(
            "has no predictions for {} of {} images: {}",
            missing.len(),
            truths.len(),
            some(&missing)
        );
        return Err(Error::file(
            predictions,
            problem,
            "every image of the ground truth needs one",
        ));
    }
    let pairs = truths
        .into_iter()
        .map(|(key, path)| (path, predicted.remove(&key).expect("looked up above")));
    let pairs: Vec<_> = pairs.collect();
    if !predicted.is_empty() {
        let names: Vec<&str> = predicted.keys().map(String::as_str).collect();
        let many = predicted.len();
        progress.note(&format!(
            "warning: {many} predictions have no ground truth and are skipped: {}",
            some(&names)
        ));
    }
    Ok(pairs)
}

/// What a thread has counted, and the memory that it reads images into.
struct Counted {
    confusion: Confusion,
    truth: LabelImage,
    prediction: LabelImage,
}

impl Counted {
    fn new(confusion: Confusion) -> Self {
        Counted {
            confusion,
            truth: LabelImage::default(),
            prediction: LabelImage::default(),
        }
    }

    fn add(&mut self, truth: &Path, prediction: &Path, classes: &ClassSet) -> Result<Option<Unknown>> {
        self.truth.reread(truth)?;
        self.prediction.reread(prediction)?;
        let size = |image: &LabelImage| (image.width, image.height);
        if size(&self.truth) != size(&self.prediction) {
            let ((w, h), (tw, th)) = (size(&self.prediction), size(&self.truth));
            let problem = format!("is {w} x {h} pixels, but {} is {tw} x {th}", truth.display());
            return Err(Error::file(
                prediction,
                problem,
                "predict at the size of the ground truth",
            ));
        }
        self.confusion
            .add(&self.truth, &self.prediction)
            .map_err(|unknown| unknown_id(truth, unknown.id, classes))
    }
}
