//! What is done to an image, and how often.

use serde::{Deserialize, Serialize};

/// How an image is cut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crop {
    /// As it is.
    None,
    /// Padded with black and cropped back at random (`RandomCrop(size, padding)`).
    Padded {
        /// Pixels added on each side.
        padding: i64,
    },
    /// A random part, of `scale` of the area and 3/4 to 4/3 as wide as high, stretched back
    /// (`RandomResizedCrop`).
    Resized {
        /// Least and largest share of the area.
        scale: (f64, f64),
    },
}

/// What is done to every image, and how often.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// How it is cut.
    pub crop: Crop,
    /// Probability of a mirror image.
    pub flip: f64,
    /// Strength of brightness, contrast, saturation and hue changes (`ColorJitter`).
    pub jitter: [f64; 4],
    /// Probability that the jitter is applied.
    pub jitter_probability: f64,
    /// Probability of turning grey.
    pub grayscale: f64,
    /// Least and largest standard deviation of the blur, in pixels.
    pub blur_sigma: (f64, f64),
    /// Probability of the blur.
    pub blur: f64,
    /// Probability of inverting all values from 1/2 up (`RandomSolarize` at threshold 128).
    pub solarize: f64,
}

impl Augment {
    /// Nothing but normalisation.
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
