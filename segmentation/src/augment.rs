//! What an image and its labels go through together before training: scale, crop, padding, mirror; and, for the image alone,
//! mmsegmentation's photometric distortion.
//!
//! Geometry is done on the host, in one bilinear step for the image and one nearest-neighbour step for the labels, so that
//! no label is invented and both stay aligned. Only the crop is ever computed, not the whole scaled image.

use crate::classes::IGNORE;
use crate::label_image::LabelImage;
use common::augment::adjust_hue;
use common::data::resample::Image;
use common::{Error, Result};
use opencv::core::{BORDER_CONSTANT, BORDER_REPLICATE, Mat, Scalar, Size, copy_make_border};
use opencv::imgproc::{INTER_LINEAR, INTER_NEAREST, WARP_INVERSE_MAP, warp_affine};
use opencv::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

/// The geometry of training crops.
#[derive(Debug, Clone, PartialEq)]
pub struct Augment {
    /// Height of the crop in pixels.
    pub height: usize,
    /// Width of the crop in pixels.
    pub width: usize,
    /// Least and largest scale, drawn uniformly.
    pub scale: (f64, f64),
    /// Probability of a mirror image.
    pub flip: f64,
    /// A crop in which one class has more than this share of the labelled pixels is drawn again, up to ten times (mmsegmentation's
    /// `cat_max_ratio`); 1 takes every crop.
    pub max_class_share: f64,
    /// RGB of the padding.
    pub padding: [u8; 3],
}

/// Where a crop lies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Size of the whole scaled image, height and width.
    pub scaled: (usize, usize),
    /// First row of the crop in the scaled image.
    pub top: usize,
    /// First column of the crop in the scaled image.
    pub left: usize,
    /// Whether the crop is mirrored.
    pub flip: bool,
}

const TRIES: usize = 10;

impl Augment {
    /// A crop of an image and its labels (train ids): pixels [height, width, 3] and labels [height, width]. An image smaller than
    /// the crop is padded below and to the right, in its padding colour and with [`IGNORE`].
    ///
    /// # Errors
    /// [`Error::Settings`] when OpenCV refuses, for want of memory say.
    pub fn apply(&self, image: &Image, labels: &LabelImage, generator: &mut ChaCha8Rng) -> Result<(Vec<u8>, Vec<u8>)> {
        let scale =
            if self.scale.0 < self.scale.1 { generator.random_range(self.scale.0..self.scale.1) } else { self.scale.0 };
        let scaled = |side: usize| ((side as f64 * scale).round() as usize).max(1);
        let scaled = (scaled(image.height), scaled(image.width));
        let flip = generator.random_bool(self.flip);
        let mut tries = 0;
        loop {
            tries += 1;
            let mut offset = |side: usize, crop: usize| generator.random_range(0..=side.saturating_sub(crop));
            let (top, left) = (offset(scaled.0, self.height), offset(scaled.1, self.width));
            let window = Window { scaled, top, left, flip };
            let crop = self.labels(labels, &window)?;
            if tries == TRIES || self.max_class_share >= 1.0 || largest_share(&crop) < self.max_class_share {
                return Ok((self.image(image, &window)?, crop));
            }
        }
    }

    /// The window of an image, bilinear without antialiasing as in OpenCV's and mmcv's resize.
    ///
    /// # Errors
    /// As [`Augment::apply`].
    pub fn image(&self, image: &Image, window: &Window) -> Result<Vec<u8>> {
        let [r, g, b] = self.padding.map(f64::from);
        self.cut(&image.pixels, 3, (image.height, image.width), window, INTER_LINEAR, Scalar::new(r, g, b, 0.0))
    }

    /// The same window of its labels, by nearest neighbour.
    ///
    /// # Errors
    /// As [`Augment::apply`].
    pub fn labels(&self, labels: &LabelImage, window: &Window) -> Result<Vec<u8>> {
        let ignore = Scalar::all(f64::from(IGNORE));
        self.cut(&labels.pixels, 1, (labels.height, labels.width), window, INTER_NEAREST, ignore)
    }

