//! What is done to an image, and how often.

use serde::{Deserialize, Serialize};

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
///
/// ```
/// use camtrast_common::augment::{Augment, Crop};
/// use camtrast_common::random::generator;
/// use tch::{Device, Kind, Tensor};
///
/// let flips_and_crops = Augment { crop: Crop::Padded { padding: 4 }, flip: 0.5, ..Augment::NONE };
/// let pixels = Tensor::randint(256, [8, 32, 32, 3], (Kind::Uint8, Device::Cpu)); // [N, H, W, 3]
/// let view = |step| flips_and_crops.apply(&pixels, &mut generator(0, "augment", 0, step));
/// assert_eq!(view(0).size(), [8, 3, 32, 32]); // f32, normalised
/// assert_eq!(view(0), view(0), "the same generator gives the same view");
/// assert_ne!(view(0), view(1));
/// ```
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
}

/// Mean and standard deviation of colour, RGB in 0..1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Normalisation {
    pub(super) mean: [f64; 3],
    pub(super) std: [f64; 3],
}

pub(super) const IMAGENET: Normalisation = Normalisation {
    mean: IMAGENET_MEAN,
    std: IMAGENET_STD,
};

impl Normalisation {
    // `(x - mean) / std` is `x * scale + shift`.
    pub(super) fn scale_and_shift(self) -> [f32; 6] {
        let Normalisation { mean, std } = self;
        std::array::from_fn(|i| match i {
            0..3 => (1.0 / std[i]) as f32,
            _ => (-mean[i - 3] / std[i - 3]) as f32,
        })
    }
}
