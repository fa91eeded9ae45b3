//! Pooled features of images of a pack.

use crate::augment::to_input;
use crate::checkpoint::Backbone;
use crate::data::Pack;
use crate::device::Precision;
use crate::error::Result;
use crate::nn::Mode;
use crate::progress::Progress;
use crate::resnet::ResNet;
use tch::{Device, Kind, Tensor, no_grad};

/// Images that go through the network at once.
pub const BATCH: usize = 128;

/// Globally average-pooled features of a whole pack, f32 [N, D] on `device`, where the backbone lies. Images enter as they
/// are in the pack, normalised as the backbone was trained.
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn extract(
    backbone: &Backbone,
    pack: &Pack,
    device: Device,
    precision: Precision,
    progress: &dyn Progress,
) -> Result<Tensor> {
    let rows: Vec<i64> = (0..pack.len() as i64).collect();
    extract_rows(backbone, pack, &rows, device, precision, progress)
}

/// The same of some rows of a pack, in their order.
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn extract_rows(
    backbone: &Backbone,
    pack: &Pack,
    rows: &[i64],
    device: Device,
    precision: Precision,
    progress: &dyn Progress,
) -> Result<Tensor> {
    progress.start("features", rows.len() as u64, 0);
    let parts = rows.chunks(BATCH).map(|rows| {
        let input = to_input(&pixels(pack, rows)?.to_device(device), &backbone.info.mean, &backbone.info.std);
        let features = pooled(&backbone.net, &input, device, precision)?;
        progress.advance(rows.len() as u64, "");
        Ok(features)
    });
    let parts: Vec<Tensor> = parts.collect::<Result<_>>()?;
    progress.finish();
    Ok(Tensor::cat(&parts, 0))
}

/// Some rows of a pack on the host, u8 [N, H, W, 3].
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn pixels(pack: &Pack, rows: &[i64]) -> Result<Tensor> {
    let (height, width) = (pack.height(), pack.width());
    let image = height * width * 3;
    let mut bytes: Vec<u8> = Vec::with_capacity(rows.len() * image);
    rows.iter().for_each(|&row| bytes.extend(&pack.pixels()[row as usize * image..][..image]));
    Ok(Tensor::f_from_data_size(&bytes, &[rows.len() as i64, height as i64, width as i64, 3], Kind::Uint8)?)
}

/// Pooled features f32 [N, D] of network input [N, 3, H, W], as a trained network gives them.
///
/// # Errors
/// [`crate::Error::Torch`].
pub fn pooled(net: &ResNet, input: &Tensor, device: Device, precision: Precision) -> Result<Tensor> {
    let features = no_grad(|| precision.run(device, || Ok(net.features(input, Mode::Eval))))?;
    Ok(features.to_kind(Kind::Float))
}
