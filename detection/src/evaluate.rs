//! Average precision of detections: COCO's figures, PASCAL VOC's two, and detectron2's mixture of both, never
//! mixed up here.
//!
//! | figure | average precision | thresholds | over |
//! |---|---|---|---|
//! | AP, AP50, AP75, APs, APm, APl | 101 recalls, 100 boxes a class | .50:.05:.95, .50, .75 | classes |
//! | VOC07 mAP | 11 recalls | .50 | classes |
//! | VOC mAP | area below the curve | .50 | classes |
//! | detectron2's VOC AP | 11 recalls (VOC2007) or area (VOC2012) | .50:.05:.95 | classes |
//!
//! For COCO a difficult object is a crowd. A class without an object that counts has no average precision: it
//! is left out of every mean, and listed.

mod coco;
mod entry;
mod voc;

#[cfg(test)]
mod tests;

pub use voc::Curve;

use crate::Dataset;
use crate::dataset::{COUNTED_AREAS, area};
use crate::results::{Results, image_ids};
use camtrast_common::{Error, Result};
use coco::{Area, Precision, THRESHOLDS};
use entry::{Entry, mean};
use rayon::prelude::*;
use std::collections::BTreeMap;
use voc::Matches;

/// Positions of the IoU thresholds .50 and .75 in .50:.05:.95.
const AT_50: usize = 0;
const AT_75: usize = 5;

/// Figures of one class, or their means over the classes, each a fraction in 0..1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// COCO's AP, the mean over IoU thresholds .50:.05:.95.
    pub ap: f64,
    /// COCO's AP at IoU .50.
    pub ap50: f64,
    /// COCO's AP at IoU .75.
    pub ap75: f64,
    /// COCO's AP of objects below 32^2 pixels; `None` when there is none. The same holds for the next two.
    pub ap_small: Option<f64>,
    /// COCO's AP of objects from 32^2 to 96^2 pixels.
    pub ap_medium: Option<f64>,
    /// COCO's AP of objects above 96^2 pixels.
    pub ap_large: Option<f64>,
    /// VOC2007's 11-point AP at IoU .50.
    pub voc07: f64,
    /// VOC's area AP (since 2010) at IoU .50.
    pub voc: f64,
    /// detectron2's AP on VOC2007: `voc07` averaged over IoU .50:.05:.95.
    pub detectron2_voc: f64,
    /// detectron2's AP on VOC2012: `voc` averaged over IoU .50:.05:.95.
    pub detectron2_voc12: f64,
    /// detectron2's AP75 on VOC2007: the 11-point AP at IoU .75.
    pub detectron2_voc_75: f64,
    /// detectron2's AP75 on VOC2012: the area AP at IoU .75.
    pub detectron2_voc12_75: f64,
}

/// The figures of one class, and the counts and curves behind them.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassEvaluation {
    /// Name of the class.
    pub name: String,
    /// Objects that count.
    pub objects: usize,
    /// Difficult objects, which do not count.
    pub difficult: usize,
    /// Detections, of any score.
    pub detections: usize,
    /// The figures.
    pub figures: Figures,
    /// COCO's precision at recalls 0, 0.01, .. 1 for each IoU threshold .50:.05:.95, 10 x 101; its means are
    /// the APs.
    pub precision: Vec<Vec<f64>>,
    /// VOC's curve at IoU .50, one point a detection.
    pub curve: Curve,
}

/// The evaluation of detections on a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// Every class that has an object that counts, in the data set's order.
    pub classes: Vec<ClassEvaluation>,
    /// Names of the classes without such an object, which have no figures.
    pub left_out: Vec<String>,
    /// Images evaluated.
    pub images: usize,
    /// Means over [`Evaluation::classes`].
    pub mean: Figures,
}

