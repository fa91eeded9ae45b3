//! From an image of any size to the network's input, together with its boxes.

use crate::model::Images;
use camtrast_common::augment::Input;
use camtrast_common::device::send;
use camtrast_images::resample::{Image, resize};
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// How an image's aspect ratio is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Aspect {
    /// Aspect ratio kept: the short side is set, the long one is limited
    Keep,
    /// Both sides set to the same length, as in "800 x 800"
    Square,
}

/// The size of images in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scale {
    /// The short side in pixels, or both.
    pub side: usize,
    /// Limit of the long side, which wins over `side`.
    pub max_side: usize,
    /// How the aspect ratio is treated.
    pub aspect: Aspect,
    /// The sides of a group of images are padded to a multiple of this many pixels: 32 for `fpn`, its
    /// coarsest stride but one, and in torchvision; 1 for `c4` in detectron2.
    #[serde(default = "before_it_was_a_setting")]
    pub pad_to: usize,
}

fn before_it_was_a_setting() -> usize {
    32
}

impl Scale {
    /// The size (height, width) that an image of `(height, width)` is resized to; as detectron2's
    /// `ResizeShortestEdge`.
    pub fn target(&self, (height, width): (usize, usize)) -> (usize, usize) {
        if self.aspect == Aspect::Square {
            return (self.side, self.side);
        }
        let factor = self.side as f64 / height.min(width) as f64;
        let (mut h, mut w) = (height as f64 * factor, width as f64 * factor);
        if h.max(w) > self.max_side as f64 {
            let factor = self.max_side as f64 / h.max(w);
            (h, w) = (h * factor, w * factor);
        }
        ((h + 0.5) as usize, (w + 0.5) as usize)
    }
}

/// An image ready for the network, with boxes [x1, y1, x2, y2] in its pixels.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// Pixels.
    pub image: Image,
    /// Boxes.
    pub boxes: Vec<[f64; 4]>,
}

/// Resizes an image and its boxes.
pub fn rescale(image: Image, boxes: Vec<[f64; 4]>, scale: &Scale) -> Prepared {
    let (height, width) = scale.target((image.height, image.width));
    let (x, y) = (
        width as f64 / image.width as f64,
        height as f64 / image.height as f64,
    );
    let boxes = boxes
        .into_iter()
        .map(|[x1, y1, x2, y2]| [x1 * x, y1 * y, x2 * x, y2 * y])
        .collect();
    Prepared {
        image: resize(image, height, width),
        boxes,
    }
}

/// Mirrors the image and its boxes horizontally.
pub fn mirror(Prepared { mut image, mut boxes }: Prepared) -> Prepared {
    for row in image.pixels.chunks_exact_mut(image.width * 3) {
        for x in 0..image.width / 2 {
            (0..3).for_each(|channel| row.swap(x * 3 + channel, (image.width - 1 - x) * 3 + channel));
        }
    }
    let width = image.width as f64;
    boxes
        .iter_mut()
        .for_each(|[x1, _, x2, _]| (*x1, *x2) = (width - *x2, width - *x1));
    Prepared { image, boxes }
}

/// Images of several sizes in one tensor.
#[derive(Debug)]
pub struct Padded {
    /// Pixels u8 [N, H, W, 3], zero beyond each image's own size.
    pub pixels: Tensor,
    /// Height and width of each image.
    pub sizes: Vec<(i64, i64)>,
}

impl Padded {
    /// Puts every image into the upper left corner of its slot.
    pub fn new(images: &[Image], pad_to: usize) -> Self {
        let side =
            |of: fn(&Image) -> usize| images.iter().map(of).max().unwrap_or(1).next_multiple_of(pad_to);
        let (height, width) = (side(|image| image.height), side(|image| image.width));
        let mut pixels = vec![0u8; images.len() * height * width * 3];
        for (room, image) in pixels.chunks_exact_mut(height * width * 3).zip(images) {
            let rows = image.pixels.chunks_exact(image.width * 3);
            room.chunks_exact_mut(width * 3)
                .zip(rows)
                .for_each(|(to, from)| to[..from.len()].copy_from_slice(from));
        }
        let shape = [images.len() as i64, height as i64, width as i64, 3];
        Padded {
            pixels: Tensor::from_data_size(&pixels, &shape, Kind::Uint8),
            sizes: images
                .iter()
                .map(|image| (image.height as i64, image.width as i64))
                .collect(),
        }
    }

