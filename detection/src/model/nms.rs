//! Non-maximum suppression: of boxes that overlap, only the one with the highest score is kept.
//!
//! Exact and greedy, as `torchvision.ops.nms`: boxes in the order of decreasing scores (equal scores in the
//! given order); a box is removed when its intersection over union with a kept one is above the threshold.

use super::boxes::iou;
use camtrast_common::Result;
use camtrast_common::device::to_host;
use std::collections::BTreeMap;
use tch::{Device, Kind, Tensor};

/// Rows i64 of the kept boxes [n, 4], by decreasing score, at most `limit` of them.
///
/// # Errors
/// [`camtrast_common::Error::Torch`] when the device fails.
pub fn nms(boxes: &Tensor, scores: &Tensor, threshold: f64, limit: usize) -> Result<Tensor> {
    let order = descending(scores);
    let kept = greedy(&boxes.index_select(0, &order), threshold, limit)?;
    Ok(order.index_select(0, &Tensor::from_slice(&kept).to_device(order.device())))
}

/// The same within each group i64 `[n]` (a class or a pyramid level): boxes of different groups are
/// independent. Rows by decreasing score over all groups. torchvision separates groups by adding offsets to
/// coordinates below 1,000 boxes, and so loses digits.
///
/// # Errors
/// As [`nms`].
pub fn grouped_nms(
    boxes: &Tensor,
    scores: &Tensor,
    groups: &Tensor,
    threshold: f64,
    limit: usize,
) -> Result<Tensor> {
    let order = descending(scores);
    let group_of: Vec<i64> = to_host(&groups.index_select(0, &order))?;
    let mut members: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    for (rank, &group) in group_of.iter().enumerate() {
        members.entry(group).or_default().push(rank as i64);
    }
    let boxes = boxes.index_select(0, &order);
    let mut kept: Vec<i64> = Vec::new();
    for ranks in members.values() {
        let boxes = boxes.index_select(0, &Tensor::from_slice(ranks).to_device(boxes.device()));
        kept.extend(
            greedy(&boxes, threshold, limit)?
                .into_iter()
                .map(|row| ranks[row as usize]),
        );
    }
    kept.sort_unstable();
    kept.truncate(limit);
    Ok(order.index_select(0, &Tensor::from_slice(&kept).to_device(order.device())))
}

fn descending(scores: &Tensor) -> Tensor {
    scores.detach().sort_stable(true, 0, true).1
}

// Rows of the kept boxes; boxes are in the order of decreasing scores.
fn greedy(boxes: &Tensor, threshold: f64, limit: usize) -> Result<Vec<i64>> {
    if boxes.device() == Device::Cpu {
        greedy_on_host(boxes, threshold, limit)
    } else {
        greedy_on_device(boxes, threshold, limit)
    }
}

/// The overlaps on the host, a row for each kept box, so that those of suppressed boxes are never computed.
fn greedy_on_host(boxes: &Tensor, threshold: f64, limit: usize) -> Result<Vec<i64>> {
    let column = |i: i64| to_host::<f32>(&boxes.select(1, i).to_kind(Kind::Float));
    let (mut x1, mut y1, mut x2, mut y2) = (column(0)?, column(1)?, column(2)?, column(3)?);
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
        kept.push(i64::from(rows[0]));
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
    Ok(kept)
}

// As in SSE: NaN is not handled, so this is one instruction.
fn min(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn max(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// The whole matrix of overlaps on the device, copied to the host as one bit per pair.
fn greedy_on_device(boxes: &Tensor, threshold: f64, limit: usize) -> Result<Vec<i64>> {
    let count = boxes.size()[0];
    let words = (count + 7) / 8;
    let bits = Tensor::from_slice(&[1u8, 2, 4, 8, 16, 32, 64, 128]).to_device(boxes.device());
    let chunk = (ROW_BYTES / (count.max(1) * 4)).clamp(1, count.max(1));
    let mut masks: Vec<u8> = Vec::with_capacity((count * words) as usize);
    let mut suppressed = vec![0u8; words as usize];
    let mut kept = Vec::new();
    for start in (0..count).step_by(chunk as usize) {
        let rows = boxes.narrow(0, start, chunk.min(count - start));
        let above = iou(&rows, boxes)
            .to_kind(Kind::Double)
            .gt(threshold)
            .constant_pad_nd([0, words * 8 - count]);
        let packed = (above.view([-1, words, 8]).to_kind(Kind::Uint8) * &bits).sum_dim_intlist(
            [2i64].as_slice(),
            false,
            Kind::Uint8,
        );
        masks.clear();
        masks.extend(to_host::<u8>(&packed.reshape([-1]))?);
        for (i, mask) in (start..).zip(masks.chunks_exact(words as usize)) {
            if suppressed[i as usize / 8] >> (i % 8) & 1 == 1 {
                continue;
            }
            kept.push(i);
            if kept.len() == limit {
                return Ok(kept);
            }
            suppressed.iter_mut().zip(mask).for_each(|(all, one)| *all |= one);
        }
    }
    Ok(kept)
}

/// Bytes of the part of the matrix that is on the device at one time.
const ROW_BYTES: i64 = 256 << 20;
