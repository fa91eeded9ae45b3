//! Canvases and label maps as the bytes of image files.

use super::canvas::Canvas;
use camtrast_common::error::Result;
use camtrast_images::picture::refused;
use opencv::core::{CV_8UC1, CV_8UC3, Mat, MatTraitManual, Scalar, Vector};
use opencv::imgcodecs;

/// A JPEG of a quality of 1..=100.
pub(super) fn jpeg(canvas: &Canvas, quality: u8) -> Result<Vec<u8>> {
    encode(canvas, ".jpg", &[imgcodecs::IMWRITE_JPEG_QUALITY, quality.into()])
}

/// An image file of the kind that its extension, such as `.png`, says.
pub(super) fn encode(canvas: &Canvas, extension: &str, parameters: &[i32]) -> Result<Vec<u8>> {
    let run = || -> opencv::Result<Vec<u8>> {
        let mut image = Mat::new_rows_cols_with_default(
            canvas.height as i32,
            canvas.width as i32,
            CV_8UC3,
            Scalar::all(0.0),
        )?;
        image.data_bytes_mut()?.copy_from_slice(&canvas.bgr_bytes());
        let mut bytes = Vector::new();
        imgcodecs::imencode(extension, &image, &mut bytes, &Vector::from_slice(parameters))?;
        Ok(bytes.into())
    };
    run().map_err(refused)
}

/// A PNG of one byte a pixel.
pub(super) fn encode_grey(pixels: &[u8], height: usize, width: usize) -> Result<Vec<u8>> {
    let run = || -> opencv::Result<Vec<u8>> {
        let mut image =
            Mat::new_rows_cols_with_default(height as i32, width as i32, CV_8UC1, Scalar::all(0.0))?;
        image.data_bytes_mut()?.copy_from_slice(pixels);
        let mut bytes = Vector::new();
        imgcodecs::imencode(".png", &image, &mut bytes, &Vector::new())?;
        Ok(bytes.into())
    };
    run().map_err(refused)
}
