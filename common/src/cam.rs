//! Class activation maps and the suppression they guide (Zhou et al. 2016; Sun et al. 2022, eq. 3), a whole
//! batch at once.

use tch::{Kind, Tensor, no_grad};

/// Class activation map `M = sum_k w[c, k] A[k]` for the class of each image, without ReLU, scaled to 0..1
/// per image: f32 [N, 1, h, w].
///
/// `map` [N, D, h, w], classifier `weight` [classes, D], `classes` i64 `[N]`. No gradient. A constant map
/// gives zeros: it marks no region.
pub fn class_activation_map(map: &Tensor, weight: &Tensor, classes: &Tensor) -> Tensor {
    no_grad(|| {
        let (n, d, height, width) = map.size4().expect("a feature map is [N, D, h, w]");
        let weight = weight
            .to_kind(Kind::Float)
            .index_select(0, classes)
            .view([n, 1, d]);
        let map = map.to_kind(Kind::Float).reshape([n, d, height * width]);
        let cam = weight.matmul(&map); // [N, 1, h w]
        let least = cam.amin([2i64].as_slice(), true);
        let range = cam.amax([2i64].as_slice(), true) - &least;
        // Rounding errors must not be scaled to the full range. Their size follows that of the terms, not of
        // the sum, in which terms may cancel.
        let terms = weight.abs().matmul(&map.abs().amax([2i64].as_slice(), true)); // [N, 1, 1]
        let flat = range.le_tensor(&(terms * 1e-6));
        let scaled = (&cam - least) / range.clamp_min(f32::MIN_POSITIVE as f64);
        scaled.masked_fill(&flat, 0.0).view([n, 1, height, width])
    })
}

/// `x' = (1 - M) x` on normalised images x [N, 3, H, W], with M [N, 1, h, w] stretched bilinearly to H x W.
pub fn suppress(x: &Tensor, cam: &Tensor) -> Tensor {
    no_grad(|| {
        let (_, _, height, width) = x.size4().expect("images are [N, 3, H, W]");
        let cam = cam.upsample_bilinear2d([height, width], false, None, None);
        x * (1.0 - cam)
    })
}
