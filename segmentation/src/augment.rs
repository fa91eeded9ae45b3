//! The augmentation of an image together with its labels: scale, crop, mirror, padding; and, for the image
//! only, mmsegmentation's photometric distortion. All of it runs on the host. Geometry is one bilinear step
//! for the image and one nearest-neighbour step for the labels, so that no new label values appear and both
//! stay aligned.

use crate::classes::IGNORE;
use crate::label_image::LabelImage;
use crate::photometric::Distortion;
use camtrast_common::{Error, Result};
use camtrast_images::resample::Image;
use opencv::core::{BORDER_CONSTANT, BORDER_REPLICATE, Mat, Scalar, Size, copy_make_border};
use opencv::imgproc::{INTER_LINEAR, INTER_NEAREST, WARP_INVERSE_MAP, resize, warp_affine};
use opencv::prelude::*;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How an image is scaled before it is cropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// Only the crop is computed; sides are rounded, and labels are sampled at the centre of a pixel
    Crop,
    /// The whole image by OpenCV's `resize`, as in mmsegmentation: sides by mmcv's `rescale_size`, and labels
    /// sampled at the upper left corner of a pixel
    Whole,
}

/// How training crops are made.
#[derive(Debug, Clone, PartialEq)]
pub struct SegmentationAugment {
    /// Height of the crop in pixels.
    pub height: usize,
    /// Width of the crop in pixels.
    pub width: usize,
    /// Smallest and largest scale, drawn uniformly.
    pub scale: (f64, f64),
    /// How it is scaled.
    pub resize: Resize,
    /// Probability of a mirror image.
    pub flip: f64,
    /// A crop in which one class has this share of the labelled pixels or more is drawn again, up to ten
    /// times (mmsegmentation's `cat_max_ratio`); 1 accepts every crop.
    pub max_class_share: f64,
    /// Whether colours are changed by [`Distortion`].
    pub photometric: bool,
    /// RGB of the padding.
    pub padding: [u8; 3],
}

/// The position of a crop.
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

/// Largest number of times that a crop is drawn again.
const REDRAWS: usize = 10;

impl SegmentationAugment {
    /// A crop of an image and its labels (train ids): pixels [height, width, 3] and labels [height, width].
    /// An image smaller than the crop is padded below and to the right, in its padding colour and with
    /// [`IGNORE`].
    ///
    /// # Errors
    /// [`Error::Settings`] when OpenCV fails, for example without memory.
    pub fn apply(
        &self,
        image: &Image,
        labels: &LabelImage,
        generator: &mut ChaCha8Rng,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let scale = if self.scale.0 < self.scale.1 {
            generator.random_range(self.scale.0..self.scale.1)
        } else {
            self.scale.0
        };
        let scaled = self.resize.sides(image.height, image.width, scale);
        let whole;
        let (image, labels) = match self.resize {
            Resize::Crop => (image, labels),
            Resize::Whole => {
                whole = resize_whole(image, labels, scaled)?;
                (&whole.0, &whole.1)
            }
        };
        let flip = generator.random_bool(self.flip);
        let (window, crop) = self.choose(labels, scaled, flip, |most| generator.random_range(0..=most))?;
        let distortion = self.photometric.then(|| Distortion::draw(generator));
        Ok((self.image(image, &window, distortion.as_ref())?, crop))
    }

    /// A window of labels whose scaled image has the size `scaled`, and its labels. `draw` gives a number
    /// from 0 to its argument, first for the row, then for the column.
    ///
    /// # Errors
    /// As [`SegmentationAugment::apply`].
    pub fn choose(
        &self,
        labels: &LabelImage,
        scaled: (usize, usize),
        flip: bool,
        mut draw: impl FnMut(usize) -> usize,
    ) -> Result<(Window, Vec<u8>)> {
        let mut redrawn = 0;
        loop {
            let mut offset = |side: usize, crop: usize| draw(side.saturating_sub(crop));
            let (top, left) = (offset(scaled.0, self.height), offset(scaled.1, self.width));
            let window = Window {
                scaled,
                top,
                left,
                flip,
            };
            let crop = self.labels(labels, &window)?;
            if redrawn == REDRAWS
                || self.max_class_share >= 1.0
                || largest_share(&crop) < self.max_class_share
            {
                return Ok((window, crop));
            }
            redrawn += 1;
        }
    }

    /// The window of an image, bilinear without antialiasing as in OpenCV's and mmcv's resize, with its
    /// colours changed; the padding's are not.
    ///
    /// # Errors
    /// As [`SegmentationAugment::apply`].
    pub fn image(&self, image: &Image, window: &Window, distortion: Option<&Distortion>) -> Result<Vec<u8>> {
        let [r, g, b] = self.padding.map(f64::from);
        let change = |inside| match distortion {
            Some(distortion) => distortion.apply(inside),
            None => Ok(inside),
        };
        let size = (image.height, image.width);
        self.cut(
            &image.pixels,
            3,
            size,
            window,
            INTER_LINEAR,
            change,
            Scalar::new(r, g, b, 0.0),
        )
    }

