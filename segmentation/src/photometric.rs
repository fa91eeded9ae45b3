//! mmsegmentation's `PhotoMetricDistortion`: brightness, contrast, saturation and hue of an 8-bit image, each
//! changed with probability 1/2, rounded after every change as in mmsegmentation; hue and saturation in
//! OpenCV's HSV.

use opencv::core::{Mat, Vec3b};
use opencv::imgproc::{COLOR_HSV2RGB, COLOR_RGB2HSV, cvt_color_def};
use opencv::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One draw of all changes; `None` does not change a property.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Distortion {
    /// Added to every channel, in grey levels of -32 to 32.
    pub brightness: Option<f64>,
    /// Factor of every channel, 0.5 to 1.5.
    pub contrast: Option<f64>,
    /// Whether contrast comes before saturation and hue, and not last.
    pub contrast_first: bool,
    /// Factor of HSV's S, 0.5 to 1.5.
    pub saturation: Option<f64>,
    /// Shift of HSV's H in steps of two degrees, -18 to 17.
    pub hue: Option<i32>,
}

impl Distortion {
    /// Draws random changes.
    pub fn draw(generator: &mut ChaCha8Rng) -> Self {
        let mut change = |low: f64, high: f64| {
            generator
                .random_bool(0.5)
                .then(|| generator.random_range(low..high))
        };
        let (brightness, contrast, saturation) = (change(-32.0, 32.0), change(0.5, 1.5), change(0.5, 1.5));
        Distortion {
            brightness,
            contrast,
            contrast_first: generator.random_bool(0.5),
            saturation,
            hue: generator
                .random_bool(0.5)
                .then(|| generator.random_range(-18..18)),
        }
    }

    /// Changes RGB pixels u8.
    ///
    /// # Errors
    /// OpenCV's, when memory is short.
    pub fn apply(&self, mut image: Mat) -> opencv::Result<Mat> {
        let contrast = |image: &mut Mat, when: bool| match self.contrast {
            Some(factor) if self.contrast_first == when => each(image, &line(factor, 0.0)),
            _ => Ok(()),
        };
        if let Some(shift) = self.brightness {
            each(&mut image, &line(1.0, shift))?;
        }
        contrast(&mut image, true)?;
        if let Some(factor) = self.saturation {
            let table = line(factor, 0.0);
            image = in_hsv(&image, |[_, s, _]| *s = table[usize::from(*s)])?;
        }
        if let Some(turn) = self.hue {
            image = in_hsv(&image, |[h, _, _]| {
                *h = (i32::from(*h) + turn).rem_euclid(180) as u8
            })?;
        }
        contrast(&mut image, false)?;
        Ok(image)
    }
}

// `factor * level + shift` for every level, in float32, clamped to 0 and 255, truncated.
fn line(factor: f64, shift: f64) -> [u8; 256] {
    std::array::from_fn(|level| (level as f32 * factor as f32 + shift as f32).clamp(0.0, 255.0) as u8)
}

fn each(image: &mut Mat, table: &[u8; 256]) -> opencv::Result<()> {
    image
        .data_bytes_mut()?
        .iter_mut()
        .for_each(|level| *level = table[usize::from(*level)]);
    Ok(())
}

fn in_hsv(image: &Mat, change: impl Fn(&mut [u8; 3])) -> opencv::Result<Mat> {
    let (mut hsv, mut rgb) = (Mat::default(), Mat::default());
    cvt_color_def(image, &mut hsv, COLOR_RGB2HSV)?;
    hsv.data_typed_mut::<Vec3b>()?
        .iter_mut()
        .for_each(|pixel| change(&mut pixel.0));
    cvt_color_def(&hsv, &mut rgb, COLOR_HSV2RGB)?;
    Ok(rgb)
}