impl Evaluation {
    /// The final numbers by name: `detection/AP`, `detection/AP50`, `detection/AP75`, `detection/APs`,
    /// `detection/APm`, `detection/APl`, `detection/voc07_mAP`, `detection/voc_mAP`,
    /// `detection/detectron2_voc_AP`, `detection/detectron2_voc12_AP`, `detection/detectron2_voc_AP75`,
    /// `detection/detectron2_voc12_AP75`, and of each class
    /// `detection/AP/<class>`, `detection/AP50/<class>`, `detection/AP75/<class>`,
    /// `detection/voc07_AP/<class>`, `detection/voc_AP/<class>`. Figures that do not exist, such as APs
    /// without a small object, are left out.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let mean = &self.mean;
        let figures = [
            ("AP", Some(mean.ap)),
            ("AP50", Some(mean.ap50)),
            ("AP75", Some(mean.ap75)),
            ("APs", mean.ap_small),
            ("APm", mean.ap_medium),
            ("APl", mean.ap_large),
            ("voc07_mAP", Some(mean.voc07)),
            ("voc_mAP", Some(mean.voc)),
            ("detectron2_voc_AP", Some(mean.detectron2_voc)),
            ("detectron2_voc12_AP", Some(mean.detectron2_voc12)),
            ("detectron2_voc_AP75", Some(mean.detectron2_voc_75)),
            ("detectron2_voc12_AP75", Some(mean.detectron2_voc12_75)),
        ];
        let means = figures
            .into_iter()
            .filter_map(|(name, value)| Some((format!("detection/{name}"), value?)));
        let classes = self.classes.iter().flat_map(
            |ClassEvaluation {
                 name: class, figures, ..
             }| {
                let of_class = [
                    ("AP", figures.ap),
                    ("AP50", figures.ap50),
                    ("AP75", figures.ap75),
                    ("voc07_AP", figures.voc07),
                    ("voc_AP", figures.voc),
                ];
                of_class.map(|(name, value)| (format!("detection/{name}/{class}"), value))
            },
        );
        means.chain(classes).collect()
    }
}

/// Evaluates detections on a data set: all the figures of the module's table.
///
/// Equal scores are ranked by the order of `results` (VOC), or by the image's number and then that order
/// (COCO), as the reference programs do.
///
/// # Errors
/// [`Error::Settings`] when no object counts, when an area is not 0 to 1e10 square pixels, when a detection
/// names an image or class that the data set does not have, or has a NaN or infinite score or box.
pub fn evaluate(dataset: &Dataset, results: &Results) -> Result<Evaluation> {
    let (objects, detections) = (objects(dataset)?, detections(dataset, results)?);
    let precision = Precision::new(&image_ids(dataset), &objects, &detections);
    let evaluated: Vec<Option<ClassEvaluation>> = (0..dataset.classes.len())
        .into_par_iter()
        .map(|class| {
            let matches = Matches::new(&objects[class], &detections[class]);
            (matches.objects() > 0).then(|| ClassEvaluation {
                name: dataset.classes[class].clone(),
                objects: matches.objects(),
                difficult: objects[class].len() - matches.objects(),
                detections: detections[class].len(),
                figures: class_figures(&precision, class, &matches),
                precision: (0..THRESHOLDS)
                    .filter_map(|t| precision.curve(t, class, Area::All).cloned())
                    .collect(),
                curve: matches.curve(0.5),
            })
        })
        .collect();
    let left_out = dataset
        .classes
        .iter()
        .zip(&evaluated)
        .filter(|(_, evaluation)| evaluation.is_none());
    let left_out = left_out.map(|(name, _)| name.clone()).collect();
    let classes: Vec<ClassEvaluation> = evaluated.into_iter().flatten().collect();
    if classes.is_empty() {
        let total: usize = objects.iter().map(Vec::len).sum();
        return Err(Error::settings(
            format!(
                "the {} images have {total} objects of these classes, none of which counts",
                dataset.images.len()
            ),
            "evaluate on images with objects that are not difficult",
        ));
    }
    let mean = mean_figures(&classes);
    Ok(Evaluation {
        classes,
        left_out,
        images: dataset.images.len(),
        mean,
    })
}

