//! RoIAlign: features of a region as a grid of P x P bins, each the mean of bilinear samples.
//!
//! Exact (He et al. 2017 and `torchvision.ops.roi_align`, both alignments, fixed and adaptive sampling).
//! Every bin is a weighted sum of a few positions of the feature map, and bilinear weights are separable, so
//! the samples of a bin that fall on one position are added up beforehand, per axis and on the host, where
//! the regions are known because they were sampled there. The sum itself, C channels at once, is libtorch's
//! `embedding_bag` over the positions of all feature maps as a table [positions, C]: vectorised over
//! channels, differentiable, and without any intermediate of regions x channels. A GPU gets the weights of
//! each axis and combines both axes itself. The result is channels-last.
//!
//! Symbols: R regions, P x P bins, N images, C channels, H x W positions.

mod bags;

use bags::{Bags, RegionTaps, Taps};
use rayon::prelude::*;
use tch::{Device, Tensor};

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

/// A feature map that regions lie on.
#[derive(Debug, Clone, Copy)]
pub struct Map<'a> {
    /// Features f32 [N, C, H, W].
    pub features: &'a Tensor,
    /// Size of the map over that of the image.
    pub scale: f64,
}

/// A region of an image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Number of its map.
    pub map: usize,
    /// Number of its image among those of the map.
    pub image: usize,
    /// x1, y1, x2, y2 in pixels.
    pub corners: [f32; 4],
}

/// The positions of a map in the table of all maps.
struct Places {
    scale: f32,
    height: i64,
    width: i64,
    /// Row of the table where the map begins.
    first: i64,
}

impl Places {
    fn of(maps: &[Map]) -> Vec<Self> {
        let mut next = 0;
        let place = |map: &Map| {
            let (images, _, height, width) = map.features.size4().expect("features [N, C, H, W]");
            let first = next;
            next += images * height * width;
            Places {
                scale: map.scale as f32,
                height,
                width,
                first,
            }
        };
        maps.iter().map(place).collect()
    }
}

impl RoiAlign {
    /// From at least one map, all of C channels on one device, to [R, C, P, P]. The host waits for nothing.
    pub fn forward(&self, maps: &[Map], regions: &[Region]) -> Tensor {
        let channels = maps[0].features.size()[1];
        let rows = |map: &Map| map.features.permute([0, 2, 3, 1]).reshape([-1, channels]);
        let tables: Vec<Tensor> = maps.iter().map(rows).collect();
        let places = Places::of(maps);
        let taps = |region: &Region| self.region_taps(region, &places[region.map]);
        let taps: Vec<RegionTaps> = regions.par_iter().map(taps).collect();
        let table = match &tables[..] {
            [table] => table.shallow_clone(),
            tables => Tensor::cat(tables, 0),
        };
        let bags = match table.device() {
            Device::Cpu => Bags::on_host(&taps),
            device => Bags::on_device(&taps, device),
        };
        let bins = self.bins as i64;
        let sums = bags.sum(&table);
        sums.view([regions.len() as i64, bins, bins, channels])
            .permute([0, 3, 1, 2])
    }

    fn region_taps(&self, region: &Region, places: &Places) -> RegionTaps {
        let [x1, y1, x2, y2] = region.corners.map(|side| side * places.scale);
        let mut down = self.taps(y1, y2, places.height);
        let first = places.first + region.image as i64 * places.height * places.width;
        for (place, _) in down.iter_mut().flatten() {
            *place = (first + i64::from(*place) * places.width) as i32;
        }
        [down, self.taps(x1, x2, places.width)]
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

/// The level of a pyramid that suits a region's size: `4 + log2(sqrt(area) / 224)`, rounded down (Lin et al.
/// 2017, equation 1), level k having stride `2^k`; from 0 for the finest of `levels`, whose stride is
/// `finest_stride`.
pub fn level(corners: [f32; 4], finest_stride: i64, levels: usize) -> usize {
    let [x1, y1, x2, y2] = corners;
    let side = ((x2 - x1) * (y2 - y1)).sqrt();
    // The small addend is torchvision's, for areas that are just a power of two.
    let level = ((side / 224.0).log2() + 4.0 + 1e-6).floor() - finest_stride.ilog2() as f32;
    level.clamp(0.0, levels as f32 - 1.0) as usize
}
