//! Small encoded images for the tests of several crates.

use opencv::core::{CV_8UC3, CV_8UC4, CV_16UC1, Mat, MatTrait, Scalar, Vec3b, Vector};
use opencv::imgcodecs;
use opencv::prelude::VectorToVec;

/// A smooth picture that differs by `seed`, encoded by the extension (".jpg", ".png", ...).
pub fn encoded(extension: &str, height: i32, width: i32, seed: u8) -> Vec<u8> {
    let mut image = Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::all(0.0)).unwrap();
    for y in 0..height {
        for x in 0..width {
            let value = [
                (x * 200 / width) as u8,
                (y * 200 / height) as u8,
                seed.wrapping_mul(20),
            ];
            *image.at_2d_mut::<Vec3b>(y, x).unwrap() = value.into();
        }
    }
    let mut bytes = Vector::new();
    imgcodecs::imencode_def(extension, &image, &mut bytes).unwrap();
    bytes.to_vec()
}

/// A 16-bit grey PNG whose every pixel is half bright (128 of 255).
pub fn grey16() -> Vec<u8> {
    png(&Mat::new_rows_cols_with_default(20, 30, CV_16UC1, Scalar::all(f64::from(128 * 257))).unwrap())
}

/// A PNG with alpha whose every pixel is red 200, green 100, blue 50.
pub fn alpha() -> Vec<u8> {
    png(&Mat::new_rows_cols_with_default(20, 30, CV_8UC4, Scalar::new(50.0, 100.0, 200.0, 9.0)).unwrap())
}

fn png(image: &Mat) -> Vec<u8> {
    let mut bytes = Vector::new();
    imgcodecs::imencode_def(".png", image, &mut bytes).unwrap();
    bytes.to_vec()
}