    /// The same window of its labels, by nearest neighbour.
    ///
    /// # Errors
    /// As [`SegmentationAugment::apply`].
    pub fn labels(&self, labels: &LabelImage, window: &Window) -> Result<Vec<u8>> {
        let ignore = Scalar::all(f64::from(IGNORE));
        self.cut(
            &labels.pixels,
            1,
            (labels.height, labels.width),
            window,
            INTER_NEAREST,
            Ok,
            ignore,
        )
    }

    #[allow(clippy::too_many_arguments)]
    fn cut(
        &self,
        pixels: &[u8],
        channels: i32,
        (height, width): (usize, usize),
        window: &Window,
        interpolation: i32,
        change: impl FnOnce(Mat) -> opencv::Result<Mat>,
        padding: Scalar,
    ) -> Result<Vec<u8>> {
        let (scaled_height, scaled_width) = window.scaled;
        let (inside_height, inside_width) = (self.height.min(scaled_height), self.width.min(scaled_width));
        // Source coordinate of a pixel of the crop. Pixels are areas: their centres, at .5, are scaled.
        let line = |first: f64, step: f64, ratio: f64| (step * ratio, (first + 0.5) * ratio - 0.5);
        let (first, step) = match window.flip {
            true => ((window.left + inside_width - 1) as f64, -1.0),
            false => (window.left as f64, 1.0),
        };
        let (x_step, x_first) = line(first, step, width as f64 / scaled_width as f64);
        let (y_step, y_first) = line(window.top as f64, 1.0, height as f64 / scaled_height as f64);
        let warp = || -> opencv::Result<Vec<u8>> {
            let source =
                Mat::new_rows_cols_with_bytes::<u8>(height as i32, (width as i32) * channels, pixels)?;
            let source = source.reshape(channels, height as i32)?;
            let map = Mat::from_slice_2d(&[[x_step, 0.0, x_first], [0.0, y_step, y_first]])?;
            let size = Size::new(inside_width as i32, inside_height as i32);
            let mut inside = Mat::default();
            let flags = interpolation | WARP_INVERSE_MAP;
            warp_affine(
                &source,
                &mut inside,
                &map,
                size,
                flags,
                BORDER_REPLICATE,
                Scalar::default(),
            )?;
            let inside = change(inside)?;
            let (below, right) = (
                (self.height - inside_height) as i32,
                (self.width - inside_width) as i32,
            );
            if below == 0 && right == 0 {
                return Ok(inside.data_bytes()?.to_vec());
            }
            let mut whole = Mat::default();
            copy_make_border(&inside, &mut whole, 0, below, 0, right, BORDER_CONSTANT, padding)?;
            Ok(whole.data_bytes()?.to_vec())
        };
        warp().map_err(|e| {
            Error::settings(
                format!("OpenCV cannot cut a crop ({})", e.message),
                "lower --crop",
            )
        })
    }
}

impl Resize {
    /// Height and width of a scaled image.
    pub fn sides(self, height: usize, width: usize, scale: f64) -> (usize, usize) {
        let (h, w) = (height as f64, width as f64);
        let scale = match self {
            Resize::Crop => scale,
            // mmcv first truncates the box that the image has to fit into to whole pixels.
            Resize::Whole => ((h * scale).floor() / h).min((w * scale).floor() / w),
        };
        let scaled = |side: f64| ((side * scale).round() as usize).max(1);
        (scaled(h), scaled(w))
    }
}

/// An image and its labels scaled to a height and width by OpenCV's `resize`, bilinearly and by nearest
/// neighbour.
///
/// # Errors
/// As [`SegmentationAugment::apply`].
pub fn resize_whole(image: &Image, labels: &LabelImage, to: (usize, usize)) -> Result<(Image, LabelImage)> {
    let pixels = resized(&image.pixels, 3, (image.height, image.width), to, INTER_LINEAR)?;
    let ids = resized(
        &labels.pixels,
        1,
        (labels.height, labels.width),
        to,
        INTER_NEAREST,
    )?;
    let (height, width) = to;
    Ok((
        Image {
            height,
            width,
            pixels,
        },
        LabelImage {
            height,
            width,
            pixels: ids,
        },
    ))
}

fn resized(
    pixels: &[u8],
    channels: i32,
    (height, width): (usize, usize),
    scaled: (usize, usize),
    interpolation: i32,
) -> Result<Vec<u8>> {
    let size = Size::new(scaled.1 as i32, scaled.0 as i32);
    let whole = || -> opencv::Result<Vec<u8>> {
        let source = Mat::new_rows_cols_with_bytes::<u8>(height as i32, (width as i32) * channels, pixels)?;
        let mut whole = Mat::default();
        resize(
            &source.reshape(channels, height as i32)?,
            &mut whole,
            size,
            0.0,
            0.0,
            interpolation,
        )?;
        Ok(whole.data_bytes()?.to_vec())
    };
    whole().map_err(|e| {
        Error::settings(
            format!("OpenCV cannot scale an image ({})", e.message),
            "lower --scale",
        )
    })
}

