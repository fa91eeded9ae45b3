//! The few random numbers that an image's augmentation needs.

use super::geometry::Window;
use super::policy::{Augment, Crop};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One batch's numbers, a row per image. `None`: the operation is off.
pub(super) struct Draws {
    pub windows: Option<Vec<Window>>,
    pub jitter: Option<Jitter>,
    pub grayscale: Option<Vec<bool>>,
    pub blur: Option<Vec<Option<f32>>>,
    pub solarize: Option<Vec<bool>>,
}

/// Factors of brightness, contrast, saturation (1: unchanged) and hue (0: unchanged), and the order they are
/// applied in.
pub(super) struct Jitter {
    pub factors: [Vec<f32>; 4],
    pub order: [usize; 4],
}

impl Draws {
    pub fn new(augment: &Augment, n: usize, height: i64, width: i64, generator: &mut ChaCha8Rng) -> Self {
        let still = augment.crop == Crop::None && augment.flip == 0.0;
        let windows = (!still).then(|| {
            let mut window = || Window {
                flip: generator.random_bool(augment.flip),
                ..crop(augment.crop, height, width, generator)
            };
            (0..n).map(|_| window()).collect()
        });
        let jittered = augment.jitter_probability > 0.0 && augment.jitter != [0.0; 4];
        let jitter = jittered.then(|| {
            let mut order = [0, 1, 2, 3];
            (1..4)
                .rev()
                .for_each(|last| order.swap(last, generator.random_range(0..=last)));
            let mut factors = [(); 4].map(|_| Vec::with_capacity(n));
            for _ in 0..n {
                let applied = generator.random_bool(augment.jitter_probability);
                for (i, (list, strength)) in factors.iter_mut().zip(augment.jitter).enumerate() {
                    let centre = if i == 3 { 0.0 } else { 1.0 };
                    let least = if i == 3 {
                        -strength
                    } else {
                        (centre - strength).max(0.0)
                    };
                    let factor = least + (centre + strength - least) * generator.random::<f64>();
                    list.push(if applied { factor } else { centre } as f32);
                }
            }
            Jitter { factors, order }
        });
        let grayscale = (augment.grayscale > 0.0)
            .then(|| (0..n).map(|_| generator.random_bool(augment.grayscale)).collect());
        let blur = (augment.blur > 0.0).then(|| {
            let (least, most) = augment.blur_sigma;
            let mut sigma = || (least + (most - least) * generator.random::<f64>()) as f32;
            let sigmas: Vec<f32> = (0..n).map(|_| sigma()).collect();
            sigmas
                .into_iter()
                .map(|s| generator.random_bool(augment.blur).then_some(s))
                .collect()
        });
        let solarize = (augment.solarize > 0.0)
            .then(|| (0..n).map(|_| generator.random_bool(augment.solarize)).collect());
        Draws {
            windows,
            jitter,
            grayscale,
            blur,
            solarize,
        }
    }
}

fn crop(crop: Crop, height: i64, width: i64, generator: &mut ChaCha8Rng) -> Window {
    let whole = Window {
        top: 0,
        left: 0,
        height,
        width,
        flip: false,
    };
    match crop {
        Crop::None => whole,
        Crop::Padded { padding } => Window {
            top: generator.random_range(-padding..=padding),
            left: generator.random_range(-padding..=padding),
            ..whole
        },
        Crop::Resized { scale } => {
            // torchvision's RandomResizedCrop.get_params: ten tries, then the whole (square) image.
            for _ in 0..10 {
                let area =
                    (height * width) as f64 * (scale.0 + (scale.1 - scale.0) * generator.random::<f64>());
                let log_ratio = (4f64 / 3.0).ln() * (2.0 * generator.random::<f64>() - 1.0);
                let ratio = log_ratio.exp();
                let (w, h) = (
                    (area * ratio).sqrt().round() as i64,
                    (area / ratio).sqrt().round() as i64,
                );
                if (1..=width).contains(&w) && (1..=height).contains(&h) {
                    let top = generator.random_range(0..=height - h);
                    let left = generator.random_range(0..=width - w);
                    return Window {
                        top,
                        left,
                        height: h,
                        width: w,
                        flip: false,
                    };
                }
            }
            whole
        }
    }
}
