//! RoIAlign: features of a region as a grid of P x P bins, each the mean of bilinear samples.
//!
//! Exact (He et al. 2017 and `torchvision.ops.roi_align`, both alignments, fixed and adaptive sampling).
//! Every bin is a weighted sum of a few positions of the feature map, and bilinear weights are separable, so
//! the samples of a bin that fall on one position are added up beforehand, per axis and on the host. The sum
//! itself, C channels at once, is libtorch's `embedding_bag` with the feature map as its table [N * H * W,
//! C]: vectorised over channels, differentiable, and without any intermediate of regions x channels. The
//! result is channels-last.
//!
//! Symbols: R regions, P x P bins, N images, C channels, H x W positions.

use camtrast_common::Result;
use camtrast_common::device::to_host;
use rayon::prelude::*;
use tch::{Kind, Tensor};

/// How regions are pooled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoiAlign {
    /// P.
    pub bins: usize,
    /// Samples per bin along each axis; 0: as many as it is wide, rounded up.
    pub sampling_ratio: usize,
    /// Whether coordinates are shifted by half a position (`aligned=True`). If not, regions are at least one
    /// position wide.
    pub aligned: bool,
}

impl RoiAlign {
    /// From features f32 [N, C, H, W] and regions f32 [R, 5] (image, x1, y1, x2, y2 in pixels) to [R, C, P,
    /// P]. `scale` is the size of the feature map over that of the image.
    ///
    /// # Errors
    /// [`camtrast_common::Error::Torch`] when the device fails.
    pub fn forward(&self, features: &Tensor, regions: &Tensor, scale: f64) -> Result<Tensor> {
        let (n, channels, height, width) = features.size4().expect("features [N, C, H, W]");
        let table = features
            .permute([0, 2, 3, 1])
            .reshape([n * height * width, channels]);
        let regions: Vec<f32> = to_host(&regions.detach().to_kind(Kind::Float).reshape([-1]))?;
        let of_region = |region: &[f32]| {
            let [x1, y1, x2, y2] = [1, 2, 3, 4].map(|i| region[i] * scale as f32);
            let (rows, columns) = (self.taps(y1, y2, height), self.taps(x1, x2, width));
            let first = region[0] as i64 * height;
            let mut bags = Bags::default();
            for row in &rows {
                for column in &columns {
                    bags.begin();
                    for &(y, wy) in row {
                        let start = (first + i64::from(y)) * width;
                        column
                            .iter()
                            .for_each(|&(x, wx)| bags.push(start + i64::from(x), wy * wx));
                    }
                }
            }
            bags
        };
        let bags = Bags::joined(regions.par_chunks_exact(5).map(of_region).collect());
        let bins = self.bins as i64;
        Ok(bags
            .sum(&table)
            .view([-1, bins, bins, channels])
            .permute([0, 3, 1, 2]))
    }

    // The weights of the `places` along one axis in each of the P bins between two coordinates. In single
    // precision and in the order of torchvision's kernel.
    fn taps(&self, start: f32, end: f32, places: i64) -> Vec<Taps> {
        let offset = if self.aligned { 0.5 } else { 0.0 };
        let (start, end) = (start - offset, end - offset);
        let length = if self.aligned {
            end - start
        } else {
            (end - start).max(1.0)
        };
        let bin = length / self.bins as f32;
        let samples = if self.sampling_ratio > 0 {
            self.sampling_ratio
        } else {
            bin.ceil() as usize
        };
        let taps = |index: usize| {
            let mut taps = Taps::new();
            let mut add =
                |place: i64, weight: f32| match taps.iter_mut().find(|tap| i64::from(tap.0) == place) {
                    Some(tap) => tap.1 += weight,
                    None => taps.push((place as i32, weight)),
                };
            for sample in 0..samples {
                let at = start + index as f32 * bin + (sample as f32 + 0.5) * bin / samples as f32;
                if at < -1.0 || at > places as f32 {
                    continue;
                }
                let at = at.max(0.0);
                let low = (at as i64).min(places - 1);
                let part = if low == places - 1 { 0.0 } else { at - low as f32 };
                add(low, (1.0 - part) / samples as f32);
                if part > 0.0 {
                    add(low + 1, part / samples as f32);
                }
            }
            taps
        };
        (0..self.bins).map(taps).collect()
    }
}

