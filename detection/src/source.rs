//! Batches of annotated images, decoded and resized off the training thread.

use crate::model::heads::Truth;
use crate::transform::{Padded, Prepared, Scale, mirror, rescale};
use crate::{Annotated, Dataset};
use common::Result;
use common::data::decode;
use common::engine::Source;
use common::random::generator;
use common::sampler::Passes;
use rand::RngExt;
use rayon::prelude::*;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Random changes of training images.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// Scales, of which each image gets one.
    pub scales: Vec<Scale>,
    /// Probability of a mirror image.
    pub flip: f64,
}

/// What one step trains on.
#[derive(Debug)]
pub struct Batch {
    /// The images.
    pub images: Padded,
    /// Boxes [x1, y1, x2, y2] of each image's objects, one after the other.
    pub boxes: Vec<Vec<f32>>,
    /// Their classes from 1 on.
    pub labels: Vec<Vec<i64>>,
}

impl Batch {
    /// Ground truth of each image on a device.
    pub fn truth(&self, device: Device) -> Vec<Truth> {
        let truth = |(boxes, labels): (&Vec<f32>, &Vec<i64>)| Truth {
            boxes: Tensor::from_slice(boxes).view([-1, 4]).to_kind(Kind::Float).to_device(device),
            labels: Tensor::from_slice(labels).to_device(device),
        };
        self.boxes.iter().zip(&self.labels).map(truth).collect()
    }
}

/// Draws batches pass after pass.
pub struct DetectionSource {
    dataset: Arc<Dataset>,
    augment: Augment,
    batch_size: u64,
    batches_per_epoch: u64,
    seed: u64,
    passes: Passes,
}

impl DetectionSource {
    /// Over a data set with at least one image.
    pub fn new(dataset: Arc<Dataset>, augment: Augment, batch_size: u64, batches_per_epoch: u64, seed: u64) -> Self {
        let passes = Passes::new(dataset.images.len(), seed);
        DetectionSource { dataset, augment, batch_size, batches_per_epoch, seed, passes }
    }
}

impl Source for DetectionSource {
    type Batch = Batch;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Batch> {
        let chosen = self.passes.batch(epoch * self.batches_per_epoch + index, self.batch_size);
        let prepare = |&(place, sample): &(u64, usize)| {
            let annotated = &self.dataset.images[sample];
            Ok((self.augment.prepare(annotated, self.seed, place)?, annotated))
        };
        let prepared = chosen.par_iter().map(prepare).collect::<Result<Vec<_>>>()?;
        let (mut images, mut boxes, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for (Prepared { image, boxes: of_image }, annotated) in prepared {
            images.push(image);
            boxes.push(of_image.iter().flatten().map(|&side| side as f32).collect());
            labels.push(trained_on(annotated).map(|object| object.class as i64 + 1).collect());
        }
        Ok(Batch { images: Padded::new(&images), boxes, labels })
    }
}

/// Objects that count: difficult ones are never trained on.
fn trained_on(annotated: &Annotated) -> impl Iterator<Item = &crate::Object> {
    annotated.objects.iter().filter(|object| !object.difficult)
}

impl Augment {
    /// Decodes, resizes and perhaps mirrors an image with its objects' boxes.
    fn prepare(&self, annotated: &Annotated, seed: u64, place: u64) -> Result<Prepared> {
        let mut generator = generator(seed, "augment", 0, place);
        let scale = &self.scales[generator.random_range(0..self.scales.len())];
        let mirrored = generator.random::<f64>() < self.flip;
        let boxes = trained_on(annotated).map(|object| object.bbox).collect();
        let prepared =
            rescale(decode::read_upright(&annotated.image, (annotated.width, annotated.height))?, boxes, scale);
        Ok(if mirrored { mirror(prepared) } else { prepared })
    }
}