    fn cut(
        &self,
        pixels: &[u8],
        channels: i32,
        (height, width): (usize, usize),
        window: &Window,
        interpolation: i32,
        padding: Scalar,
    ) -> Result<Vec<u8>> {
        let (scaled_height, scaled_width) = window.scaled;
        let (inside_height, inside_width) = (self.height.min(scaled_height), self.width.min(scaled_width));
        // Source coordinate of a pixel of the crop. Pixels are areas: their centres, at halves, are what is scaled.
        let line = |first: f64, step: f64, ratio: f64| (step * ratio, (first + 0.5) * ratio - 0.5);
        let (first, step) = match window.flip {
            true => ((window.left + inside_width - 1) as f64, -1.0),
            false => (window.left as f64, 1.0),
        };
        let (x_step, x_first) = line(first, step, width as f64 / scaled_width as f64);
        let (y_step, y_first) = line(window.top as f64, 1.0, height as f64 / scaled_height as f64);
        let warp = || -> opencv::Result<Vec<u8>> {
            let source = Mat::new_rows_cols_with_bytes::<u8>(height as i32, (width as i32) * channels, pixels)?;
            let source = source.reshape(channels, height as i32)?;
            let map = Mat::from_slice_2d(&[[x_step, 0.0, x_first], [0.0, y_step, y_first]])?;
            let size = Size::new(inside_width as i32, inside_height as i32);
            let mut inside = Mat::default();
            let flags = interpolation | WARP_INVERSE_MAP;
            warp_affine(&source, &mut inside, &map, size, flags, BORDER_REPLICATE, Scalar::default())?;
            let (below, right) = ((self.height - inside_height) as i32, (self.width - inside_width) as i32);
            if below == 0 && right == 0 {
                return Ok(inside.data_bytes()?.to_vec());
            }
            let mut whole = Mat::default();
            copy_make_border(&inside, &mut whole, 0, below, 0, right, BORDER_CONSTANT, padding)?;
            Ok(whole.data_bytes()?.to_vec())
        };
        warp().map_err(|e| Error::settings(format!("OpenCV cannot cut a crop ({})", e.message), "lower --crop"))
    }
}

// Of the labelled pixels; 1 where at most one class is there.
fn largest_share(labels: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    labels.iter().for_each(|&id| counts[usize::from(id)] += 1);
    counts[usize::from(IGNORE)] = 0;
    let total: u32 = counts.iter().sum();
    if total == 0 { 1.0 } else { f64::from(*counts.iter().max().expect("256 counts")) / f64::from(total) }
}

/// mmsegmentation's `PhotoMetricDistortion` on images f32 [N, 3, H, W] in 0..1: brightness +-32/255, contrast 0.5 to 1.5 (before or
/// after the others), saturation 0.5 to 1.5 and hue +-36 degrees, each with probability 1/2, drawn for every image.
pub fn photometric_distortion(x: &Tensor, generator: &mut ChaCha8Rng) -> Tensor {
    let n = x.size()[0] as usize;
    let contrast_first: Vec<bool> = (0..n).map(|_| generator.random_bool(0.5)).collect();
    let mut column = |low: f64, high: f64, neutral: f64| -> Vec<f32> {
        let draw = |_| if generator.random_bool(0.5) { generator.random_range(low..high) } else { neutral };
        (0..n).map(draw).map(|v| v as f32).collect()
    };
    let brightness = column(-32.0 / 255.0, 32.0 / 255.0, 0.0);
    let contrast = column(0.5, 1.5, 1.0);
    let saturation = column(0.5, 1.5, 1.0);
    let hue = column(-0.1, 0.1, 0.0);
    let tensor = |values: Vec<f32>| Tensor::from_slice(&values).view([-1, 1, 1, 1]).to_device(x.device());
    let pick =
        |when: bool| contrast.iter().zip(&contrast_first).map(|(&c, &f)| if f == when { c } else { 1.0 }).collect();
    let x = (x + tensor(brightness)).clamp(0.0, 1.0);
    let x = (x * tensor(pick(true))).clamp(0.0, 1.0);
    let x = adjust_hue(&scale_saturation(&x, &tensor(saturation)), &tensor(hue));
    (x * tensor(pick(false))).clamp(0.0, 1.0)
}

