//! Packed masks against pycocotools.

use camtrast_common::testing::Case;
use camtrast_segmentation::label_image::LabelImage;
use camtrast_segmentation::rle::masks;
use serde_json::json;

#[test]
fn masks_are_packed_as_pycocotools_does() {
    let case = Case::open("coco_rle");
    let expected = case.json("masks");
    for (k, expected) in expected.as_array().unwrap().iter().enumerate() {
        let labels = case.tensor(&format!("{k}.labels"));
        let (height, width) = labels.size2().unwrap();
        let masks = masks(&LabelImage {
            height: height as usize,
            width: width as usize,
            pixels: Vec::<u8>::try_from(labels.reshape([-1])).unwrap(),
        });
        assert_eq!(masks.len(), expected.as_object().unwrap().len(), "image {k}");
        for (id, mask) in masks {
            assert_eq!(
                json!([mask.counts, mask.area]),
                expected[id.to_string()],
                "image {k}, id {id}"
            );
        }
    }
}
