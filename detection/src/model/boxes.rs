//! Arithmetic on boxes: f32 [n, 4], each [x1, y1, x2, y2] in pixels.
//!
//! Source: `torchvision.ops.boxes` and `torchvision.models.detection._utils.BoxCoder`, equal to rounding.

use tch::{Kind, Tensor};

/// A box grows to at most 1000 / 16 times its anchor: the logarithm of this factor.
const LARGEST_LOG_FACTOR: f64 = 4.135_166_556_742_356;

/// Width and height of boxes [..., 4]: two tensors [..., 1].
fn sides(boxes: &Tensor) -> (Tensor, Tensor) {
    let side = |start: i64| boxes.narrow(-1, start + 2, 1) - boxes.narrow(-1, start, 1);
    (side(0), side(1))
}

/// Areas `[n]`.
pub fn area(boxes: &Tensor) -> Tensor {
    let (width, height) = sides(boxes);
    (width * height).squeeze_dim(-1)
}

/// Intersection over union of every box of `a` [m, 4] with every box of `b` [n, 4]: [m, n]. Two empty boxes
/// give NaN.
pub fn iou(a: &Tensor, b: &Tensor) -> Tensor {
    let intersection = |axis: i64| {
        let ends = a.narrow(1, axis + 2, 1).minimum(&b.narrow(1, axis + 2, 1).tr());
        let starts = a.narrow(1, axis, 1).maximum(&b.narrow(1, axis, 1).tr());
        (ends - starts).clamp_min(0.0)
    };
    let shared = intersection(0) * intersection(1);
    let union = area(a).unsqueeze(1) + area(b).unsqueeze(0) - &shared;
    shared / union
}

/// Boxes [n, 4k] clipped to an image of `(height, width)` pixels.
pub fn clip(boxes: &Tensor, (height, width): (i64, i64)) -> Tensor {
    let shape = boxes.size();
    let corners = boxes.reshape([-1, 2]); // x, y
    let x = corners.narrow(1, 0, 1).clamp(0.0, width as f64);
    let y = corners.narrow(1, 1, 1).clamp(0.0, height as f64);
    Tensor::cat(&[x, y], 1).reshape(shape)
}

/// Whether both sides of a box are at least `least` pixels, bool `[n]`.
pub fn larger_than(boxes: &Tensor, least: f64) -> Tensor {
    let (width, height) = sides(boxes);
    width.minimum(&height).squeeze_dim(-1).ge(least)
}

/// Boxes as offsets from reference boxes: `(dx / w, dy / h, log dw, log dh)`, each times a weight.
#[derive(Debug, Clone, Copy)]
pub struct BoxCoder {
    /// Weights of dx, dy, dw, dh: 1 in the region proposal network, (10, 10, 5, 5) in the box head.
    pub weights: [f64; 4],
}

impl BoxCoder {
    /// The offsets [n, 4] that lead from `proposals` [n, 4] to `targets` [n, 4].
    pub fn encode(&self, targets: &Tensor, proposals: &Tensor) -> Tensor {
        let ((from_w, from_h), (to_w, to_h)) = (sides(proposals), sides(targets));
        let centre = |boxes: &Tensor, axis: i64, side: &Tensor| boxes.narrow(1, axis, 1) + side * 0.5;
        let dx = (centre(targets, 0, &to_w) - centre(proposals, 0, &from_w)) / &from_w;
        let dy = (centre(targets, 1, &to_h) - centre(proposals, 1, &from_h)) / &from_h;
        let [x, y, w, h] = self.weights;
        let (dw, dh) = ((to_w / from_w).log(), (to_h / from_h).log());
        Tensor::cat(&[dx * x, dy * y, dw * w, dh * h], 1)
    }

    /// Applies offsets [n, 4k] (k per box, as of k classes) to boxes [n, 4]: boxes [n, 4k].
    pub fn decode(&self, offsets: &Tensor, boxes: &Tensor) -> Tensor {
        let (n, numbers) = (boxes.size()[0], offsets.size()[1]);
        // Without -1, from which no shape can be derived when there are no boxes.
        let offsets = offsets.view([n, numbers / 4, 4]);
        let boxes = boxes.unsqueeze(1); // [n, 1, 4]
        let (width, height) = sides(&boxes);
        let axis = |axis: i64, side: &Tensor| {
            let offset = |axis: i64| offsets.narrow(2, axis, 1) / self.weights[axis as usize];
            let centre = offset(axis) * side + (boxes.narrow(2, axis, 1) + side * 0.5);
            let half = offset(axis + 2).clamp_max(LARGEST_LOG_FACTOR).exp() * side * 0.5;
            (&centre - &half, centre + half) // [n, k, 1]
        };
        let ((x1, x2), (y1, y2)) = (axis(0, &width), axis(1, &height));
        Tensor::cat(&[x1, y1, x2, y2], 2).view([n, numbers])
    }
}

/// No boxes: f32 [0, 4].
pub fn none(device: tch::Device) -> Tensor {
    Tensor::zeros([0, 4], (Kind::Float, device))
}