    /// The same on a device.
    pub fn sent(self, device: Device) -> Self {
        Padded {
            pixels: send(self.pixels, device),
            ..self
        }
    }

    /// The network's input, on the device of the pixels; those outside an image are zero after normalisation.
    pub fn input(&self, input: &Input) -> Images {
        let pixels = input.of(&self.pixels);
        let (_, _, height, width) = pixels.size4().expect("images");
        for (image, &(h, w)) in self.sizes.iter().enumerate() {
            let image = pixels.get(image as i64);
            let _ = image.narrow(1, h, height - h).zero_();
            let _ = image.narrow(2, w, width - w).zero_();
        }
        Images {
            pixels,
            sizes: self.sizes.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(height: usize, width: usize) -> Image {
        Image {
            height,
            width,
            pixels: (0..height * width * 3).map(|i| (i * 7 % 251) as u8).collect(),
        }
    }

    #[test]
    fn sizes_are_detectron2s() {
        let scale = |side, max_side| Scale {
            side,
            max_side,
            aspect: Aspect::Keep,
            pad_to: 1,
        };
        assert_eq!(scale(800, 1333).target((375, 500)), (800, 1067));
        assert_eq!(scale(800, 1333).target((500, 375)), (1067, 800));
        assert_eq!(
            scale(800, 1333).target((200, 500)),
            (533, 1333),
            "the long side is limited"
        );
        assert_eq!(
            Scale {
                aspect: Aspect::Square,
                ..scale(800, 1333)
            }
            .target((200, 500)),
            (800, 800)
        );
    }

    #[test]
    fn boxes_follow_every_change() {
        let boxes = vec![[2.0, 1.0, 7.0, 3.0]];
        let scaled = rescale(
            image(5, 10),
            boxes.clone(),
            &Scale {
                side: 10,
                max_side: 100,
                aspect: Aspect::Keep,
                pad_to: 1,
            },
        );
        assert_eq!((scaled.image.height, scaled.image.width), (10, 20));
        assert_eq!(scaled.boxes, [[4.0, 2.0, 14.0, 6.0]]);
        let before = Prepared {
            image: image(5, 10),
            boxes,
        };
        let mirrored = mirror(before.clone());
        assert_eq!(mirrored.boxes, [[3.0, 1.0, 8.0, 3.0]]);
        // The pixel in the upper left corner of the box is now in its upper right one.
        assert_eq!(
            mirrored.image.pixels[(10 + 7) * 3..][..3],
            before.image.pixels[(10 + 2) * 3..][..3]
        );
        assert_eq!(mirror(mirrored), before);
    }

    #[test]
    fn padding_is_zero_after_normalisation() {
        let padded = Padded::new(&[image(3, 40), image(33, 5)], 32);
        assert_eq!(padded.pixels.size(), [2, 64, 64, 3]);
        let input = padded.input(&Input::new(&[0.5, 0.4, 0.3], &[0.2, 0.2, 0.1], Device::Cpu));
        assert_eq!(input.sizes, [(3, 40), (33, 5)]);
        let value = f64::from(image(33, 5).pixels[(32 * 5 + 4) * 3 + 2]) / 255.0;
        assert!((input.pixels.double_value(&[1, 2, 32, 4]) - (value - 0.3) / 0.1).abs() < 1e-5);
        assert_eq!(
            input
                .pixels
                .get(1)
                .narrow(1, 33, 31)
                .abs()
                .max()
                .double_value(&[]),
            0.0
        );
        assert_eq!(
            input
                .pixels
                .get(0)
                .narrow(2, 40, 24)
                .abs()
                .max()
                .double_value(&[]),
            0.0
        );
    }
}
