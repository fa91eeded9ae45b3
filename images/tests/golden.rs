//! Image files of many kinds, and their pixels as PIL gives them: `tests/golden/decode/export.py`.

use camtrast_common::tensor_file::TensorFile;
use camtrast_common::testing::golden_path;
use camtrast_images::decode;
use tch::Tensor;

#[test]
fn pixels_are_those_of_pil() {
    let case = TensorFile::open(&golden_path("decode/case.safetensors")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<String> = case
        .names()
        .iter()
        .filter_map(|n| Some(n.strip_suffix("/file")?.to_owned()))
        .collect();
    assert_eq!(names.len(), 25);
    for name in &names {
        let tensor = |what: &str| case.tensor(&format!("{name}/{what}")).unwrap();
        let bytes = |tensor: &Tensor| Vec::<u8>::try_from(tensor.flatten(0, -1)).unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes(&tensor("file"))).unwrap();
        let (plain, upright) = (tensor("plain"), tensor("upright"));
        let read = decode::read(&path).unwrap();
        assert_eq!(
            [read.height as i64, read.width as i64, 3],
            *plain.size(),
            "{name}"
        );
        assert_eq!(read.pixels, bytes(&plain), "{name}");

        let [height, width] = [0, 1].map(|side| upright.size()[side] as usize);
        let read = decode::read_upright(&path, (width, height)).unwrap();
        assert_eq!(
            ([read.height, read.width], read.pixels),
            ([height, width], bytes(&upright)),
            "{name} upright"
        );
        // Whoever annotated the image as it is stored, means it so.
        if (height, width) != (5, 7) {
            assert_eq!(
                decode::read_upright(&path, (7, 5)).unwrap().pixels,
                bytes(&plain),
                "{name} as stored"
            );
        }
    }
}
