//! From an image of any size to a class for each of its pixels: whole or by sliding windows, at one scale or
//! several, mirrored or not.

use crate::classes::ClassSet;
use crate::deeplab::{DeepLab, upsample};
use crate::label_image::LabelImage;
use camtrast_common::augment::Input;
use camtrast_common::device::{Precision, channels_last, send, to_host};
use camtrast_common::nn::Modes;
use camtrast_common::{Error, Result};
use camtrast_images::resample::Image;
use tch::{Device, Kind, Tensor, no_grad};

/// How images are predicted.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictOptions {
    /// Height and width of sliding windows in pixels; `None` predicts images whole.
    pub window: Option<[i64; 2]>,
    /// Pixels between windows, down and across; two thirds of the window when `None`.
    pub stride: Option<[i64; 2]>,
    /// Scales of the image, whose class probabilities are averaged.
    pub scales: Vec<f64>,
    /// Whether the mirror image is also averaged.
    pub flip: bool,
}

impl Default for PredictOptions {
    /// The whole image at its own size.
    fn default() -> Self {
        PredictOptions {
            window: None,
            stride: None,
            scales: vec![1.0],
            flip: false,
        }
    }
}

impl PredictOptions {
    /// Checks for impossible values.
    ///
    /// # Errors
    /// [`Error::Settings`].
    pub fn check(&self) -> Result<()> {
        if self.scales.is_empty() || self.scales.iter().any(|s| !(0.05..=20.0).contains(s)) {
            return Err(Error::settings(
                "--scales must be numbers from 0.05 to 20",
                "give them as 0.75,1,1.25",
            ));
        }
        let Some([height, width]) = self.window else {
            return Ok(());
        };
        let fits = |[down, across]: [i64; 2]| (1..=height).contains(&down) && (1..=width).contains(&across);
        if height < 16 || width < 16 || !self.stride.is_none_or(fits) {
            let remedy = "give a window of at least 16 pixels and a stride no longer than the window";
            return Err(Error::settings(
                "these sliding windows do not cover an image",
                remedy,
            ));
        }
        Ok(())
    }
}

/// A network and the settings of its predictions.
pub struct Predictor<'a> {
    /// The network.
    pub net: &'a DeepLab,
    /// Makes its input of pixels.
    pub input: &'a Input,
    /// Its device.
    pub device: Device,
    /// Precision of its forward pass.
    pub precision: Precision,
    /// How images are predicted.
    pub options: PredictOptions,
}

