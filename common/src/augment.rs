//! Augmentation as batched tensor operations on the training device.
//!
//! The host draws a few numbers per image; pixels are touched only by whole-batch operations, so the same
//! code keeps a CPU or a GPU busy. The operations are torchvision's (`transforms.v2`), with two liberties
//! that change no distribution an image sees by itself: the order of the colour operations is drawn once per
//! batch, and flips are folded into the crop.

mod colour;
mod draw;
mod geometry;
mod policy;
#[cfg(test)]
mod tests;

pub use colour::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, gaussian_blur, luma, solarize,
};
pub use geometry::{Window, sample_windows};
pub use policy::{Augment, Crop};

use crate::device::channels_last;
use draw::Draws;
use rand_chacha::ChaCha8Rng;
use tch::{Device, Kind, Tensor};

/// ImageNet's mean colour, RGB in 0..1.
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of colour, RGB in 0..1.
pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

impl Augment {
    /// Turns pixels u8 [N, H, W, 3] into network input f32 [N, 3, H, W], normalised as ImageNet and laid out
    /// channels-last. The same generator state gives the same images on every device.
    pub fn apply(&self, pixels: &Tensor, generator: &mut ChaCha8Rng) -> Tensor {
        self.apply_with(pixels, &IMAGENET_MEAN, &IMAGENET_STD, generator)
    }

    /// The same with another normalisation.
    pub fn apply_with(
        &self,
        pixels: &Tensor,
        mean: &[f64; 3],
        std: &[f64; 3],
        generator: &mut ChaCha8Rng,
    ) -> Tensor {
        let (n, height, width, _) = pixels.size4().expect("pixels are [N, H, W, 3]");
        let draws = Draws::new(self, n as usize, height, width, generator);
        // On a CPU a few images at a time stay in its cache; a GPU wants them all.
        let chunk = if pixels.device() == Device::Cpu {
            16
        } else {
            n.max(1)
        };
        let parts: Vec<Tensor> = (0..n)
            .step_by(chunk as usize)
            .map(|start| {
                self.augment(
                    &pixels.narrow(0, start, chunk.min(n - start)),
                    &draws,
                    start as usize,
                )
            })
            .map(|images| normalise(&images, mean, std))
            .collect();
        Tensor::cat(&parts, 0)
    }

    // Values in 0..1, not yet normalised.
    fn augment(&self, pixels: &Tensor, draws: &Draws, start: usize) -> Tensor {
        let device = pixels.device();
        let images = start..start + pixels.size()[0] as usize;
        let mut x = unit_range(pixels);
        if let Some(windows) = &draws.windows {
            x = sample_windows(&x, &windows[images.clone()]);
        }
        if let Some(jitter) = &draws.jitter {
            let factor = |i: usize| column(jitter.factors[i][images.clone()].iter().copied(), device);
            for operation in jitter.order {
                x = match operation {
                    _ if self.jitter[operation] == 0.0 => x,
                    0 => adjust_brightness(&x, &factor(0)),
                    1 => adjust_contrast(&x, &factor(1)),
                    2 => adjust_saturation(&x, &factor(2)),
                    _ => adjust_hue(&x, &factor(3)),
                };
            }
        }
        if let Some(grey) = &draws.grayscale {
            let rows = images
                .clone()
                .filter(|&i| grey[i])
                .map(|i| (i - start) as i64)
                .collect();
            x = change_rows(x, rows, |x| luma(x).expand_as(x));
        }
        if let Some(sigmas) = &draws.blur {
            let rows = images
                .clone()
                .filter(|&i| sigmas[i].is_some())
                .map(|i| (i - start) as i64)
                .collect();
            let sigma: Vec<f32> = sigmas[images.clone()].iter().flatten().copied().collect();
            x = change_rows(x, rows, |x| gaussian_blur(x, &sigma, self.blur_sigma.1));
        }
        if let Some(inverted) = &draws.solarize {
            let rows = images
                .filter(|&i| inverted[i])
                .map(|i| (i - start) as i64)
                .collect();
            x = change_rows(x, rows, solarize);
        }
        x
    }
}

// Applies an operation to some images of a batch.
fn change_rows(mut x: Tensor, rows: Vec<i64>, operation: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    if rows.is_empty() {
        return x;
    }
    let rows = Tensor::from_slice(&rows).to_device(x.device());
    let changed = operation(&x.index_select(0, &rows));
    x.index_copy_(0, &rows, &changed)
}

/// Pixels u8 [N, H, W, 3] as f32 [N, 3, H, W] in 0..1.
pub fn unit_range(pixels: &Tensor) -> Tensor {
    pixels.permute([0, 3, 1, 2]).contiguous().to_kind(Kind::Float) / 255.0
}

/// `(x - mean) / std` per channel of [N, 3, H, W], laid out channels-last.
pub fn normalise(x: &Tensor, mean: &[f64; 3], std: &[f64; 3]) -> Tensor {
    let channels = |v: [f64; 3]| {
        Tensor::from_slice(&v)
            .to_kind(Kind::Float)
            .view([1, 3, 1, 1])
            .to_device(x.device())
    };
    let scale = channels(std.map(|s| 1.0 / s));
    let shift = channels([0, 1, 2].map(|c| -mean[c] / std[c]));
    channels_last(&shift.addcmul(x, &scale))
}

/// Pixels u8 [N, H, W, 3] as network input, without augmentation.
pub fn to_input(pixels: &Tensor, mean: &[f64; 3], std: &[f64; 3]) -> Tensor {
    normalise(&unit_range(pixels), mean, std)
}

fn column(values: impl Iterator<Item = f32>, device: Device) -> Tensor {
    Tensor::from_slice(&values.collect::<Vec<f32>>())
        .view([-1, 1, 1, 1])
        .to_device(device)
}
