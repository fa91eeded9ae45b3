//! Pooled features of images.

use crate::augment::Input;
use crate::checkpoint::Backbone;
use crate::device::{Precision, send};
use crate::distributed::Group;
use crate::error::Result;
use crate::nn::Mode;
use crate::progress::Progress;
use crate::resnet::ResNet;
use tch::{Device, Kind, Tensor, no_grad};

/// Images that go through the network at once.
pub const BATCH: usize = 128;

/// Images of one size that can be read by their row: a pack, above all.
pub trait Images {
    /// Number of images.
    fn count(&self) -> usize;
    /// The images of these rows, in this order, on the host: u8 [N, H, W, 3].
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    fn rows(&self, rows: &[i64]) -> Result<Tensor>;
}

/// Globally average-pooled features of all images, f32 [N, D] on `device`, where the backbone lies. Images
/// are not augmented, and normalised as in the backbone's training.
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn extract(
    backbone: &Backbone,
    images: &dyn Images,
    device: Device,
    precision: Precision,
    group: Group,
    progress: &dyn Progress,
) -> Result<Tensor> {
    let rows: Vec<i64> = (0..images.count() as i64).collect();
    extract_rows(backbone, images, &rows, device, precision, group, progress)
}

/// Features of some rows, in their order. Each process of `group` computes those of its share of the batches,
/// and all get all: the same features, to the bit, as of one process.
///
/// # Errors
/// [`crate::Error::Torch`], [`crate::Error::Lost`].
pub fn extract_rows(
    backbone: &Backbone,
    images: &dyn Images,
    rows: &[i64],
    device: Device,
    precision: Precision,
    group: Group,
    progress: &dyn Progress,
) -> Result<Tensor> {
    let batches: Vec<&[i64]> = rows.chunks(BATCH).collect();
    let own = &batches[group.share(batches.len())];
    progress.start("features", own.iter().map(|rows| rows.len() as u64).sum(), 0);
    let input = Input::new(&backbone.info.mean, &backbone.info.std, device);
    let parts = own.iter().map(|rows| {
        let pixels = send(images.rows(rows)?, device);
        let features = pooled(&backbone.net, &input.of(&pixels), device, precision)?;
        progress.advance(rows.len() as u64, "");
        Ok(features)
    });
    let mut parts: Vec<Tensor> = parts.collect::<Result<_>>()?;
    progress.finish();
    if parts.is_empty() {
        parts.push(Tensor::zeros(
            [0, backbone.info.arch.features()],
            (Kind::Float, device),
        ));
    }
    group.gather_rows(&Tensor::cat(&parts, 0))
}

/// Pooled features f32 [N, D] of network input [N, 3, H, W], as a trained network gives them.
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn pooled(net: &ResNet, input: &Tensor, device: Device, precision: Precision) -> Result<Tensor> {
    let features = no_grad(|| precision.run(device, || Ok(net.features(input, Mode::Eval))))?;
    Ok(features.to_kind(Kind::Float))
}
