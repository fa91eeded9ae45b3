//! Packs that are damaged or foreign.

use super::*;

#[test]
fn damaged_pack_is_noticed() {
    let root = tempfile::tempdir().unwrap();
    miniimagenet(root.path());
    let path = prepare(&options("miniimagenet", root.path()), &Silent)
        .unwrap()
        .path;
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(
        Pack::open(&path)
            .unwrap()
            .verify()
            .unwrap_err()
            .to_string()
            .contains("is damaged")
    );
}

#[test]
fn other_files_are_no_packs() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("backbone.safetensors");
    let metadata = [("format".to_owned(), "camtrast-checkpoint".to_owned())].into();
    camtrast_common::tensor_file::save(&path, &Default::default(), &metadata).unwrap();
    let opened = |path: &Path| Pack::open(path).err().unwrap().to_string();
    assert!(opened(&path).contains("is camtrast-checkpoint, not a data pack"));
    assert!(opened(root.path()).contains("is a folder, not a data pack"));
    put(&path, "x");
    assert!(opened(&path).contains("not a whole safetensors file"));
    assert!(opened(&root.path().join("none")).contains("no such file"));
}

#[test]
fn labels_of_a_foreign_pack_are_checked() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("p");
    let description = PackDescription {
        height: 1,
        width: 1,
        class_names: vec!["a".into(), "b".into()],
        ..Default::default()
    };
    for (labels, expected) in [
        ([0, 2, 1], "labels contain 2"),
        ([0, -1, 1], "labels contain -1"),
        ([0, 0, 0], "do not contain 1"),
    ] {
        let mut writer = PackWriter::create(&path, description.clone(), 3).unwrap();
        writer.push(&[0; 9]).unwrap();
        writer.finish(&labels, None).unwrap();
        let message = Pack::open(&path).err().unwrap().to_string();
        assert!(message.contains(expected), "{message}");
    }
}
