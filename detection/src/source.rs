//! Batches of annotated images, decoded and resized off the training thread.

use crate::grouping::{Group, Grouping, Groups};
use crate::model::heads::Truth;
use crate::transform::{Padded, Prepared, Scale, mirror, rescale};
use crate::{Annotated, Dataset, Object};
use camtrast_common::Result;
use camtrast_common::device::send;
use camtrast_common::distributed::Group as Processes;
use camtrast_common::engine::Source;
use camtrast_common::random::generator;
use camtrast_images::decode;
use rand::RngExt;
use rayon::prelude::*;
use std::sync::Arc;
use tch::{Device, Tensor};

/// Random changes of training images.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectionAugment {
    /// Scales, at least one, of which each image gets one; all pad alike.
    pub scales: Vec<Scale>,
    /// Probability of a mirror image.
    pub flip: f64,
    /// Whether objects marked difficult are trained on.
    pub difficult: bool,
}

/// What one step trains on, on the device.
#[derive(Debug)]
pub struct Batch {
    /// The images, group by group.
    pub groups: Vec<Padded>,
    /// Ground truth of each image, in the order of the groups.
    pub truth: Vec<Truth>,
}

// The ground truth of all images reaches the device as two tensors: boxes x1, y1, x2, y2 and classes from 1
// on, image after image.
fn truth(boxes: &[Vec<f32>], labels: &[Vec<i64>], device: Device) -> Vec<Truth> {
    let counts: Vec<i64> = labels.iter().map(|labels| labels.len() as i64).collect();
    let boxes = send(Tensor::from_slice(&boxes.concat()).view([-1, 4]), device);
    let labels = send(Tensor::from_slice(&labels.concat()), device);
    let parts = |t: Tensor| t.split_with_sizes(&counts, 0).into_iter();
    let truth = |(boxes, labels)| Truth { boxes, labels };
    parts(boxes).zip(parts(labels)).map(truth).collect()
}

/// Draws batches pass after pass.
pub struct DetectionSource {
    dataset: Arc<Dataset>,
    augment: DetectionAugment,
    batches_per_epoch: u64,
    seed: u64,
    device: Device,
    groups: Groups,
}

impl DetectionSource {
    /// Over a data set with at least one image, for one of the `processes` that train together.
    pub fn new(
        dataset: Arc<Dataset>,
        augment: DetectionAugment,
        grouping: Grouping,
        batches_per_epoch: u64,
        seed: u64,
        device: Device,
        processes: Processes,
    ) -> Self {
        let groups = Groups::new(&dataset, grouping, seed, processes);
        DetectionSource {
            dataset,
            augment,
            batches_per_epoch,
            seed,
            device,
            groups,
        }
    }
}

impl Source for DetectionSource {
    type Batch = Batch;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Batch> {
        let chosen = self.groups.batch(epoch * self.batches_per_epoch + index);
        let prepare = |&(place, sample): &(u64, usize)| {
            let annotated = &self.dataset.images[sample];
            Ok((self.augment.prepare(annotated, self.seed, place)?, annotated))
        };
        let prepare_group = |group: &Group| group.par_iter().map(prepare).collect::<Result<Vec<_>>>();
        let prepared = chosen.par_iter().map(prepare_group).collect::<Result<Vec<_>>>()?;
        let (mut groups, mut boxes, mut labels) = (Vec::new(), Vec::new(), Vec::new());
        for group in prepared {
            let mut images = Vec::new();
            for (
                Prepared {
                    image,
                    boxes: of_image,
                },
                annotated,
            ) in group
            {
                images.push(image);
                boxes.push(of_image.iter().flatten().map(|&side| side as f32).collect());
                labels.push(
                    self.augment
                        .trained_on(annotated)
                        .map(|object| object.class as i64 + 1)
                        .collect(),
                );
            }
            groups.push(Padded::new(&images, self.augment.scales[0].pad_to).sent(self.device));
        }
        Ok(Batch {
            groups,
            truth: truth(&boxes, &labels, self.device),
        })
    }
}

impl DetectionAugment {
    /// The objects of an image that it is trained on.
    pub fn trained_on<'a>(&self, annotated: &'a Annotated) -> impl Iterator<Item = &'a Object> + use<'a> {
        let difficult = self.difficult;
        annotated
            .objects
            .iter()
            .filter(move |object| difficult || !object.difficult)
    }

    /// Decodes, resizes and perhaps mirrors an image with its objects' boxes.
    fn prepare(&self, annotated: &Annotated, seed: u64, place: u64) -> Result<Prepared> {
        let mut generator = generator(seed, "augment", 0, place);
        let scale = &self.scales[generator.random_range(0..self.scales.len())];
        let mirrored = generator.random::<f64>() < self.flip;
        let boxes = self.trained_on(annotated).map(|object| object.bbox).collect();
        let prepared = rescale(
            decode::read_upright(&annotated.image, (annotated.width, annotated.height))?,
            boxes,
            scale,
        );
        Ok(if mirrored { mirror(prepared) } else { prepared })
    }
}