/// The data set's objects by class.
fn objects(dataset: &Dataset) -> Result<Vec<Vec<Entry>>> {
    let mut by_class: Vec<Vec<Entry>> = dataset.classes.iter().map(|_| Vec::new()).collect();
    for (image, annotated) in dataset.images.iter().enumerate() {
        for object in &annotated.objects {
            let area = area(object);
            if !COUNTED_AREAS.contains(&area) {
                let problem = format!(
                    "an object of image {} has an area of {area} square pixels",
                    annotated.id
                );
                return Err(Error::settings(
                    problem,
                    "COCO counts areas from 0 to 1e10: correct the annotation",
                ));
            }
            let entry = Entry {
                image,
                bbox: object.bbox,
                area,
                difficult: object.difficult,
                score: 0.0,
            };
            by_class[object.class].push(entry);
        }
    }
    Ok(by_class)
}

/// The detections by class.
fn detections(dataset: &Dataset, results: &Results) -> Result<Vec<Vec<Entry>>> {
    let mut by_class: Vec<Vec<Entry>> = dataset.classes.iter().map(|_| Vec::new()).collect();
    for found in &results.found {
        let of_class = by_class
            .get_mut(found.class)
            .filter(|_| found.image < dataset.images.len());
        let bad = |problem| {
            Error::settings(
                format!("a detection cannot be evaluated: {problem}"),
                "correct the detector",
            )
        };
        let of_class = of_class.ok_or_else(|| bad("its image or class is not in the data set".into()))?;
        found.fault().map_or(Ok(()), |fault| Err(bad(fault)))?;
        let (image, bbox, score) = (found.image, found.bbox, found.score);
        let area = (bbox[2] - bbox[0]) * (bbox[3] - bbox[1]);
        of_class.push(Entry {
            image,
            bbox,
            area,
            difficult: false,
            score,
        });
    }
    Ok(by_class)
}

fn class_figures(precision: &Precision, class: usize, matches: &Matches) -> Figures {
    let over_thresholds = |area| {
        let averages: Option<Vec<f64>> = (0..THRESHOLDS)
            .map(|t| precision.average(t, class, area))
            .collect();
        averages.map(|averages| mean(&averages))
    };
    let at = |threshold| precision.average(threshold, class, Area::All);
    let curves: Vec<Curve> = (0..THRESHOLDS)
        .map(|t| matches.curve((50 + 5 * t) as f64 / 100.0))
        .collect();
    let eleven_point: Vec<f64> = curves.iter().map(Curve::eleven_point).collect();
    let area: Vec<f64> = curves.iter().map(Curve::area).collect();
    let counted = "the class has an object that counts";
    Figures {
        ap: over_thresholds(Area::All).expect(counted),
        ap50: at(AT_50).expect(counted),
        ap75: at(AT_75).expect(counted),
        ap_small: over_thresholds(Area::Small),
        ap_medium: over_thresholds(Area::Medium),
        ap_large: over_thresholds(Area::Large),
        voc07: eleven_point[AT_50],
        voc: area[AT_50],
        detectron2_voc: mean(&eleven_point),
        detectron2_voc12: mean(&area),
        detectron2_voc_75: eleven_point[AT_75],
        detectron2_voc12_75: area[AT_75],
    }
}

// Each figure is averaged over the classes that have it.
fn mean_figures(classes: &[ClassEvaluation]) -> Figures {
    let over = |figure: fn(&Figures) -> Option<f64>| {
        let values: Vec<f64> = classes
            .iter()
            .filter_map(|class| figure(&class.figures))
            .collect();
        (!values.is_empty()).then(|| mean(&values))
    };
    let over_all = |figure: fn(&Figures) -> f64| {
        mean(
            &classes
                .iter()
                .map(|class| figure(&class.figures))
                .collect::<Vec<f64>>(),
        )
    };
    Figures {
        ap: over_all(|figures| figures.ap),
        ap50: over_all(|figures| figures.ap50),
        ap75: over_all(|figures| figures.ap75),
        ap_small: over(|figures| figures.ap_small),
        ap_medium: over(|figures| figures.ap_medium),
        ap_large: over(|figures| figures.ap_large),
        voc07: over_all(|figures| figures.voc07),
        voc: over_all(|figures| figures.voc),
        detectron2_voc: over_all(|figures| figures.detectron2_voc),
        detectron2_voc12: over_all(|figures| figures.detectron2_voc12),
        detectron2_voc_75: over_all(|figures| figures.detectron2_voc_75),
        detectron2_voc12_75: over_all(|figures| figures.detectron2_voc12_75),
    }
}
