//! Small data sets for the tests of this crate.

use camtrast_images::picture::Canvas;
use camtrast_images::resample::Image;
use camtrast_images::thumbnail::jpeg;
use std::fs;
use std::path::Path;

/// Writes a file and its folders.
pub fn put(path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.as_ref().parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Writes a white image; its name need not tell its format.
pub fn put_image(path: impl AsRef<Path>, width: i32, height: i32) {
    Canvas::new(width as usize, height as usize)
        .unwrap()
        .write(path.as_ref())
        .unwrap();
}

/// Writes a white JPEG whose orientation tag turns it by a quarter.
pub fn put_turned_image(path: impl AsRef<Path>, width: usize, height: usize) {
    let jpeg = jpeg(
        &Image {
            width,
            height,
            pixels: vec![255; width * height * 3],
        },
        90,
    )
    .unwrap();
    // EXIF: big-endian, one entry, tag 0x0112 (orientation), a short: 6.
    let exif = b"\xff\xe1\0\x22Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    fs::write(path, [&jpeg[..2], exif, &jpeg[2..]].concat()).unwrap();
}

/// An annotation of an image of 60 x 40 pixels; `objects` is the text between its size and its end.
pub fn annotation(objects: &str) -> String {
    format!(
        "<annotation>\n\t<filename>a.jpg</filename>\n\t\
         <size><width>60</width><height>40</height><depth>3</depth></size>\n\
         {objects}</annotation>\n"
    )
}

/// An object of a VOC annotation.
pub fn object(class: &str, difficult: &str, bbox: [&str; 4]) -> String {
    let [xmin, ymin, xmax, ymax] = bbox;
    format!(
        "<object><name>{class}</name><pose>Left</pose>\
         <difficult>{difficult}</difficult><bndbox><xmax>{xmax}</xmax>\
         <xmin>{xmin}</xmin><ymin>{ymin}</ymin><ymax>{ymax}</ymax></bndbox></object>\n"
    )
}

/// `VOC2007` with a list `test` of the images a (a dog), b (a difficult cat) and c (nothing), 60 x 40 pixels
/// each.
pub fn voc(root: &Path) {
    let folder = root.join("VOC2007");
    put(folder.join("ImageSets/Main/test.txt"), "a\nb\nc\n");
    let dog = object("dog", "0", ["1", "2", "30", "40"]);
    for (id, objects) in [
        ("a", dog),
        ("b", object("cat", "1", ["5", "5", "14", "24"])),
        ("c", String::new()),
    ] {
        put(folder.join(format!("Annotations/{id}.xml")), annotation(&objects));
        put_image(folder.join(format!("JPEGImages/{id}.jpg")), 60, 40);
    }
}
