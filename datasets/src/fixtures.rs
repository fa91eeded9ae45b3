//! Small data sets for the tests of this crate.

pub use camtrast_images::testing::{alpha, encoded, grey16};
use std::fs;
use std::path::Path;

/// Writes a file and its folders.
pub fn put(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Writes `count` JPEGs named `0.jpg`, `1.jpg`, ... into a folder.
pub fn put_images(folder: impl AsRef<Path>, count: u8) {
    for i in 0..count {
        put(
            folder.as_ref().join(format!("{i}.jpg")),
            encoded(".jpg", 20, 30, i),
        );
    }
}

/// miniImageNet with CSVs and categories: classes a b c (two categories) of 4, 4 and 5 images in `train`.
pub fn miniimagenet(root: &Path) {
    let mut rows = String::from("filename,label\n");
    for (class, count) in [("c", 5), ("a", 4), ("b", 4)] {
        for i in 0..count {
            put(
                root.join(format!("images/{class}{i}.jpg")),
                encoded(".jpg", 20, 30, i),
            );
            rows += &format!("{class}{i}.jpg,{class}\n");
        }
    }
    put(root.join("train.csv"), rows);
    put(
        root.join("categories.csv"),
        "label,category,label_name,category_name\na,x,ant,animal\nb,x,bee,animal\nc,w,car,vehicle\n",
    );
}
