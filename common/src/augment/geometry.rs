//! Crops, flips and resizing of a whole batch as one `grid_sample`.

use crate::device::send;
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
    let columns = Tensor::from_slice(&in_columns(windows)).view([5, -1]);
    sample(x, &send(columns, x.device()))
}

/// Top of all windows, then left, height, width and flip (1 or 0).
pub(super) fn in_columns(windows: &[Window]) -> Vec<f32> {
    let columns: [fn(&Window) -> i64; 5] = [
        |w| w.top,
        |w| w.left,
        |w| w.height,
        |w| w.width,
        |w| w.flip.into(),
    ];
    let column = |value: fn(&Window) -> i64| windows.iter().map(move |w| value(w) as f32);
    columns.into_iter().flat_map(column).collect()
}

// As `sample_windows`, with the windows in columns [5, N].
pub(super) fn sample(x: &Tensor, windows: &Tensor) -> Tensor {
    let (n, _, height, width) = x.size4().expect("images are [N, 3, H, W]");
    let options = (Kind::Float, x.device());
    let column = |i: i64| windows.get(i).unsqueeze(1); // [N, 1]
    // Sampling positions along one axis, [N, size], in grid_sample's coordinates (-1 and 1 are the outer
    // pixel edges).
    let positions = |size: i64, start: Tensor, length: Tensor| {
        let pixel = (Tensor::arange(size, options) + 0.5).unsqueeze(0) * (&length / size as f64) - 0.5;
        // Resizing a crop repeats the crop's border; it does not see beyond it.
        let pixel = pixel.clamp_min(0.0).minimum(&(length - 1.0)) + start;
        (pixel * 2.0 + 1.0) / size as f64 - 1.0
    };
    let rows = positions(height, column(0), column(2));
    let columns = positions(width, column(1), column(3));
    let columns = columns.flip([1]).where_self(&column(4).gt(0.5), &columns);
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
