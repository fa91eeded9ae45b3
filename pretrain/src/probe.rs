//! The online probe: measures of the backbone's features on some training images, every few epochs of
//! pretraining. It only measures: a run ends with the same weights with or without it.

use camtrast_analysis::measures::{nearest_neighbours, spectrum, uniformity};
use camtrast_common::augment::{IMAGENET_MEAN, IMAGENET_STD, Input};
use camtrast_common::device::{Precision, send};
use camtrast_common::features::{BATCH, Images, pooled};
use camtrast_common::nn::unit;
use camtrast_common::random::{generator, permutation};
use camtrast_common::resnet::ResNet;
use camtrast_common::{Error, Result};
use camtrast_datasets::{Pack, Selection};
use tch::{Device, Tensor};

/// Largest number of images measured.
const IMAGES: u64 = 1024;
/// A forward pass is about a third of a training step, so a twentieth of the images trained on between two
/// probes costs less than 2 % of the time.
const SHARE: u64 = 20;
const NEIGHBOURS: i64 = 20;

/// The images to measure, and how often.
pub(crate) struct Probe {
    every: u64,
    pixels: Tensor,
    input: Input,
    labels: Tensor,
    classes: i64,
    precision: Precision,
    device: Device,
    seed: u64,
}

impl Probe {
    /// Draws the images from the seed.
    pub(crate) fn new(
        every: u64,
        pack: &Pack,
        selection: &Selection,
        precision: Precision,
        device: Device,
        seed: u64,
    ) -> Result<Self> {
        let all = selection.indices.len();
        let count = (all as u64 * every / SHARE).clamp(2, IMAGES) as usize;
        if every == 0 || all < 2 {
            return Err(Error::settings(
                "--probe-every needs at least 1 epoch and 2 images",
                "leave it out",
            ));
        }
        let order = permutation(all, &mut generator(seed, "probe/images", 0, 0));
        let chosen = &order[..count.min(all)];
        let rows: Vec<i64> = chosen.iter().map(|&i| selection.indices[i as usize]).collect();
        let labels: Vec<i64> = chosen.iter().map(|&i| selection.labels[i as usize]).collect();
        Ok(Probe {
            every,
            pixels: send(pack.rows(&rows)?, device),
            labels: send(Tensor::from_slice(&labels), device),
            input: Input::new(&IMAGENET_MEAN, &IMAGENET_STD, device),
            classes: selection.classes as i64,
            precision,
            device,
            seed,
        })
    }

    /// The measures of `camtrast_analysis::measures` when `epoch` (from 0) is one to probe after, otherwise
    /// none.
    pub(crate) fn measures(&self, backbone: &ResNet, epoch: u64) -> Result<Vec<(&'static str, f64)>> {
        if !(epoch + 1).is_multiple_of(self.every) {
            return Ok(Vec::new());
        }
        let parts = self.pixels.split(BATCH as i64, 0);
        let parts = parts
            .iter()
            .map(|pixels| pooled(backbone, &self.input.of(pixels), self.device, self.precision));
        let features = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0);
        let found = spectrum(&features)?;
        Ok(vec![
            ("entropy", found.entropy),
            ("effective_rank", found.effective_rank),
            ("uniformity", uniformity(&features, self.seed)?.value),
            ("uniformity_unit", uniformity(&unit(&features), self.seed)?.value),
            (
                "knn_accuracy",
                nearest_neighbours(&features, &self.labels, self.classes, NEIGHBOURS)?,
            ),
        ])
    }
}
