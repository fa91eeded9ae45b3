//! Our numbers beside torchvision's: `tests/golden/<case>/export.py` says what each case holds.

mod arithmetic;
mod c4;
mod network;

use camtrast_common::testing::unit;
use tch::Tensor;

/// Boxes [count, 4] within width x height, as `tests/golden/_detection.py` makes them.
fn boxes(name: &str, count: i64, width: f64, height: f64, least: f64) -> Tensor {
    let rows = unit(name, &[count, 4]);
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| rows.select(1, i));
    let (w, h) = (
        &c * &c * (width - least) + least,
        &d * &d * (height - least) + least,
    );
    let (x, y) = (a * (width - &w), b * (height - &h));
    Tensor::stack(&[&x, &y, &(&x + w), &(&y + h)], 1)
}

fn integers(t: &Tensor) -> Vec<i64> {
    Vec::try_from(t).unwrap()
}