/// Positions along one axis with their weights.
type Taps = Vec<(i32, f32)>;

/// Weighted sums over rows of a table, one bag each.
#[derive(Default)]
struct Bags {
    offsets: Vec<i32>,
    rows: Vec<i32>,
    weights: Vec<f32>,
}

impl Bags {
    fn begin(&mut self) {
        self.offsets.push(self.rows.len() as i32);
    }

    fn push(&mut self, row: i64, weight: f32) {
        self.rows.push(row as i32);
        self.weights.push(weight);
    }

    fn joined(parts: Vec<Bags>) -> Self {
        let mut all = Bags::default();
        all.rows.reserve(parts.iter().map(|part| part.rows.len()).sum());
        all.weights.reserve(all.rows.capacity());
        for part in parts {
            let before = all.rows.len() as i32;
            all.offsets
                .extend(part.offsets.iter().map(|offset| before + offset));
            all.rows.extend(part.rows);
            all.weights.extend(part.weights);
        }
        all
    }

    /// [bags, C] of a table [rows, C].
    fn sum(&self, table: &Tensor) -> Tensor {
        let (device, channels) = (table.device(), table.size()[1]);
        if self.rows.is_empty() {
            // With a gradient of zero.
            return table
                .narrow(0, 0, 1)
                .expand([self.offsets.len() as i64, channels], false)
                * 0.0;
        }
        let rows = Tensor::from_slice(&self.rows).to_device(device);
        let offsets = Tensor::from_slice(&self.offsets).to_device(device);
        let weights = Tensor::from_slice(&self.weights)
            .to_device(device)
            .to_kind(table.kind());
        const SUM: i64 = 0;
        Tensor::embedding_bag(table, &rows, &offsets, false, SUM, false, Some(&weights), false).0
    }
}

/// RoIAlign of each region on the pyramid level that suits its size: `4 + log2(sqrt(area) / 224)`, rounded
/// down (Lin et al. 2017, equation 1), level k having stride `2^k`. `levels` [N, C, H / stride, W / stride],
/// the finest first, of strides that double; `regions` as in [`RoiAlign::forward`].
///
/// # Errors
/// As [`RoiAlign::forward`].
pub fn multi_scale(
    align: &RoiAlign,
    levels: &[Tensor],
    finest_stride: i64,
    regions: &Tensor,
) -> Result<Tensor> {
    let finest = finest_stride.ilog2() as i64;
    let level = assign_levels(&regions.narrow(1, 1, 4), finest, finest + levels.len() as i64 - 1) - finest;
    let mut rows = Vec::new();
    let mut pooled = Vec::new();
    for (i, features) in levels.iter().enumerate() {
        let here = level.eq(i as i64).nonzero().squeeze_dim(1);
        if here.numel() > 0 {
            let scale = 1.0 / (finest_stride << i) as f64;
            pooled.push(align.forward(features, &regions.index_select(0, &here), scale)?);
            rows.push(here);
        }
    }
    if pooled.is_empty() {
        return align.forward(&levels[0], regions, 1.0);
    }
    // Back into the order of the regions.
    Ok(Tensor::cat(&pooled, 0).index_select(0, &Tensor::cat(&rows, 0).argsort(0, false)))
}

// Pyramid levels i64 [R] of boxes [R, 4]. The small addend is torchvision's, for areas that are just a power
// of two.
fn assign_levels(boxes: &Tensor, finest: i64, coarsest: i64) -> Tensor {
    let side = super::boxes::area(boxes).sqrt();
    ((side / 224.0).log2() + 4.0 + 1e-6)
        .floor()
        .clamp(finest as f64, coarsest as f64)
        .to_kind(Kind::Int64)
}
