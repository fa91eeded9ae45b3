//! The few random numbers that the augmentation of a batch needs, in one tensor.

use super::colour;
use super::geometry::{Window, in_columns};
use super::policy::{Augment, Crop, Normalisation};
use crate::device::send;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::ops::Range;
use tch::{Device, Kind, Tensor};

/// The numbers of one batch under one [`Augment`], and the constants that it needs. They are drawn on the
/// host, and reach a device as one tensor ([`Draws::send`]).
#[derive(Debug)]
pub struct Draws {
    /// Everything below one after the other: f32 `[numbers]`.
    numbers: Tensor,
    images: usize,
    /// The images that are augmented: all, unless other processes do the rest.
    part: Range<usize>,
    /// Position of the columns top, left, height, width and flip, each of one number per image; `None` where
    /// images are not cut. Likewise below.
    windows: Option<usize>,
    /// Position of the columns of brightness, contrast, saturation (1: unchanged) and hue (0: unchanged), and
    /// the order of these operations.
    jitter: Option<(usize, [usize; 4])>,
    grayscale: Option<Chosen>,
    /// The blurred images, and the position of their standard deviations.
    blur: Option<(Chosen, usize)>,
    solarize: Option<Chosen>,
    constants: usize,
}

/// The images of a batch that an operation changes.
#[derive(Debug)]
struct Chosen {
    /// In rising order.
    rows: Vec<usize>,
    /// Position of the rows among the numbers.
    at: usize,
}

/// Some images of a chunk of a batch.
pub(super) struct Rows {
    /// Which of the chunk's: i64 `[n]`.
    pub(super) rows: Tensor,
    /// Which of all the chosen images of the batch.
    among: Range<usize>,
}

impl Draws {
    /// Draws for images of `height` x `width` pixels.
    pub(super) fn new(
        augment: &Augment,
        [images, height, width]: [i64; 3],
        normalisation: Normalisation,
        generator: &mut ChaCha8Rng,
    ) -> Self {
        let n = images as usize;
        let mut numbers = Vec::new();
        let still = augment.crop == Crop::None && augment.flip == 0.0;
        let windows = (!still).then(|| {
            let mut window = || Window {
                flip: generator.random_bool(augment.flip),
                ..crop(augment.crop, height, width, generator)
            };
            let windows: Vec<Window> = (0..n).map(|_| window()).collect();
            append(&mut numbers, in_columns(&windows))
        });
        let jittered = augment.jitter_probability > 0.0 && augment.jitter != [0.0; 4];
        let jitter = jittered.then(|| {
            let mut order = [0, 1, 2, 3];
            (1..4)
                .rev()
                .for_each(|last| order.swap(last, generator.random_range(0..=last)));
            (append(&mut numbers, factors(augment, n, generator)), order)
        });
        let grayscale = Chosen::draw(augment.grayscale, n, generator, &mut numbers);
        let (least, most) = augment.blur_sigma;
        let mut sigma = || (least + (most - least) * generator.random::<f64>()) as f32;
        let sigmas: Vec<f32> = match augment.blur > 0.0 {
            true => (0..n).map(|_| sigma()).collect(),
            false => Vec::new(),
        };
        let blur = Chosen::draw(augment.blur, n, generator, &mut numbers).map(|blurred| {
            let at = append(&mut numbers, blurred.rows.iter().map(|&row| sigmas[row]));
            (blurred, at)
        });
        let solarize = Chosen::draw(augment.solarize, n, generator, &mut numbers);
        let constants = append(&mut numbers, colour::HUE.concat());
        append(&mut numbers, normalisation.scale_and_shift());
        Draws {
            numbers: Tensor::from_slice(&numbers),
            images: n,
            part: 0..n,
            windows,
            jitter,
            grayscale,
            blur,
            solarize,
            constants,
        }
    }

    /// Sends the numbers of all views of a batch to a device, in one tensor.
    pub fn send(views: Vec<Draws>, device: Device) -> Vec<Draws> {
        if device == Device::Cpu || views.is_empty() {
            return views;
        }
        let all: Vec<&Tensor> = views.iter().map(|view| &view.numbers).collect();
        let all = send(Tensor::cat(&all, 0), device);
        let mut at = 0;
        let view = |view: Draws| {
            let length = view.numbers.size()[0];
            at += length;
            Draws {
                numbers: all.narrow(0, at - length, length),
                ..view
            }
        };
        views.into_iter().map(view).collect()
    }

