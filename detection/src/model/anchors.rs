//! Anchors: boxes of fixed sizes and shapes at every place of every feature map.
//!
//! Source: `torchvision.models.detection.anchor_utils.AnchorGenerator`. detectron2 does not round the anchors of a cell to
//! whole pixels; torchvision and we do.

use tch::{Device, Kind, Tensor};

/// The anchors of one place.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// Square roots of the areas in pixels, for each feature map.
    pub sizes: Vec<Vec<f64>>,
    /// Height over width.
    pub ratios: Vec<f64>,
}

impl Anchors {
    /// All sizes at the one feature map of `c4`.
    pub fn at_one_level(sizes: &[f64], ratios: &[f64]) -> Self {
        Anchors { sizes: vec![sizes.to_vec()], ratios: ratios.to_vec() }
    }

    /// One size for each feature map, the finest first.
    pub fn one_size_a_level(sizes: &[f64], ratios: &[f64]) -> Self {
        Anchors { sizes: sizes.iter().map(|&size| vec![size]).collect(), ratios: ratios.to_vec() }
    }

    /// A, the anchors at each place; alike at all feature maps.
    pub fn per_place(&self) -> i64 {
        (self.sizes[0].len() * self.ratios.len()) as i64
    }

    /// Anchors f32 [h * w * A, 4] of each feature map, row by row, for padded images of `image` (height, width) pixels and
    /// feature maps of `maps` (h, w) places.
    pub fn generate(&self, image: (i64, i64), maps: &[(i64, i64)], device: Device) -> Vec<Tensor> {
        let level = |(sizes, &(h, w)): (&Vec<f64>, &(i64, i64))| {
            let shift = |places: i64, pixels: i64| Tensor::arange(places, (Kind::Float, device)) * (pixels / places);
            let grid = Tensor::meshgrid_indexing(&[shift(h, image.0), shift(w, image.1)], "ij");
            let (y, x) = (grid[0].reshape([-1]), grid[1].reshape([-1]));
            let shifts = Tensor::stack(&[&x, &y, &x, &y], 1).unsqueeze(1); // [h * w, 1, 4]
            (shifts + self.cell(sizes).to_device(device)).view([-1, 4])
        };
        self.sizes.iter().zip(maps).map(level).collect()
    }

    // The anchors [A, 4] around the origin, in single precision as torchvision computes them: rounding hangs on it.
    fn cell(&self, sizes: &[f64]) -> Tensor {
        let cell: Vec<f32> = (self.ratios.iter())
            .flat_map(|&ratio| {
                let tall = (ratio as f32).sqrt();
                sizes.iter().flat_map(move |&size| {
                    let (w, h) = (1.0 / tall * size as f32, tall * size as f32);
                    [-w, -h, w, h].map(|side| (side / 2.0).round_ties_even())
                })
            })
            .collect();
        Tensor::from_slice(&cell).view([-1, 4])
    }
}
