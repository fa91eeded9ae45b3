//! Colour operations on batches [N, 3, H, W] of RGB in 0..1, with one factor per image [N, 1, 1, 1].
//!
//! Source: `torchvision.transforms.v2.functional` (float images).

use crate::device::send;
use tch::{Kind, Tensor};

/// Grey value, [N, 1, H, W]: 0.2989 R + 0.587 G + 0.114 B.
pub fn luma(x: &Tensor) -> Tensor {
    let channel = |c| x.narrow(1, c, 1);
    let mut grey = channel(0) * 0.2989;
    grey += channel(1) * 0.587;
    grey += channel(2) * 0.114;
    grey
}

/// Multiplies by the factor.
pub fn adjust_brightness(x: &Tensor, factor: &Tensor) -> Tensor {
    (x * factor).clamp_(0.0, 1.0)
}

/// Moves away from (factor > 1) or towards the image's mean grey.
pub fn adjust_contrast(x: &Tensor, factor: &Tensor) -> Tensor {
    let mean = luma(x).mean_dim([1i64, 2, 3].as_slice(), true, Kind::Float);
    blend(x, &mean, factor)
}

/// Moves away from (factor > 1) or towards each pixel's grey.
pub fn adjust_saturation(x: &Tensor, factor: &Tensor) -> Tensor {
    blend(x, &luma(x), factor)
}

fn blend(x: &Tensor, other: &Tensor, factor: &Tensor) -> Tensor {
    let rest: Tensor = other * (1.0 - factor);
    rest.addcmul(x, factor).clamp_(0.0, 1.0)
}

/// Turns the hue by `shift`, in turns (-0.5..0.5). The smallest channel m and the chroma D of a pixel do not
/// change; with the new hue h in 0..6, red becomes `m + D clamp(|h - 3| - 1)`, green
/// `m + D clamp(2 - |h - 2|)` and blue `m + D clamp(2 - |h - 4|)`, clamped to 0..1: the HSV round trip in one
/// formula.
pub fn adjust_hue(x: &Tensor, shift: &Tensor) -> Tensor {
    let constants = Tensor::from_slice(&HUE.concat()).view([3, 1, 3, 1, 1]);
    turn_hue(x, shift, &send(constants, x.device()))
}

/// For red, green and blue: the hue at the middle of `share = sign |h - middle| + offset`, its sign and its
/// offset.
pub(super) const HUE: [[f32; 3]; 3] = [[3.0, 2.0, 4.0], [1.0, -1.0, -1.0], [-1.0, 2.0, 2.0]];

// `constants` is `HUE` as [3, 1, 3, 1, 1].
pub(super) fn turn_hue(x: &Tensor, shift: &Tensor, constants: &Tensor) -> Tensor {
    let (r, g, b) = (x.narrow(1, 0, 1), x.narrow(1, 1, 1), x.narrow(1, 2, 1));
    let (value, least) = (x.amax([1i64].as_slice(), true), x.amin([1i64].as_slice(), true));
    let chroma = &value - &least;
    let over = chroma.clamp_min(1e-12).reciprocal_();
    // Grey pixels have no hue; their chroma of 0 makes any hue right.
    let hue = ((&g - &b) * &over).where_self(
        &value.eq_tensor(&r),
        &((&b - &r) * &over + 2.0).where_self(&value.eq_tensor(&g), &((&r - &g) * &over + 4.0)),
    );
    let hue = hue + shift * 6.0;
    // Modulo 6.
    let hue = &hue - (&hue / 6.0).floor_() * 6.0;
    let mut share = (hue - constants.get(0)).abs_();
    share *= constants.get(1);
    share += constants.get(2);
    least.addcmul(&chroma, &share.clamp_(0.0, 1.0))
}

/// Inverts values from `128 / 255` up, as on bytes (BYOL, appendix B).
pub fn solarize(x: &Tensor) -> Tensor {
    let inverted: Tensor = 1.0 - x;
    inverted.where_self(&x.ge(127.5 / 255.0), x)
}

/// Gaussian blur with a standard deviation per image (pixels), mirrored at the borders. The kernel reaches
/// three times the largest deviation that can be drawn.
pub fn gaussian_blur(x: &Tensor, sigma: &[f32], largest: f64) -> Tensor {
    let sigma = Tensor::from_slice(sigma).view([-1, 1]);
    blur(x, &send(sigma, x.device()), largest)
}

// The same with `sigma` as a tensor [N, 1].
pub(super) fn blur(x: &Tensor, sigma: &Tensor, largest: f64) -> Tensor {
    let (n, c, height, width) = x.size4().expect("images are [N, 3, H, W]");
    // Mirroring needs more pixels than it copies.
    let reach = ((3.0 * largest).ceil() as i64).min(height - 1).min(width - 1);
    let options = (Kind::Float, x.device());
    let distance = Tensor::arange_start(-reach, reach + 1, options).unsqueeze(0);
    let kernel = (-(distance / sigma).square() * 0.5).softmax(1, Kind::Float);
    // Every channel of every image is a separate group.
    let groups = n * c;
    let kernel =
        kernel
            .unsqueeze(1)
            .expand([n, c, 2 * reach + 1], false)
            .reshape([groups, 1, 1, 2 * reach + 1]);
    let flat = x
        .reshape([1, groups, height, width])
        .reflection_pad2d([reach, reach, reach, reach]);
    let rows = flat.conv2d(&kernel, None::<Tensor>, 1, 0, 1, groups);
    rows.conv2d(&kernel.transpose(2, 3), None::<Tensor>, 1, 0, 1, groups)
        .view([n, c, height, width])
}
