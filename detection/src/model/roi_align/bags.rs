//! Weighted sums over rows of a table, one bag of rows for each bin of each region.

use camtrast_common::device::send;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};

/// Positions along one axis with their weights.
pub(super) type Taps = Vec<(i32, f32)>;

/// The taps of each of the P bins of a region: down, where a position is that of its row's first one, and
/// across.
pub(super) type RegionTaps = [Vec<Taps>; 2];

/// The rows and weights of all bags, one bag after the other.
pub(super) struct Bags {
    /// Where each bag begins, i32.
    offsets: Tensor,
    /// Rows of the table, i32.
    rows: Tensor,
    /// Their weights, f32.
    weights: Tensor,
}

impl Bags {
    /// Both axes combined on the host.
    pub(super) fn on_host(regions: &[RegionTaps]) -> Self {
        let parts: Vec<Part> = regions.par_iter().map(Part::of).collect();
        let count = parts.iter().map(|part| part.rows.len()).sum();
        let mut offsets = Vec::new();
        let (mut rows, mut weights) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for part in parts {
            let before = rows.len() as i32;
            offsets.extend(part.offsets.iter().map(|offset| before + offset));
            rows.extend(part.rows);
            weights.extend(part.weights);
        }
        Bags {
            offsets: Tensor::from_slice(&offsets),
            rows: Tensor::from_slice(&rows),
            weights: Tensor::from_slice(&weights),
        }
    }

    /// The same bags, both axes combined on a device, which gets the taps of each axis: a few for each of R P
    /// bins, while there are R P P bags. The host knows all sizes and waits for none.
    pub(super) fn on_device(regions: &[RegionTaps], device: Device) -> Self {
        let bins = regions.first().map_or(1, |[down, _]| down.len()) as i64;
        let [down, across] = [0, 1].map(|axis| Axis::sent(regions, axis, device));
        let counts = down.counts.view([-1, bins, 1]) * across.counts.view([-1, 1, bins]); // [R, P, P]
        let counts = counts.view([-1]);
        let offsets = counts.cumsum(0, Kind::Int) - &counts;
        let total: usize = regions.iter().map(rows_of).sum();
        let bag = Tensor::repeat_interleave(&counts, total as i64); // of each row
        let within = Tensor::arange(total as i64, (Kind::Int, device)) - offsets.index_select(0, &bag);
        // Bag (r, p, q) has bin (r, p) down and bin (r, q) across.
        let down_bin = bag.floor_divide_scalar(bins);
        let across_bin = bag.floor_divide_scalar(bins * bins) * bins + bag.remainder(bins);
        let across_count = across.counts.index_select(0, &across_bin);
        let down_tap = down.starts.index_select(0, &down_bin) + within.floor_divide(&across_count);
        let across_tap = across.starts.index_select(0, &across_bin) + within.remainder_tensor(&across_count);
        Bags {
            offsets,
            rows: down.places.index_select(0, &down_tap) + across.places.index_select(0, &across_tap),
            weights: down.weights.index_select(0, &down_tap) * across.weights.index_select(0, &across_tap),
        }
    }

    /// [bags, C] of a table [rows, C].
    pub(super) fn sum(&self, table: &Tensor) -> Tensor {
        if self.rows.numel() == 0 {
            // With a gradient of zero.
            let shape = [self.offsets.size()[0], table.size()[1]];
            return table.narrow(0, 0, 1).expand(shape, false) * 0.0;
        }
        const SUM: i64 = 0;
        let weights = self.weights.to_kind(table.kind());
        Tensor::embedding_bag(
            table,
            &self.rows,
            &self.offsets,
            false,
            SUM,
            false,
            Some(&weights),
            false,
        )
        .0
    }
}

/// Rows in all bags of a region.
fn rows_of([down, across]: &RegionTaps) -> usize {
    let count = |axis: &[Taps]| axis.iter().map(Vec::len).sum::<usize>();
    count(down) * count(across)
}

/// The bags of one region.
struct Part {
    offsets: Vec<i32>,
    rows: Vec<i32>,
    weights: Vec<f32>,
}

impl Part {
    fn of(region: &RegionTaps) -> Self {
        let [down, across] = region;
        let count = rows_of(region);
        let mut part = Part {
            offsets: Vec::with_capacity(down.len() * across.len()),
            rows: Vec::with_capacity(count),
            weights: Vec::with_capacity(count),
        };
        for rows in down {
            for columns in across {
                part.offsets.push(part.rows.len() as i32);
                for &(row, wy) in rows {
                    for &(column, wx) in columns {
                        part.rows.push(row + column);
                        part.weights.push(wy * wx);
                    }
                }
            }
        }
        part
    }
}

/// The taps of all regions along one axis, on a device.
struct Axis {
    /// Taps of each of the R P bins, i32.
    counts: Tensor,
    /// The first of them, i32.
    starts: Tensor,
    /// Positions of the taps, i32.
    places: Tensor,
    /// Weights of the taps, f32.
    weights: Tensor,
}

impl Axis {
    fn sent(regions: &[RegionTaps], axis: usize, device: Device) -> Self {
        let bins = || regions.iter().flat_map(|region| &region[axis]);
        let counts: Vec<i32> = bins().map(|taps| taps.len() as i32).collect();
        let starts = counts.iter().scan(0, |next, count| {
            *next += count;
            Some(*next - count)
        });
        let starts: Vec<i32> = starts.collect();
        let (places, weights): (Vec<i32>, Vec<f32>) = bins().flatten().copied().unzip();
        let lengths = [counts.len(), starts.len(), places.len()].map(|length| length as i64);
        let numbers = send(Tensor::from_slice(&[counts, starts, places].concat()), device);
        let mut lists = numbers.split_with_sizes(lengths, 0).into_iter();
        let mut list = || lists.next().expect("three lists");
        Axis {
            counts: list(),
            starts: list(),
            places: list(),
            weights: send(Tensor::from_slice(&weights), device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Taps of 3 x 3 bins, some of them empty, as outside a map.
    fn regions() -> Vec<RegionTaps> {
        let taps = |numbers: [usize; 3], first: i32| {
            let of = |count: usize| (0..count as i32).map(|i| (first + i, 0.25 + i as f32)).collect();
            numbers.map(of).to_vec()
        };
        vec![
            [taps([1, 2, 0], 0), taps([3, 1, 2], 5)],
            [taps([0, 0, 0], 0), taps([1, 1, 1], 3)],
            [taps([2, 2, 4], 70), taps([1, 0, 3], 1)],
        ]
    }

    #[test]
    fn a_device_makes_the_bags_of_the_host() {
        for regions in [regions(), regions()[1..2].to_vec(), Vec::new()] {
            let host = Bags::on_host(&regions);
            let device = Bags::on_device(&regions, Device::Cpu);
            for (host, device) in [
                (host.offsets, device.offsets),
                (host.rows, device.rows),
                (host.weights, device.weights),
            ] {
                assert_eq!(host.kind(), device.kind());
                assert!(host.equal(&device), "{host:?} {device:?}");
            }
        }
    }
}
