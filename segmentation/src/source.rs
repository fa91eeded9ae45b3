//! Training batches, made ready by the engine's loader thread with the help of all idle cores.

use crate::augment::SegmentationAugment;
use crate::dataset::Dataset;
use camtrast_common::Result;
use camtrast_common::device::send;
use camtrast_common::distributed::Group;
use camtrast_common::engine::Source;
use camtrast_common::random::generator;
use camtrast_common::sampler::Passes;
use rayon::prelude::*;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Crops of one step, on the device.
pub struct Batch {
    /// Pixels u8 [N, H, W, 3].
    pub images: Tensor,
    /// Train ids u8 [N, H, W], 255 where ignored.
    pub labels: Tensor,
}

/// Goes through the data set again and again, each pass in an order of its own.
pub struct CropSource {
    dataset: Arc<Dataset>,
    augment: SegmentationAugment,
    batch_size: u64,
    batches_per_epoch: u64,
    seed: u64,
    device: Device,
    passes: Passes,
}

impl CropSource {
    /// Over a data set with at least one sample. `batches_per_epoch` is the engine's, which need not be a
    /// pass of the data. Each process of `group` gets its part of every batch.
    pub fn new(
        dataset: Arc<Dataset>,
        augment: SegmentationAugment,
        batch_size: u64,
        batches_per_epoch: u64,
        seed: u64,
        device: Device,
        group: Group,
    ) -> Self {
        let passes = Passes::new(dataset.samples.len(), seed, group);
        CropSource {
            dataset,
            augment,
            batch_size,
            batches_per_epoch,
            seed,
            device,
            passes,
        }
    }
}

impl Source for CropSource {
    type Batch = Batch;

    fn batch(&mut self, epoch: u64, index: u64) -> Result<Batch> {
        let chosen = self
            .passes
            .batch(epoch * self.batches_per_epoch + index, self.batch_size);
        let crop = |&(place, sample): &(u64, usize)| {
            let (image, labels) = self.dataset.samples[sample].read_for_training(&self.dataset.classes)?;
            self.augment
                .apply(&image, &labels, &mut generator(self.seed, "augment", 0, place))
        };
        let crops = chosen.par_iter().map(crop).collect::<Result<Vec<_>>>()?;
        let (images, labels): (Vec<_>, Vec<_>) = crops.into_iter().unzip();
        let (n, height, width) = (
            images.len() as i64,
            self.augment.height as i64,
            self.augment.width as i64,
        );
        let images = Tensor::f_from_data_size(&images.concat(), &[n, height, width, 3], Kind::Uint8)?;
        let labels = Tensor::f_from_data_size(&labels.concat(), &[n, height, width], Kind::Uint8)?;
        Ok(Batch {
            images: send(images, self.device),
            labels: send(labels, self.device),
        })
    }
}