// Share of the labelled pixels; 1 when at most one class is present.
fn largest_share(labels: &[u8]) -> f64 {
    let mut counts = [0u32; 256];
    labels.iter().for_each(|&id| counts[usize::from(id)] += 1);
    counts[usize::from(IGNORE)] = 0;
    let total: u32 = counts.iter().sum();
    if total == 0 {
        1.0
    } else {
        f64::from(*counts.iter().max().expect("256 counts")) / f64::from(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::random::generator;

    const PADDING: [u8; 3] = [124, 116, 104];

    fn augment(height: usize, width: usize) -> SegmentationAugment {
        SegmentationAugment {
            height,
            width,
            scale: (0.5, 2.0),
            resize: Resize::Crop,
            flip: 0.5,
            max_class_share: 1.0,
            photometric: false,
            padding: PADDING,
        }
    }

    // Labels in blocks of 8 x 8, and an image whose colours say the label.
    fn scene(height: usize, width: usize) -> (Image, LabelImage) {
        let label = |i: usize| ((i / width / 8) * 5 + (i % width) / 8) as u8 % 19;
        let labels: Vec<u8> = (0..height * width).map(label).collect();
        let pixels = labels.iter().flat_map(|&l| [l * 13, 255 - l * 13, l]).collect();
        (
            Image {
                height,
                width,
                pixels,
            },
            LabelImage {
                height,
                width,
                pixels: labels,
            },
        )
    }

    #[test]
    fn an_unscaled_window_is_a_plain_cut() {
        let (image, labels) = scene(40, 56);
        let cut = augment(16, 24);
        for flip in [false, true] {
            let window = Window {
                scaled: (40, 56),
                top: 7,
                left: 11,
                flip,
            };
            let (pixels, ids) = (
                cut.image(&image, &window, None).unwrap(),
                cut.labels(&labels, &window).unwrap(),
            );
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
            let (pixels, ids) = cut
                .apply(&image, &labels, &mut generator(seed, "test", 0, 0))
                .unwrap();
            assert_eq!((pixels.len(), ids.len()), (64 * 64 * 3, 64 * 64));
            let inside = |id: u8| id < 19;
            assert!(ids.iter().all(|&id| inside(id) || id == IGNORE));
            // Away from borders the colour is that of the label; along them it is a mixture.
            let right = (0..64 * 64).filter(|&i| {
                let wanted = if inside(ids[i]) {
                    [ids[i] * 13, 255 - ids[i] * 13, ids[i]]
                } else {
                    PADDING
                };
                pixels[i * 3..][..3] == wanted
            });
            assert!(right.count() > 64 * 64 / 2, "seed {seed}");
        }
    }

    #[test]
    fn doubling_repeats_labels_and_halving_keeps_every_other() {
        let (_, labels) = scene(32, 32);
        let doubled = Window {
            scaled: (64, 64),
            top: 0,
            left: 0,
            flip: false,
        };
        let ids = augment(64, 64).labels(&labels, &doubled).unwrap();
        assert!((0..64 * 64).all(|i| ids[i] == labels.pixels[(i / 64 / 2) * 32 + i % 64 / 2]));
        let halved = Window {
            scaled: (16, 16),
            ..doubled
        };
        let ids = augment(16, 16).labels(&labels, &halved).unwrap();
        assert!((0..256).all(|i| ids[i] == labels.pixels[(i / 16 * 2) * 32 + i % 16 * 2]));
    }

    #[test]
    fn small_images_are_padded_with_the_mean_and_ignored_labels() {
        let (image, labels) = scene(10, 12);
        // The colours of the padding are not changed with the others.
        let cut = SegmentationAugment {
            scale: (1.0, 1.0),
            flip: 1.0,
            photometric: true,
            ..augment(16, 16)
        };
        let (pixels, ids) = cut
            .apply(&image, &labels, &mut generator(0, "test", 0, 0))
            .unwrap();
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
        let pixels = (0..64 * 64)
            .map(|i| u8::from(i / 64 < 16 && i % 64 < 16))
            .collect();
        let labels = LabelImage {
            height: 64,
            width: 64,
            pixels,
        };
        let image = Image {
            height: 64,
            width: 64,
            pixels: vec![0; 64 * 64 * 3],
        };
        let plain = SegmentationAugment {
            scale: (1.0, 1.0),
            ..augment(16, 16)
        };
        let mixed = |cut: &SegmentationAugment| {
            let crop = |seed| {
                cut.apply(&image, &labels, &mut generator(seed, "test", 0, 0))
                    .unwrap()
                    .1
            };
            (0..50).filter(|&seed| largest_share(&crop(seed)) < 0.75).count()
        };
        let (without, with) = (
            mixed(&plain),
            mixed(&SegmentationAugment {
                max_class_share: 0.75,
                ..plain.clone()
            }),
        );
        assert!(with > without, "{with} {without}");
        assert_eq!(largest_share(&[IGNORE; 4]), 1.0);
    }
}
