//! Images and lists of data sets.

use crate::world::Place;
use std::fs;

/// `bad/`: a miniImageNet folder of 3 classes with 4 images each, to be spoilt. Returns the images' names.
pub(super) fn small_world(place: &Place) -> Vec<String> {
    fs::create_dir_all(place.path("bad/images")).unwrap();
    let list = place.text("world/train.csv");
    let mut rows: Vec<&str> = Vec::new();
    for row in list.lines().skip(1) {
        let label = row.split(',').nth(1);
        let alike = rows.iter().filter(|r| r.split(',').nth(1) == label).count();
        if alike < 4 && (alike > 0 || rows.len() < 12) {
            rows.push(row);
        }
    }
    assert_eq!(rows.len(), 12);
    place.write("bad/train.csv", format!("filename,label\n{}\n", rows.join("\n")));
    let names: Vec<String> = rows
        .iter()
        .map(|row| row.split(',').next().unwrap().to_owned())
        .collect();
    for name in &names {
        fs::copy(
            place.path("world/images").join(name),
            place.path("bad/images").join(name),
        )
        .unwrap();
    }
    names
}

pub(super) const PREPARE: &str = "data prepare miniimagenet --from bad --out bad.pack --size 32";

fn prepare_fails(place: &Place, saying: &[&str]) {
    let done = place.fails(PREPARE, saying);
    assert_eq!(done.stdout, "");
    assert!(!place.path("bad.pack").exists(), "a pack was left behind");
}

#[test]
fn images_that_cannot_be_read() {
    let place = Place::new();
    let names = small_world(&place);
    place.ok(PREPARE);
    fs::remove_file(place.path("bad.pack")).unwrap();

    let image = format!("bad/images/{}", names[5]);
    let whole = place.bytes(&image);
    for (bytes, problem) in [
        (&whole[..whole.len() / 2], "is cut off before its end"),
        (b"<html>404</html>", "is not an image that can be decoded"),
        (b"", "is empty"),
    ] {
        place.write(&image, bytes);
        prepare_fails(&place, &[&names[5], problem, "--skip-bad"]);
    }
    let done = place.ok(&format!("{PREPARE} --skip-bad"));
    assert!(done.stdout.contains("11 images of 3 classes"), "{}", done.stdout);
    assert!(done.stderr.contains(&names[5]), "{}", done.stderr);

    // A failure leaves an older pack alone.
    let before = place.bytes("bad.pack");
    place.fails(PREPARE, &[&names[5]]);
    assert!(place.bytes("bad.pack") == before);
}

#[test]
fn split_lists_that_are_wrong() {
    let place = Place::new();
    let names = small_world(&place);
    let list = place.text("bad/train.csv");
    place.write("bad/train.csv", format!("{list}nowhere.jpg,s00000101\n"));
    prepare_fails(
        &place,
        &["bad/train.csv", "line 14", "nowhere.jpg", "remove the line"],
    );
    place.write("bad/train.csv", format!("{list}../../train.pack,s00000101\n"));
    prepare_fails(&place, &["bad/train.csv", "line 14", "leads out of images/"]);
    place.write("bad/train.csv", format!("{list}{},s00000101\n", names[0]));
    prepare_fails(&place, &["bad/train.csv", "line 14", "listed in line 2 too"]);
    place.write("bad/train.csv", format!("{list}only-a-name.jpg\n"));
    prepare_fails(&place, &["bad/train.csv", "line 14", "malformed"]);
    place.write("bad/train.csv", "filename,label\n");
    prepare_fails(&place, &["bad/train.csv", "lists no images"]);
    place.write("bad/train.csv", "");
    prepare_fails(
        &place,
        &["bad/train.csv", "the first line must be filename,label"],
    );
    fs::remove_dir_all(place.path("bad")).unwrap();
    prepare_fails(&place, &["bad", "does not exist"]);
    place.misused(
        "data prepare imagenet --from world --out x.pack",
        &["imagenet", "miniimagenet"],
    );
    place.fails(
        "data prepare miniimagenet --from world --out x.pack --split rest",
        &["rest", "train, val, test"],
    );
    place.fails(
        "data prepare miniimagenet --from world --out x.pack --size 0",
        &["--size"],
    );
    place.fails("data synth --out world/images", &["world/images", "not empty"]);
}
