//! A trained detector on a data set's images.

use crate::model::FasterRcnn;
use crate::results::{Detection, Results};
use crate::transform::{Padded, Prepared, Scale, rescale};
use crate::{Annotated, Dataset};
use camtrast_common::augment::Input;
use camtrast_common::device::{Precision, to_host};
use camtrast_common::distributed::Group;
use camtrast_common::progress::Progress;
use camtrast_common::{Error, Result};
use camtrast_images::decode;
use camtrast_images::resample::Image;
use rayon::prelude::*;
use std::sync::mpsc::sync_channel;
use tch::{Device, Kind, Tensor, no_grad};

/// Images decoded side by side, while the network works on those before them.
const CHUNK: usize = 4;

/// A network and the preparation of its images.
pub struct Predictor<'a> {
    /// The network.
    pub net: &'a FasterRcnn,
    /// Makes its input of pixels.
    pub input: &'a Input,
    /// The size of images in the network.
    pub scale: Scale,
    /// Where tensors live.
    pub device: Device,
    /// Precision of the forward passes.
    pub precision: Precision,
}

impl Predictor<'_> {
    /// The detections in every image, in pixels of the image files; images pass through the network one at a
    /// time. Each process of `group` does its share of the images, and all get all detections, in the order
    /// of one process.
    ///
    /// # Errors
    /// As [`decode::read`], or [`Error::Torch`], [`Error::Lost`].
    pub fn predict(&self, dataset: &Dataset, group: Group, progress: &dyn Progress) -> Result<Results> {
        let mut found = Vec::new();
        let share = group.share(dataset.images.len());
        self.each(&dataset.images[share.clone()], progress, |place, detections| {
            let placed = |one| Detection {
                image: share.start + place,
                ..one
            };
            found.extend(detections?.into_iter().map(placed));
            Ok(())
        })?;
        Ok(Results {
            found: gather(&found, group)?,
            ..Results::default()
        })
    }

    /// Calls a function with the place and the detections of every image, in their order, or with the error
    /// of an image that cannot be read, after which it may go on.
    ///
    /// # Errors
    /// Those of the function, [`Error::Torch`].
    pub fn each(
        &self,
        images: &[Annotated],
        progress: &dyn Progress,
        mut take: impl FnMut(usize, Result<Vec<Detection>>) -> Result<()>,
    ) -> Result<()> {
        let scale = self.scale;
        progress.start("detecting", images.len() as u64, 0);
        std::thread::scope(|scope| {
            let (sender, prepared) = sync_channel(2 * CHUNK);
            let read = move || {
                let prepare = |annotated: &Annotated| {
                    Ok::<_, Error>(rescale(
                        decode::read_upright(&annotated.image, (annotated.width, annotated.height))?,
                        Vec::new(),
                        &scale,
                    ))
                };
                for chunk in images.chunks(CHUNK) {
                    let chunk: Vec<Result<Prepared>> = chunk.par_iter().map(prepare).collect();
                    // The receiver is gone when it ends early.
                    if chunk.into_iter().any(|image| sender.send(image).is_err()) {
                        break;
                    }
                }
            };
            std::thread::Builder::new()
                .spawn_scoped(scope, read)
                .map_err(Error::thread)?;
            for (place, (prepared, annotated)) in prepared.iter().zip(images).enumerate() {
                let detections = match prepared {
                    Ok(prepared) => Ok(self.image(prepared.image, annotated, place)?),
                    Err(error) => Err(error),
                };
                take(place, detections)?;
                progress.advance(1, "");
            }
            Ok::<_, Error>(())
        })?;
        progress.finish();
        Ok(())
    }

    // Everything in one image, in pixels of its file.
    fn image(&self, prepared: Image, annotated: &Annotated, place: usize) -> Result<Vec<Detection>> {
        let back = [
            annotated.width as f64 / prepared.width as f64,
            annotated.height as f64 / prepared.height as f64,
        ];
        let input = Padded::new(&[prepared], self.scale.pad_to)
            .sent(self.device)
            .input(self.input);
        let found = no_grad(|| self.net.detect(&input, self.precision))?.remove(0);
        let host = |t: &Tensor| to_host::<f64>(&t.to_kind(Kind::Double).reshape([-1]));
        let (boxes, scores, labels) = (host(&found.boxes)?, host(&found.scores)?, host(&found.labels)?);
        let rows = boxes.chunks_exact(4).zip(scores).zip(labels);
        let detection = |((bbox, score), label): ((&[f64], f64), f64)| Detection {
            image: place,
            // Label 0 is the background.
            class: label as usize - 1,
            score,
            bbox: [0, 1, 2, 3].map(|side| bbox[side] * back[side % 2]),
        };
        Ok(rows.map(detection).collect())
    }
}

// The detections of all processes, in the order of ranks. Numbers of images and classes are exact in double
// precision.
fn gather(found: &[Detection], group: Group) -> Result<Vec<Detection>> {
    const COLUMNS: usize = 7;
    let row = |one: &Detection| {
        let [x1, y1, x2, y2] = one.bbox;
        [one.image as f64, one.class as f64, one.score, x1, y1, x2, y2]
    };
    let own: Vec<f64> = found.iter().flat_map(row).collect();
    let all = group.gather_rows(&Tensor::from_slice(&own).view([-1, COLUMNS as i64]))?;
    let all: Vec<f64> = to_host(&all.reshape([-1]))?;
    let detection = |row: &[f64]| Detection {
        image: row[0] as usize,
        class: row[1] as usize,
        score: row[2],
        bbox: [row[3], row[4], row[5], row[6]],
    };
    Ok(all.chunks_exact(COLUMNS).map(detection).collect())
}
