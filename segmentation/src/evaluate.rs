//! Predicts a data set, scores it and writes predictions and pictures. Decoding, the network and scoring run
//! in parallel on consecutive images.

use crate::classes::ClassSet;
use crate::confusion::{Confusion, Scores};
use crate::dataset::{Dataset, Sample, unknown_id};
use crate::files::{Files, Leave};
use crate::label_image::LabelImage;
use crate::picture;
use crate::predict::Predictor;
use camtrast_common::distributed::Group;
use camtrast_common::files::write_atomically;
use camtrast_common::progress::Progress;
use camtrast_common::{Error, Result};
use camtrast_images::resample::Image;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread::Builder;

/// The files that an evaluation writes into a folder besides metrics.json.
pub const ARTIFACTS: [&str; 4] = ["predictions", "pictures", "confusion.png", "confusion.csv"];

/// Largest number of images waiting between two stages.
const AHEAD: usize = 2;

/// Predicts every sample and counts its pixels. Below `out`: `predictions/<name>_labelIds.png` in file ids,
/// `pictures/<name>.png` (image, truth, prediction, errors), `confusion.png` and `confusion.csv`. Each
/// process of `group` predicts its share of the samples, all get the counts of all, and rank 0 writes the
/// files.
///
/// # Errors
/// [`camtrast_common::Error::File`] for a sample that cannot be read, [`camtrast_common::Error::Torch`],
/// [`camtrast_common::Error::Io`], [`camtrast_common::Error::Lost`].
pub fn evaluate(
    predictor: &Predictor,
    dataset: &Dataset,
    out: Option<(&Path, Leave)>,
    group: Group,
    progress: &dyn Progress,
) -> Result<Confusion> {
    let samples = &dataset.samples[group.share(dataset.samples.len())];
    progress.start("evaluating", samples.len() as u64, 0);
    let confusion = std::thread::scope(|scope| {
        let (decoded, images) = sync_channel::<Result<(&Sample, Image, LabelImage)>>(AHEAD);
        let (predicted, predictions) = sync_channel::<(&Sample, LabelImage, LabelImage)>(AHEAD);
        let decode = move || {
            for sample in samples {
                let read = sample.read().map(|(image, truth)| (sample, image, truth));
                let failed = read.is_err();
                // The receiver is gone when it ends early.
                if decoded.send(read).is_err() || failed {
                    break;
                }
            }
        };
        Builder::new()
            .spawn_scoped(scope, decode)
            .map_err(Error::thread)?;
        let scoring = move || -> Result<Confusion> {
            let mut confusion = Confusion::new(&dataset.classes);
            let mut files = out.map(|(folder, leave)| Files::new(folder, leave, dataset, group));
            for (sample, truth, prediction) in predictions {
                score(&mut confusion, &dataset.classes, sample, &truth, &prediction)?;
                files
                    .iter_mut()
                    .try_for_each(|files| files.write(Some(&prediction)))?;
                progress.advance(1, "");
            }
            files.map_or(Ok(()), Files::finish)?;
            Ok(confusion)
        };
        let scoring = Builder::new()
            .spawn_scoped(scope, scoring)
            .map_err(Error::thread)?;
        let mut failure = None;
        for read in images {
            let step = read.and_then(|(sample, image, truth)| {
                let prediction = predictor.predict_ids(&image, &dataset.classes)?;
                Ok((sample, truth, prediction))
            });
            match step {
                Ok(step) => {
                    if predicted.send(step).is_err() {
                        break; // scoring failed; its error is returned below
                    }
                }
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
        }
        drop(predicted);
        let confusion = scoring.join().expect("scoring does not panic");
        failure.map_or(confusion, Err)
    });
    progress.finish();
    let mut confusion = confusion?;
    confusion.sum(group)?;
    if let Some((folder, _)) = out.filter(|_| group.leads()) {
        picture::confusion(&folder.join("confusion.png"), &confusion, &dataset.classes)?;
        write_csv(&folder.join("confusion.csv"), &confusion, &dataset.classes)?;
    }
    Ok(confusion)
}

/// The metrics by name, as in metrics.json, without missing scores.
pub fn metrics(scores: &Scores) -> BTreeMap<String, f64> {
    let mut named: Vec<(String, Option<f64>)> = vec![
        ("segmentation/mIoU".into(), scores.mean_iou),
        ("segmentation/category_mIoU".into(), scores.category_mean_iou),
        ("segmentation/pixel_accuracy".into(), scores.pixel_accuracy),
    ];
    named.extend(
        scores
            .classes
            .iter()
            .map(|c| (format!("segmentation/IoU/{}", c.name), c.iou)),
    );
    named.extend(
        scores
            .categories
            .iter()
            .map(|c| (format!("segmentation/IoU_category/{}", c.name), c.iou)),
    );
    named
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
}

fn score(
    confusion: &mut Confusion,
    classes: &ClassSet,
    sample: &Sample,
    truth: &LabelImage,
    prediction: &LabelImage,
) -> Result<()> {
    confusion
        .add(truth, prediction)
        .map_err(|unknown| unknown_id(&sample.label, unknown.id, classes))
        .map(|_| ())
}

fn write_csv(path: &Path, confusion: &Confusion, classes: &ClassSet) -> Result<()> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let names: Vec<String> = classes.classes().iter().map(|c| quoted(&c.name)).collect();
    write_atomically(path, |out| {
        writeln!(out, "truth \\ prediction,{},\"no class\"", names.join(","))?;
        names.iter().enumerate().try_for_each(|(t, name)| {
            let counts: Vec<String> = (0..=names.len())
                .map(|p| confusion.count(t, p).to_string())
                .collect();
            writeln!(out, "{name},{}", counts.join(","))
        })
    })
}
