//! Augmentation as batched tensor operations on the training device.
//!
//! The host draws a few numbers per image; pixels are touched only by whole-batch operations, so the same
//! code keeps a CPU or a GPU busy. The operations are torchvision's (`transforms.v2`), with two differences
//! that do not change the distribution for a single image: the order of the colour operations is drawn once
//! per batch, and flips are folded into the crop.

mod colour;
mod draw;
mod geometry;
#[cfg(test)]
mod tests;

pub use colour::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, gaussian_blur, luma, solarize,
};
pub use geometry::{Window, sample_windows};

use crate::device::channels_last;
use draw::Draws;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// ImageNet's mean colour, RGB in 0..1.
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// ImageNet's standard deviation of colour, RGB in 0..1.
pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

/// How an image is cropped.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// Not cropped.
    None,
    /// Padded with black and cropped back at random (`RandomCrop(size, padding)`).
    Padded {
        /// Pixels added on each side.
        padding: i64,
    },
    /// A random window with a share of the area from `scale` and an aspect ratio of 3/4 to 4/3, resized to
    /// the full size (`RandomResizedCrop`).
    Resized {
        /// Smallest and largest share of the area.
        scale: (f64, f64),
    },
}

/// The random operations on every image, and their probabilities.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// The crop.
    pub crop: Crop,
    /// Probability of a mirror image.
    pub flip: f64,
    /// Strength of brightness, contrast, saturation and hue changes (`ColorJitter`).
    pub jitter: [f64; 4],
    /// Probability that the jitter is applied.
    pub jitter_probability: f64,
    /// Probability of conversion to grey.
    pub grayscale: f64,
    /// Smallest and largest standard deviation of the blur, in pixels.
    pub blur_sigma: (f64, f64),
    /// Probability of the blur.
    pub blur: f64,
    /// Probability of inverting all values from 1/2 up (`RandomSolarize` at threshold 128).
    pub solarize: f64,
}

impl Augment {
    /// No augmentation, only normalisation.
    pub const NONE: Augment = Augment {
        crop: Crop::None,
        flip: 0.0,
        jitter: [0.0; 4],
        jitter_probability: 0.0,
        grayscale: 0.0,
        blur_sigma: (0.1, 2.0),
        blur: 0.0,
        solarize: 0.0,
    };

    /// MoCo v2's (Chen et al. 2020b).
    pub const MOCO_V2: Augment = Augment {
        crop: Crop::Resized { scale: (0.2, 1.0) },
        flip: 0.5,
        jitter: [0.4, 0.4, 0.4, 0.1],
        jitter_probability: 0.8,
        grayscale: 0.2,
        blur_sigma: (0.1, 2.0),
        blur: 0.5,
        solarize: 0.0,
    };

    /// Turns pixels u8 [N, H, W, 3] into network input f32 [N, 3, H, W], normalised as ImageNet and laid out
    /// channels-last. The same generator state gives the same images on every device.
    pub fn apply(&self, pixels: &Tensor, generator: &mut ChaCha8Rng) -> Tensor {
        self.apply_with(pixels, &IMAGENET_MEAN, &IMAGENET_STD, generator)
    }

    /// As [`Augment::apply`], with another normalisation.
    pub fn apply_with(
        &self,
        pixels: &Tensor,
        mean: &[f64; 3],
        std: &[f64; 3],
        generator: &mut ChaCha8Rng,
    ) -> Tensor {
        let (n, height, width, _) = pixels.size4().expect("pixels are [N, H, W, 3]");
        let draws = Draws::new(self, n as usize, height, width, generator);
        // On a CPU a few images at a time stay in its cache; a GPU is fastest with all at once.
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
