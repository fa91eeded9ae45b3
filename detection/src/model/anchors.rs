//! Anchors: boxes of fixed sizes and shapes at every position of every feature map.
//!
//! Source: `torchvision.models.detection.anchor_utils.AnchorGenerator`, which rounds the anchors of a cell to
//! whole pixels, and detectron2's `DefaultAnchorGenerator`, which does not.

use camtrast_common::device::send;
use tch::{Device, Kind, Tensor};

/// The anchors of one position.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// Square roots of the areas in pixels, for each feature map.
    pub sizes: Vec<Vec<f64>>,
    /// Height over width.
    pub ratios: Vec<f64>,
    /// Whether their corners are rounded to whole pixels.
    pub rounded: bool,
}

impl Anchors {
    /// All sizes at the one feature map of `c4`, rounded.
    pub fn at_one_level(sizes: &[f64], ratios: &[f64]) -> Self {
        Anchors {
            sizes: vec![sizes.to_vec()],
            ratios: ratios.to_vec(),
            rounded: true,
        }
    }

    /// One size for each feature map, the finest first, rounded.
    pub fn one_size_a_level(sizes: &[f64], ratios: &[f64]) -> Self {
        Anchors {
            sizes: sizes.iter().map(|&size| vec![size]).collect(),
            ratios: ratios.to_vec(),
            rounded: true,
        }
    }

    /// A, the number of anchors at each position, the same for all feature maps.
    pub fn per_place(&self) -> i64 {
        (self.sizes[0].len() * self.ratios.len()) as i64
    }

    /// The anchors f32 [A, 4] around the origin for each feature map, on a device.
    pub fn cells(&self, device: Device) -> Vec<Tensor> {
        self.sizes
            .iter()
            .map(|sizes| send(self.cell(sizes), device))
            .collect()
    }

    /// Anchors f32 [h * w * A, 4] of each feature map, row by row, from [`Anchors::cells`], for padded images
    /// of `image` (height, width) pixels and feature maps of `maps` (h, w) places.
    pub fn generate(cells: &[Tensor], image: (i64, i64), maps: &[(i64, i64)]) -> Vec<Tensor> {
        let level = |(cell, &(h, w)): (&Tensor, &(i64, i64))| {
            let options = (Kind::Float, cell.device());
            let shift = |places: i64, pixels: i64| Tensor::arange(places, options) * (pixels / places);
            let grid = Tensor::meshgrid_indexing(&[shift(h, image.0), shift(w, image.1)], "ij");
            let (y, x) = (grid[0].reshape([-1]), grid[1].reshape([-1]));
            let shifts = Tensor::stack(&[&x, &y, &x, &y], 1).unsqueeze(1); // [h * w, 1, 4]
            (shifts + cell).view([-1, 4])
        };
        cells.iter().zip(maps).map(level).collect()
    }

    // The anchors [A, 4] around the origin.
    fn cell(&self, sizes: &[f64]) -> Tensor {
        let corners = |(w, h): (f32, f32)| [-w, -h, w, h].map(|side| side / 2.0);
        let rounded = |&ratio: &f64, &size: &f64| {
            // In single precision, as torchvision computes them: the result of rounding depends on it.
            let tall = (ratio as f32).sqrt();
            corners((1.0 / tall * size as f32, tall * size as f32)).map(f32::round_ties_even)
        };
        let exact = |&ratio: &f64, &size: &f64| {
            let width = (size * size / ratio).sqrt();
            corners((width as f32, (ratio * width) as f32))
        };
        let pairs = self
            .ratios
            .iter()
            .flat_map(|ratio| sizes.iter().map(move |size| (ratio, size)));
        // detectron2 lists the ratios of each size, torchvision the sizes of each ratio; the order does not
        // matter.
        let cell: Vec<f32> = pairs
            .flat_map(|(ratio, size)| {
                if self.rounded {
                    rounded(ratio, size)
                } else {
                    exact(ratio, size)
                }
            })
            .collect();
        Tensor::from_slice(&cell).view([-1, 4])
    }
}
