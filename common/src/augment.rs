//! Augmentation as batched tensor operations on the training device.
//!
//! The host draws a few numbers per image; pixels are touched only by whole-batch operations, so the same
//! code keeps a CPU or a GPU busy. The operations are torchvision's (`transforms.v2`), with two differences
//! that do not change the distribution for a single image: the order of the colour operations is drawn once
//! per batch, and flips are folded into the crop.

mod colour;
mod draw;
mod geometry;
mod policy;
#[cfg(test)]
mod tests;

pub use colour::{
    adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, gaussian_blur, luma, solarize,
};
pub use draw::Draws;
pub use geometry::{Window, sample_windows};
pub use policy::{Augment, Crop, IMAGENET_MEAN, IMAGENET_STD};

use crate::device::{channels_last, send};
use policy::{IMAGENET, Normalisation};
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

impl Augment {
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
        let draws = vec![self.draw_with([n, height, width], mean, std, generator)];
        self.apply_draws(pixels, &Draws::send(draws, pixels.device())[0])
    }

    /// Draws the numbers for [`Augment::apply_draws`] on `size` = [N, H, W], normalised as ImageNet.
    pub fn draw(&self, size: [i64; 3], generator: &mut ChaCha8Rng) -> Draws {
        Draws::new(self, size, IMAGENET, generator)
    }

    /// As [`Augment::draw`], with another normalisation.
    pub fn draw_with(
        &self,
        size: [i64; 3],
        mean: &[f64; 3],
        std: &[f64; 3],
        generator: &mut ChaCha8Rng,
    ) -> Draws {
        let normalisation = Normalisation {
            mean: *mean,
            std: *std,
        };
        Draws::new(self, size, normalisation, generator)
    }

    /// As [`Augment::apply`], with numbers that are on the pixels' device already. `pixels` are the images
    /// that the numbers are used for.
    pub fn apply_draws(&self, pixels: &Tensor, draws: &Draws) -> Tensor {
        let part = draws.part();
        // On a CPU a few images at a time stay in its cache; a GPU is fastest with all at once.
        let chunk = if pixels.device() == Device::Cpu {
            16
        } else {
            part.len().max(1)
        };
        let parts: Vec<Tensor> = (part.clone().step_by(chunk))
            .map(|start| self.augment(pixels, draws, start..part.end.min(start + chunk)))
            .map(|images| scale_and_shift(&images, &draws.normalisation()))
            .collect();
        match parts.len() {
            1 => parts.into_iter().next().expect("one"),
            _ => Tensor::cat(&parts, 0),
        }
    }

    // Some images of a batch, values in 0..1, not yet normalised.
    fn augment(&self, pixels: &Tensor, draws: &Draws, images: Range<usize>) -> Tensor {
        let first = (images.start - draws.part().start) as i64;
        let mut x = unit_range(&pixels.narrow(0, first, images.len() as i64));
        if let Some(windows) = draws.windows(&images) {
            x = geometry::sample(&x, &windows);
        }
        for operation in draws.order().into_iter().flatten() {
            let factor = || draws.factor(operation, &images);
            x = match operation {
                _ if self.jitter[operation] == 0.0 => x,
                0 => adjust_brightness(&x, &factor()),
                1 => adjust_contrast(&x, &factor()),
                2 => adjust_saturation(&x, &factor()),
                _ => colour::turn_hue(&x, &factor(), &draws.hue()),
            };
        }
        if let Some(grey) = draws.grayscale(&images) {
            x = change_rows(x, &grey.rows, |x| luma(x).expand_as(x));
        }
        if let Some((blurred, sigma)) = draws.blur(&images) {
            let largest = self.blur_sigma.1;
            x = change_rows(x, &blurred.rows, |x| colour::blur(x, &sigma, largest));
        }
        if let Some(inverted) = draws.solarize(&images) {
            x = change_rows(x, &inverted.rows, solarize);
        }
        x
    }
}

// Applies an operation to some images of a batch.
fn change_rows(mut x: Tensor, rows: &Tensor, operation: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
    let changed = operation(&x.index_select(0, rows));
    x.index_copy_(0, rows, &changed)
}

/// Pixels u8 [N, H, W, 3] as f32 [N, 3, H, W] in 0..1.
pub fn unit_range(pixels: &Tensor) -> Tensor {
    pixels.permute([0, 3, 1, 2]).contiguous().to_kind(Kind::Float) / 255.0
}

/// `(x - mean) / std` per channel of [N, 3, H, W], laid out channels-last.
pub fn normalise(x: &Tensor, mean: &[f64; 3], std: &[f64; 3]) -> Tensor {
    scale_and_shift(x, &Input::new(mean, std, x.device()).constants)
}

// `x * scale + shift`, laid out channels-last; the constants are both, [2, 1, 3, 1, 1].
fn scale_and_shift(x: &Tensor, constants: &Tensor) -> Tensor {
    channels_last(&constants.get(1).addcmul(x, &constants.get(0)))
}

/// Turns pixels into network input, without augmentation. Its constants lie on the device.
#[derive(Debug)]
pub struct Input {
    constants: Tensor,
}

impl Input {
    /// For images on a device, normalised by mean and standard deviation of their colour, RGB in 0..1.
    pub fn new(mean: &[f64; 3], std: &[f64; 3], device: Device) -> Self {
        let normalisation = Normalisation {
            mean: *mean,
            std: *std,
        };
        let constants = Tensor::from_slice(&normalisation.scale_and_shift());
        Input {
            constants: send(constants.view([2, 1, 3, 1, 1]), device),
        }
    }

    /// Pixels u8 [N, H, W, 3] to f32 [N, 3, H, W], laid out channels-last.
    pub fn of(&self, pixels: &Tensor) -> Tensor {
        scale_and_shift(&unit_range(pixels), &self.constants)
    }
}
