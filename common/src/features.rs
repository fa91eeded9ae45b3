//! Pooled features of every image of a pack.

use crate::augment::to_input;
use crate::checkpoint::Backbone;
use crate::data::Pack;
use crate::device::Precision;
use crate::error::Result;
use crate::nn::Mode;
use crate::progress::Progress;
use tch::{Device, Kind, Tensor, no_grad};

/// Images that go through the network at once.
const BATCH: usize = 128;

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
    let (height, width) = (pack.height(), pack.width());
    let image = height * width * 3;
    progress.start("features", pack.len() as u64, 0);
    let parts = pack.pixels().chunks(BATCH * image).map(|bytes| {
        let n = (bytes.len() / image) as i64;
        let pixels =
            Tensor::f_from_data_size(bytes, &[n, height as i64, width as i64, 3], Kind::Uint8)?.to_device(device);
        let input = to_input(&pixels, &backbone.info.mean, &backbone.info.std);
        let features = no_grad(|| precision.run(device, || Ok(backbone.net.features(&input, Mode::Eval))))?;
        progress.advance(n as u64, "");
        Ok(features.to_kind(Kind::Float))
    });
    let parts: Vec<Tensor> = parts.collect::<Result<_>>()?;
    progress.finish();
    Ok(Tensor::cat(&parts, 0))
}