    /// The same numbers, for some images of the batch only.
    pub fn of(self, part: Range<usize>) -> Draws {
        Draws { part, ..self }
    }

    /// The images of the batch that are augmented.
    pub(super) fn part(&self) -> Range<usize> {
        self.part.clone()
    }

    /// Windows of some images, `[5, n]`: top, left, height, width and flip.
    pub(super) fn windows(&self, images: &Range<usize>) -> Option<Tensor> {
        let columns = self.numbers(self.windows?, 5 * self.images);
        let columns = columns.view([5, self.images as i64]);
        Some(columns.narrow(1, images.start as i64, images.len() as i64))
    }

    /// Order of the colour operations.
    pub(super) fn order(&self) -> Option<[usize; 4]> {
        self.jitter.map(|(_, order)| order)
    }

    /// Factors of one colour operation for some images, `[n, 1, 1, 1]`.
    pub(super) fn factor(&self, operation: usize, images: &Range<usize>) -> Tensor {
        let (at, _) = self.jitter.expect("there is an order");
        self.numbers(at + operation * self.images + images.start, images.len())
            .view([-1, 1, 1, 1])
    }

    /// The images of a chunk that turn grey; `None` when there is none.
    pub(super) fn grayscale(&self, chunk: &Range<usize>) -> Option<Rows> {
        self.rows(self.grayscale.as_ref()?, chunk)
    }

    /// The images of a chunk that are blurred, and their standard deviations `[n, 1]`.
    pub(super) fn blur(&self, chunk: &Range<usize>) -> Option<(Rows, Tensor)> {
        let (blurred, at) = self.blur.as_ref()?;
        let rows = self.rows(blurred, chunk)?;
        let sigma = self
            .numbers(at + rows.among.start, rows.among.len())
            .view([-1, 1]);
        Some((rows, sigma))
    }

    /// The images of a chunk that are solarized.
    pub(super) fn solarize(&self, chunk: &Range<usize>) -> Option<Rows> {
        self.rows(self.solarize.as_ref()?, chunk)
    }

    /// [`colour::HUE`], `[3, 1, 3, 1, 1]`.
    pub(super) fn hue(&self) -> Tensor {
        self.numbers(self.constants, 9).view([3, 1, 3, 1, 1])
    }

    /// Scale and shift of the normalisation, `[2, 1, 3, 1, 1]`.
    pub(super) fn normalisation(&self) -> Tensor {
        self.numbers(self.constants + 9, 6).view([2, 1, 3, 1, 1])
    }

    fn numbers(&self, at: usize, length: usize) -> Tensor {
        self.numbers.narrow(0, at as i64, length as i64)
    }

    fn rows(&self, chosen: &Chosen, chunk: &Range<usize>) -> Option<Rows> {
        let before = |row: usize| chosen.rows.partition_point(|&chosen| chosen < row);
        let among = before(chunk.start)..before(chunk.end);
        if among.is_empty() {
            return None;
        }
        let rows = self
            .numbers(chosen.at + among.start, among.len())
            .to_kind(Kind::Int64);
        let rows = if chunk.start == 0 {
            rows
        } else {
            rows - chunk.start as i64
        };
        Some(Rows { rows, among })
    }
}

impl Chosen {
    /// Draws each of `n` images with a probability; `None`, and no draw, at zero.
    fn draw(
        probability: f64,
        n: usize,
        generator: &mut ChaCha8Rng,
        numbers: &mut Vec<f32>,
    ) -> Option<Chosen> {
        (probability > 0.0).then(|| {
            let rows: Vec<usize> = (0..n).filter(|_| generator.random_bool(probability)).collect();
            let at = append(numbers, rows.iter().map(|&row| row as f32));
            Chosen { rows, at }
        })
    }
}

// Where the numbers begin that are appended.
fn append(numbers: &mut Vec<f32>, more: impl IntoIterator<Item = f32>) -> usize {
    let at = numbers.len();
    numbers.extend(more);
    at
}

// Brightness of all images, then contrast, saturation and hue.
fn factors(augment: &Augment, n: usize, generator: &mut ChaCha8Rng) -> Vec<f32> {
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
    factors.concat()
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
