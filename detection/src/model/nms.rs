//! Non-maximum suppression: of boxes that overlap, only the one with the highest score is kept.
//!
//! Exact and greedy, as `torchvision.ops.nms`: boxes in the order of decreasing scores (equal scores in the
//! given order); a box is removed when its intersection over union with a kept one is above the threshold.
//! The choice is the host's, which reads once for all images: the boxes where they are computed on it, and
//! which of them overlap where a GPU computes that.

use super::boxes::iou;
use camtrast_common::Result;
use camtrast_common::device::{send, to_host};
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// The boxes of an image that are to be chosen from.
#[derive(Debug)]
pub struct Candidates {
    /// Boxes f32 [n, 4].
    pub boxes: Tensor,
    /// Scores f32 `[n]`.
    pub scores: Tensor,
    /// The class or pyramid level of each, i64 `[n]`: boxes of different groups are independent. torchvision
    /// separates groups by adding offsets to coordinates below 1,000 boxes, and so loses digits.
    pub groups: Tensor,
    /// Whether a box counts at all, bool `[n]`.
    pub valid: Tensor,
}

/// Rows i64 of the kept boxes [n, 4] of one group, by decreasing score, at most `limit` of them.
///
/// # Errors
/// As [`suppress`].
pub fn nms(boxes: &Tensor, scores: &Tensor, threshold: f64, limit: usize) -> Result<Tensor> {
    let of_all = |kind| Tensor::zeros(scores.size(), (kind, scores.device()));
    let candidates = Candidates {
        boxes: boxes.shallow_clone(),
        scores: scores.shallow_clone(),
        groups: of_all(Kind::Int64),
        valid: of_all(Kind::Bool).logical_not(),
    };
    Ok(suppress(&[candidates], threshold, limit)?.remove(0))
}

/// Rows i64 of the candidates kept in each image, by decreasing score over all groups, at most `limit`.
///
/// # Errors
/// [`camtrast_common::Error::Torch`] when the device fails.
pub fn suppress(images: &[Candidates], threshold: f64, limit: usize) -> Result<Vec<Tensor>> {
    let Some(device) = images.first().map(|image| image.boxes.device()) else {
        return Ok(Vec::new());
    };
    let orders: Vec<Tensor> = images.iter().map(|image| descending(&image.scores)).collect();
    let sorted: Vec<Candidates> = images
        .iter()
        .zip(&orders)
        .map(|(i, order)| i.sorted(order))
        .collect();
    let kept = match device {
        Device::Cpu => on_host(&sorted, threshold, limit)?,
        _ => on_device(&sorted, threshold, limit)?,
    };
    let rows =
        |(order, kept): (&Tensor, Vec<i64>)| order.index_select(0, &send(Tensor::from_slice(&kept), device));
    Ok(orders.iter().zip(kept).map(rows).collect())
}

fn descending(scores: &Tensor) -> Tensor {
    scores.detach().sort_stable(true, 0, true).1
}

impl Candidates {
    fn sorted(&self, order: &Tensor) -> Candidates {
        Candidates {
            boxes: self.boxes.detach().index_select(0, order).to_kind(Kind::Float),
            scores: self.scores.index_select(0, order),
            groups: self.groups.index_select(0, order),
            valid: self.valid.index_select(0, order),
        }
    }
}

/// Ranks of the kept boxes of each image. The host computes overlaps, a row for each kept box, so that those
/// of suppressed boxes are never computed.
fn on_host(sorted: &[Candidates], threshold: f64, limit: usize) -> Result<Vec<Vec<i64>>> {
    const NUMBERS: usize = 6; // x1, y1, x2, y2, group, valid
    let table = |image: &Candidates| {
        let column = |t: &Tensor| t.to_kind(Kind::Float).unsqueeze(1);
        Tensor::cat(
            &[
                image.boxes.shallow_clone(),
                column(&image.groups),
                column(&image.valid),
            ],
            1,
        )
    };
    let tables: Vec<Tensor> = sorted.iter().map(table).collect();
    let all: Vec<f32> = to_host(&Tensor::cat(&tables, 0).reshape([-1]))?;
    let mut rest = &all[..];
    let of_image = |image: &Candidates| {
        let (own, others) = rest.split_at(image.boxes.size()[0] as usize * NUMBERS);
        rest = others;
        let mut groups: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let rows: Vec<&[f32]> = own.chunks_exact(NUMBERS).collect();
        for (rank, row) in rows.iter().enumerate().filter(|(_, row)| row[5] != 0.0) {
            groups.entry(row[4] as i64).or_default().push(rank as i64);
        }
        let mut kept: Vec<i64> = Vec::new();
        for ranks in groups.values() {
            let boxes: Vec<&[f32]> = ranks.iter().map(|&rank| rows[rank as usize]).collect();
            kept.extend(greedy(&boxes, threshold, limit).into_iter().map(|i| ranks[i]));
        }
        kept.sort_unstable();
        kept.truncate(limit);
        kept
    };
    Ok(sorted.iter().map(of_image).collect())
}