// HSV's S times a factor, at most 1, with H and V as they are: every channel moves away from the largest one.
fn scale_saturation(x: &Tensor, factor: &Tensor) -> Tensor {
    let value = x.amax([1i64].as_slice(), true);
    let spread = &value - x.amin([1i64].as_slice(), true);
    let most = &value / spread.clamp_min(1e-6);
    &value - (&value - x) * factor.minimum(&most)
}

/// [N, 3, H, W] f32 in 0..1 of pixels u8 [N, H, W, 3], distorted if asked for, then normalised, channels-last.
pub(crate) fn network_input(
    pixels: &Tensor,
    mean: &[f64; 3],
    std: &[f64; 3],
    photometric: Option<&mut ChaCha8Rng>,
) -> Tensor {
    let x = common::augment::unit_range(pixels);
    debug_assert_eq!(x.kind(), Kind::Float);
    let x = match photometric {
        Some(generator) => photometric_distortion(&x, generator),
        None => x,
    };
    common::augment::normalise(&x, mean, std)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::random::generator;
    use tch::Device;

    const PADDING: [u8; 3] = [124, 116, 104];

    fn augment(height: usize, width: usize) -> Augment {
        Augment { height, width, scale: (0.5, 2.0), flip: 0.5, max_class_share: 1.0, padding: PADDING }
    }

    // Labels in blocks of 8 x 8, and an image whose colours say the label.
    fn scene(height: usize, width: usize) -> (Image, LabelImage) {
        let label = |i: usize| ((i / width / 8) * 5 + (i % width) / 8) as u8 % 19;
        let labels: Vec<u8> = (0..height * width).map(label).collect();
        let pixels = labels.iter().flat_map(|&l| [l * 13, 255 - l * 13, l]).collect();
        (Image { height, width, pixels }, LabelImage { height, width, pixels: labels })
    }

    #[test]
    fn an_unscaled_window_is_a_plain_cut() {
        let (image, labels) = scene(40, 56);
        let cut = augment(16, 24);
        for flip in [false, true] {
            let window = Window { scaled: (40, 56), top: 7, left: 11, flip };
            let (pixels, ids) = (cut.image(&image, &window).unwrap(), cut.labels(&labels, &window).unwrap());
            for y in 0..16 {
                for x in 0..24 {
                    let source = (7 + y) * 56 + 11 + if flip { 23 - x } else { x };
                    assert_eq!(ids[y * 24 + x], labels.pixels[source]);
                    assert_eq!(pixels[(y * 24 + x) * 3..][..3], image.pixels[source * 3..][..3]);
                }
            }
        }
    }

    #[test]
    fn labels_are_never_invented_and_stay_on_their_pixels() {
        let (image, labels) = scene(48, 80);
        let cut = augment(64, 64);
        for seed in 0..40 {
            let (pixels, ids) = cut.apply(&image, &labels, &mut generator(seed, "test", 0, 0)).unwrap();
            assert_eq!((pixels.len(), ids.len()), (64 * 64 * 3, 64 * 64));
            let inside = |id: u8| id < 19;
            assert!(ids.iter().all(|&id| inside(id) || id == IGNORE));
            // Away from borders the colour is that of the label; along them it is a mixture.
            let right = (0..64 * 64).filter(|&i| {
                let wanted = if inside(ids[i]) { [ids[i] * 13, 255 - ids[i] * 13, ids[i]] } else { PADDING };
                pixels[i * 3..][..3] == wanted
            });
            assert!(right.count() > 64 * 64 / 2, "seed {seed}");
        }
    }

    #[test]
    fn doubling_repeats_labels_and_halving_keeps_every_other() {
        let (_, labels) = scene(32, 32);
        let doubled = Window { scaled: (64, 64), top: 0, left: 0, flip: false };
        let ids = augment(64, 64).labels(&labels, &doubled).unwrap();
        assert!((0..64 * 64).all(|i| ids[i] == labels.pixels[(i / 64 / 2) * 32 + i % 64 / 2]));
        let halved = Window { scaled: (16, 16), ..doubled };
        let ids = augment(16, 16).labels(&labels, &halved).unwrap();
        assert!((0..256).all(|i| ids[i] == labels.pixels[(i / 16 * 2) * 32 + i % 16 * 2]));
    }

    #[test]
    fn small_images_are_padded_with_the_mean_and_ignored_labels() {
        let (image, labels) = scene(10, 12);
        let cut = Augment { scale: (1.0, 1.0), flip: 1.0, ..augment(16, 16) };
        let (pixels, ids) = cut.apply(&image, &labels, &mut generator(0, "test", 0, 0)).unwrap();
        for (i, id) in ids.iter().enumerate() {
            let outside = i / 16 >= 10 || i % 16 >= 12;
            assert_eq!(*id == IGNORE, outside);
            if outside {
                assert_eq!(pixels[i * 3..][..3], PADDING);
            }
        }
        assert_eq!(ids[0], labels.pixels[11]);
    }

    #[test]
    fn crops_of_one_class_are_drawn_again() {
        // Class 0 everywhere but in one corner of 16 x 16.
        let pixels = (0..64 * 64).map(|i| u8::from(i / 64 < 16 && i % 64 < 16)).collect();
        let labels = LabelImage { height: 64, width: 64, pixels };
        let image = Image { height: 64, width: 64, pixels: vec![0; 64 * 64 * 3] };
        let plain = Augment { scale: (1.0, 1.0), ..augment(16, 16) };
        let mixed = |cut: &Augment| {
            let crop = |seed| cut.apply(&image, &labels, &mut generator(seed, "test", 0, 0)).unwrap().1;
            (0..50).filter(|&seed| largest_share(&crop(seed)) < 0.75).count()
        };
        let (without, with) = (mixed(&plain), mixed(&Augment { max_class_share: 0.75, ..plain.clone() }));
        assert!(with > without, "{with} {without}");
        assert_eq!(largest_share(&[IGNORE; 4]), 1.0);
    }

    #[test]
    fn distortion_stays_in_range_and_differs_between_images() {
        let x =
            Tensor::linspace(0.0, 1.0, 3 * 5 * 5, (Kind::Float, Device::Cpu)).view([1, 3, 5, 5]).repeat([8, 1, 1, 1]);
        let y = photometric_distortion(&x, &mut generator(0, "test", 0, 0));
        assert!(y.min().double_value(&[]) >= 0.0 && y.max().double_value(&[]) <= 1.0);
        assert!((0..7).any(|i| !y.get(i).equal(&y.get(i + 1))));
        // Twice the saturation of (0.5, 0.4, 0.3) is (0.5, 0.3, 0.1); grey stays; full saturation stays.
        let pixel = |rgb: [f32; 3]| Tensor::from_slice(&rgb).view([1, 3, 1, 1]);
        let scaled =
            |rgb| Vec::<f32>::try_from(scale_saturation(&pixel(rgb), &Tensor::from(2.0f32)).view([-1])).unwrap();
        for (from, to) in [([0.5, 0.4, 0.3], [0.5, 0.3, 0.1]), ([0.2; 3], [0.2; 3]), ([0.6, 0.0, 0.3], [0.6, 0.0, 0.3])]
        {
            assert!(scaled(from).iter().zip(to).all(|(a, b): (&f32, f32)| (a - b).abs() < 1e-6), "{from:?}");
        }
    }
}
