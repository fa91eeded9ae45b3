//! Crops, flips and resizing of a whole batch as one `grid_sample`.

use tch::{Kind, Tensor};

/// The part of an image that becomes the whole, in pixels; parts outside the image are black.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First row.
    pub top: i64,
    /// First column.
    pub left: i64,
    /// Rows.
    pub height: i64,
    /// Columns.
    pub width: i64,
    /// Whether it is mirrored.
    pub flip: bool,
}

/// Cuts a window out of each image of [N, 3, H, W] and stretches it to H x W: `crop` then `resize` (bilinear,
/// no antialiasing) then `horizontal_flip`, as torchvision computes them.
pub fn sample_windows(x: &Tensor, windows: &[Window]) -> Tensor {
    let (_, _, height, width) = x.size4().expect("images are [N, 3, H, W]");
    let options = (Kind::Float, x.device());
    let list = |value: &dyn Fn(&Window) -> i64| {
        let values: Vec<f32> = windows.iter().map(|w| value(w) as f32).collect();
        Tensor::from_slice(&values).view([-1, 1]).to_device(x.device())
    };
    // Sampling positions along one axis, [N, size], in grid_sample's coordinates (-1 and 1 are the outer
    // pixel edges).
    let positions = |size: i64, start: Tensor, length: Tensor| {
        let pixel = (Tensor::arange(size, options) + 0.5).unsqueeze(0) * (&length / size as f64) - 0.5;
        // Resizing a crop repeats the crop's border; it does not see beyond it.
        let pixel = pixel.clamp_min(0.0).minimum(&(length - 1.0)) + start;
        (pixel * 2.0 + 1.0) / size as f64 - 1.0
    };
    let rows = positions(height, list(&|w| w.top), list(&|w| w.height));
    let columns = positions(width, list(&|w| w.left), list(&|w| w.width));
    let flips = list(&|w| w.flip as i64).gt(0.5);
    let columns = columns.flip([1]).where_self(&flips, &columns);
    let n = windows.len() as i64;
    let grid = Tensor::stack(
        &[
            columns.unsqueeze(1).expand([n, height, width], false),
            rows.unsqueeze(2).expand([n, height, width], false),
        ],
        3,
    );
    const BILINEAR: i64 = 0;
    const ZEROS: i64 = 0;
    x.grid_sampler(&grid, BILINEAR, ZEROS, false)
}
