//! Batch norm statistics of the finished backbone, on images as in tests: without augmentation and
//! suppression.

use camtrast_common::Result;
use camtrast_common::augment::{IMAGENET_MEAN, IMAGENET_STD, Input};
use camtrast_common::device::{Precision, send};
use camtrast_common::features::Images;
use camtrast_common::precise_bn::re_estimate;
use camtrast_common::random::{generator, permutation};
use camtrast_common::resnet::ResNet;
use camtrast_datasets::{Pack, Selection};
use std::sync::Arc;
use tch::Device;

/// Batches of training images.
pub(crate) struct CleanImages {
    pack: Arc<Pack>,
    rows: Vec<i64>,
    batch_size: usize,
    precision: Precision,
    device: Device,
}

impl CleanImages {
    /// `batches` batches of `batch_size` images each, which `seed` draws from the selection without
    /// replacement.
    pub(crate) fn new(
        (batches, batch_size): (u64, u64),
        (pack, selection): (&Arc<Pack>, &Selection),
        (device, precision): (Device, Precision),
        seed: u64,
    ) -> Self {
        let order = permutation(selection.indices.len(), &mut generator(seed, "precise-bn", 0, 0));
        let chosen = order.into_iter().take((batches * batch_size) as usize);
        let rows = chosen.map(|i| selection.indices[i as usize]).collect();
        CleanImages {
            pack: pack.clone(),
            rows,
            batch_size: batch_size as usize,
            precision,
            device,
        }
    }

    /// Gives every batch norm of the backbone the statistics of these images. The same images and weights
    /// give the same statistics, whatever the statistics were before.
    pub(crate) fn measure(&self, backbone: &ResNet) -> Result<()> {
        let batches: Vec<&[i64]> = self.rows.chunks(self.batch_size).collect();
        let input = Input::new(&IMAGENET_MEAN, &IMAGENET_STD, self.device);
        re_estimate(batches.len() as u64, |batch, mode| {
            let input = input.of(&send(self.pack.rows(batches[batch as usize])?, self.device));
            self.precision
                .run(self.device, || Ok(backbone.feature_map(&input, mode)))
                .map(drop)
        })
    }
}