// Which boxes, of one group and by decreasing score, are kept.
fn greedy(boxes: &[&[f32]], threshold: f64, limit: usize) -> Vec<usize> {
    let column = |i: usize| -> Vec<f32> { boxes.iter().map(|sides| sides[i]).collect() };
    let (mut x1, mut y1, mut x2, mut y2) = (column(0), column(1), column(2), column(3));
    let mut rows: Vec<u32> = (0..x1.len() as u32).collect();
    let mut area: Vec<f32> = (0..x1.len()).map(|i| (x2[i] - x1[i]) * (y2[i] - y1[i])).collect();
    // A single-precision overlap is above the threshold when it is above the largest such number that is not.
    let mut bound = threshold as f32;
    if f64::from(bound) > threshold {
        bound = bound.next_down();
    }
    let mut kept = Vec::new();
    let mut suppressed = vec![false; rows.len()];
    // Boxes that are not decided yet are at the front of every column.
    let mut count = rows.len();
    while count > 0 && kept.len() < limit {
        kept.push(rows[0] as usize);
        let best = [x1[0], y1[0], x2[0], y2[0], area[0]];
        let (xs1, ys1, xs2, ys2, areas) = (
            &x1[..count],
            &y1[..count],
            &x2[..count],
            &y2[..count],
            &area[..count],
        );
        let flags = &mut suppressed[..count];
        for i in 0..count {
            let width = (min(best[2], xs2[i]) - max(best[0], xs1[i])).max(0.0);
            let height = (min(best[3], ys2[i]) - max(best[1], ys1[i])).max(0.0);
            let shared = width * height;
            flags[i] = shared / (best[4] + areas[i] - shared) > bound;
        }
        flags[0] = true;
        let mut left = 0;
        for i in 0..count {
            // Written without a branch, which would be unpredictable.
            let stays = usize::from(!suppressed[i]);
            for column in [&mut x1, &mut y1, &mut x2, &mut y2, &mut area] {
                column[left] = column[i];
            }
            rows[left] = rows[i];
            left += stays;
        }
        count = left;
    }
    kept
}

// As in SSE: NaN is not handled, so this is one instruction.
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The same where the device computes all overlaps: they reach the host as one bit per pair.
fn on_device(sorted: &[Candidates], threshold: f64, limit: usize) -> Result<Vec<Vec<i64>>> {
    let bits: Vec<Tensor> = sorted.iter().map(|image| image.overlaps(threshold)).collect();
    let all: Vec<u8> = to_host(&Tensor::cat(&bits, 0))?;
    let mut rest = &all[..];
    let of_image = |(image, bits): (&Candidates, &Tensor)| {
        let (own, others) = rest.split_at(bits.numel());
        rest = others;
        greedy_by_bits(own, image.boxes.size()[0] as usize, limit)
    };
    Ok(sorted.iter().zip(&bits).map(of_image).collect())
}