impl Predictor<'_> {
    /// Train ids of an image, at its size.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn predict(&self, image: &Image) -> Result<LabelImage> {
        let (height, width) = (image.height as i64, image.width as i64);
        let scores = no_grad(|| {
            let pixels = Tensor::f_from_data_size(&image.pixels, &[1, height, width, 3], Kind::Uint8)?;
            self.scores(&self.input.of(&send(pixels, self.device)))
        })?;
        let ids = scores.argmax(1, false).to_kind(Kind::Uint8).view([-1]);
        Ok(LabelImage {
            height: image.height,
            width: image.width,
            pixels: to_host(&ids)?,
        })
    }

    /// The same in file ids of `classes`.
    ///
    /// # Errors
    /// As [`Predictor::predict`].
    pub fn predict_ids(&self, image: &Image, classes: &ClassSet) -> Result<LabelImage> {
        let (ids, mut labels) = (classes.file_ids(), self.predict(image)?);
        labels
            .pixels
            .iter_mut()
            .for_each(|id| *id = ids[usize::from(*id)]);
        Ok(labels)
    }

    /// Class scores [1, K, H, W] of a normalised image [1, 3, H, W]: logits when there is one view, else the
    /// sum of the views' probabilities.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn scores(&self, x: &Tensor) -> Result<Tensor> {
        let (height, width) = (x.size()[2], x.size()[3]);
        let views = self.options.scales.len() * if self.options.flip { 2 } else { 1 };
        let mut total: Option<Tensor> = None;
        for &scale in &self.options.scales {
            let side = |side: i64| ((side as f64 * scale).round() as i64).max(1);
            let size = (side(height), side(width));
            let scaled = if size == (height, width) {
                x.shallow_clone()
            } else {
                upsample(x, size.0, size.1)
            };
            for flip in [false, true].into_iter().take(1 + usize::from(self.options.flip)) {
                let view = channels_last(&if flip {
                    scaled.flip([3])
                } else {
                    scaled.shallow_clone()
                });
                let logits = self.logits(&view)?;
                let logits = if flip { logits.flip([3]) } else { logits };
                let logits = upsample(&logits, height, width);
                if views == 1 {
                    return Ok(logits);
                }
                let probabilities = logits.softmax(1, Kind::Float);
                total = Some(match total {
                    None => probabilities,
                    Some(sum) => sum + probabilities,
                });
            }
        }
        Ok(total.expect("at least one scale"))
    }

    // Logits f32 [1, K, h, w] of a view: at the network's resolution for whole images, at the view's
    // resolution for windows.
    fn logits(&self, view: &Tensor) -> Result<Tensor> {
        let forward = |x: &Tensor| -> Result<Tensor> {
            let logits = self
                .precision
                .run(self.device, || Ok(self.net.forward(x, Modes::EVAL)))?;
            Ok(logits.main.to_kind(Kind::Float))
        };
        let (height, width) = (view.size()[2], view.size()[3]);
        let Some(window) = self.options.window else {
            return forward(view);
        };
        let [down, across] = self
            .options
            .stride
            .unwrap_or(window.map(|side| (side * 2 / 3).max(1)));
        let mut sums: Option<(Tensor, Tensor)> = None;
        for (top, h) in spans(height, window[0], down) {
            for (left, w) in spans(width, window[1], across) {
                let part = channels_last(&view.narrow(2, top, h).narrow(3, left, w));
                let part = upsample(&forward(&part)?, h, w);
                let (sum, count) = sums.get_or_insert_with(|| {
                    let zeros =
                        |channels| Tensor::zeros([1, channels, height, width], (Kind::Float, self.device));
                    (zeros(part.size()[1]), zeros(1))
                });
                let _ = sum.narrow(2, top, h).narrow(3, left, w).g_add_(&part);
                let _ = count.narrow(2, top, h).narrow(3, left, w).g_add_scalar_(1);
            }
        }
        let (sum, count) = sums.expect("at least one window");
        Ok(sum / count)
    }
}

/// Starts and lengths of windows that cover `side`, the last one shifted back to end with it
/// (mmsegmentation's `slide_inference`).
fn spans(side: i64, window: i64, stride: i64) -> Vec<(i64, i64)> {
    let window = window.min(side);
    let count = (side - window + stride - 1) / stride + 1;
    (0..count)
        .map(|i| ((i * stride).min(side - window), window))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_cover_the_image_and_end_with_it() {
        assert_eq!(spans(1024, 769, 513), [(0, 769), (255, 769)]);
        assert_eq!(
            spans(2048, 769, 513),
            [(0, 769), (513, 769), (1026, 769), (1279, 769)]
        );
        assert_eq!(spans(100, 769, 513), [(0, 100)]);
        assert_eq!(spans(10, 4, 3), [(0, 4), (3, 4), (6, 4)]);
    }

    #[test]
    fn impossible_windows_and_scales_are_refused() {
        let plain = PredictOptions::default;
        assert!(plain().check().is_ok());
        for wrong in [
            PredictOptions {
                scales: vec![],
                ..plain()
            },
            PredictOptions {
                scales: vec![1.0, 0.0],
                ..plain()
            },
            PredictOptions {
                window: Some([64, 64]),
                stride: Some([65, 1]),
                ..plain()
            },
            PredictOptions {
                window: Some([8, 64]),
                ..plain()
            },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
