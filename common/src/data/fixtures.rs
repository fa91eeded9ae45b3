//! Small data sets for the tests of this module.

use opencv::core::{CV_8UC3, CV_8UC4, CV_16UC1, Mat, MatTrait, Scalar, Vec3b, Vector};
use opencv::imgcodecs;
use opencv::prelude::VectorToVec;
use std::fs;
use std::path::Path;

/// A smooth picture that differs by `seed`, encoded by the extension (".jpg", ".png", ...).
pub fn encoded(extension: &str, height: i32, width: i32, seed: u8) -> Vec<u8> {
    let mut image = Mat::new_rows_cols_with_default(height, width, CV_8UC3, Scalar::all(0.0)).unwrap();
    for y in 0..height {
        for x in 0..width {
            let value = [(x * 200 / width) as u8, (y * 200 / height) as u8, seed.wrapping_mul(20)];
            *image.at_2d_mut::<Vec3b>(y, x).unwrap() = value.into();
        }
    }
    let mut bytes = Vector::new();
    imgcodecs::imencode_def(extension, &image, &mut bytes).unwrap();
    bytes.to_vec()
}

/// Writes a file and its folders.
pub fn put(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Writes `count` JPEGs named `0.jpg`, `1.jpg`, ... into a folder.
pub fn put_images(folder: impl AsRef<Path>, count: u8) {
    for i in 0..count {
        put(folder.as_ref().join(format!("{i}.jpg")), encoded(".jpg", 20, 30, i));
    }
}

/// miniImageNet with CSVs and categories: classes a b c (two categories) of 4, 4 and 5 images in `train`.
pub fn miniimagenet(root: &Path) {
    let mut rows = String::from("filename,label\n");
    for (class, count) in [("c", 5), ("a", 4), ("b", 4)] {
        for i in 0..count {
            put(root.join(format!("images/{class}{i}.jpg")), encoded(".jpg", 20, 30, i));
            rows += &format!("{class}{i}.jpg,{class}\n");
        }
    }
    put(root.join("train.csv"), rows);
    put(
        root.join("categories.csv"),
        "label,category,label_name,category_name\na,x,ant,animal\nb,x,bee,animal\nc,w,car,vehicle\n",
    );
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