impl Candidates {
    /// Bits u8, a row of n for the boxes that do not count, and then one for each box: those that it
    /// suppresses if it is kept. Rows begin at a byte; bits of boxes before a row's own have no meaning.
    fn overlaps(&self, threshold: f64) -> Tensor {
        let n = self.boxes.size()[0];
        let mut parts = vec![packed(&self.valid.logical_not().unsqueeze(0))];
        let chunk = (CHUNK_BYTES / (n.max(1) * 32)).max(1) * 8;
        for start in (0..n).step_by(chunk as usize) {
            let count = chunk.min(n - start);
            // What stands before these rows is decided already. `start` is a whole number of bytes.
            let later = |t: &Tensor| t.narrow(0, start, n - start);
            let (boxes, groups) = (later(&self.boxes), later(&self.groups));
            let same = groups.narrow(0, 0, count).unsqueeze(1).eq_tensor(&groups);
            let above = iou(&boxes.narrow(0, 0, count), &boxes)
                .to_kind(Kind::Double)
                .gt(threshold);
            parts.push(packed(&above.logical_and(&same)).constant_pad_nd([start / 8, 0]));
        }
        Tensor::cat(&parts, 0).view([-1])
    }
}

/// Eight columns of a bool matrix [m, n] to a byte: u8 [m, n / 8, rounded up].
fn packed(flags: &Tensor) -> Tensor {
    let (m, n) = flags.size2().expect("a matrix");
    let options = (Kind::Uint8, flags.device());
    let values = Tensor::ones([8], options).bitwise_left_shift(&Tensor::arange(8, options));
    let words = (n + 7) / 8;
    let flags = flags.to_kind(Kind::Uint8).constant_pad_nd([0, words * 8 - n]);
    (flags.view([m, words, 8]) * values).sum_dim_intlist([2i64].as_slice(), false, Kind::Uint8)
}

// Ranks of the kept of n boxes, from their bits of `Candidates::overlaps`.
fn greedy_by_bits(bits: &[u8], n: usize, limit: usize) -> Vec<i64> {
    let bytes = n.div_ceil(8);
    let (not_counting, masks) = bits.split_at(bytes);
    let mut suppressed = not_counting.to_vec();
    let mut kept = Vec::new();
    for rank in 0..n {
        if kept.len() == limit {
            break;
        }
        if suppressed[rank / 8] >> (rank % 8) & 1 == 0 {
            kept.push(rank as i64);
            let mask = &masks[rank * bytes..][..bytes];
            suppressed.iter_mut().zip(mask).for_each(|(all, one)| *all |= one);
        }
    }
    kept
}

/// Bytes of the part of the matrix of overlaps that is on the device at one time: little more than the cache
/// of a large GPU.
const CHUNK_BYTES: i64 = if cfg!(test) { 64 << 10 } else { 64 << 20 };

#[cfg(test)]
mod tests {
    use super::*;
    use camtrast_common::testing::unit;

    // Boxes of one image in `groups` groups; every seventh does not count, and some scores are equal.
    fn candidates(name: &str, n: i64, groups: i64) -> Candidates {
        let corners = unit(name, &[n, 2]) * 80.0;
        let sides = unit(&format!("{name}/sides"), &[n, 2]) * 30.0;
        let ranks = Tensor::arange(n, (Kind::Int64, Device::Cpu));
        Candidates {
            boxes: Tensor::cat(&[&corners, &(&corners + sides)], 1),
            scores: (unit(&format!("{name}/scores"), &[n]) * 64.0).floor() / 64.0,
            groups: ranks.remainder(groups),
            valid: ranks.remainder(7).not_equal(0),
        }
    }

    #[test]
    fn both_ways_keep_the_same_boxes() {
        let of_sizes = |sizes: &[i64]| -> Vec<Candidates> {
            let image = |&n: &i64| candidates(&format!("image {n}"), n, 1 + n % 4);
            sizes.iter().map(image).collect()
        };
        // 600 boxes take several chunks.
        for (sizes, limit) in [(&[257, 0, 64, 1][..], usize::MAX), (&[600, 300], 40), (&[0], 3)] {
            for threshold in [0.3, 0.5, 0.7] {
                let sorted: Vec<Candidates> = of_sizes(sizes)
                    .iter()
                    .map(|image| image.sorted(&descending(&image.scores)))
                    .collect();
                let host = on_host(&sorted, threshold, limit).unwrap();
                assert_eq!(on_device(&sorted, threshold, limit).unwrap(), host);
                assert!(sizes == [0] || host.iter().any(|kept| kept.len() > 1));
                for (kept, image) in host.iter().zip(&sorted) {
                    assert!(kept.iter().all(|&rank| image.valid.int64_value(&[rank]) == 1));
                }
            }
        }
    }
}
