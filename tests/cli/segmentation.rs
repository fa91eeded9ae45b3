//! `camtrast segmentation`: a tiny street in Cityscapes' layout, trained on, evaluated, scored, cut off, and
//! spoilt.

use crate::shell::assert_printed_is_the_runs_own;
use crate::world::{PLAIN, Place, assert_same_records, content, list, poisoned, send};
use png::{BitDepth, ColorType};
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

const HEIGHT: usize = 40;
const WIDTH: usize = 56;
/// A network and crops small enough for a step in a tenth of a second.
const TINY: &str = "--checkpoint backbone/backbone.safetensors --steps 8 --batch-size 3 --crop 32 \
    --head-channels 8 --lr 0.05 \
                    --device cpu --threads 1";

fn write_png(path: &Path, colour: ColorType, depth: BitDepth, width: usize, height: usize, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let file = fs::File::create(path).unwrap();
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    if colour == ColorType::Indexed {
        encoder.set_palette((0..768).map(|i| (i * 7 % 256) as u8).collect::<Vec<u8>>());
    }
    encoder.write_header().unwrap().write_image_data(bytes).unwrap();
}

fn labels(path: &Path, ids: &[u8]) {
    write_png(path, ColorType::Grayscale, BitDepth::Eight, WIDTH, HEIGHT, ids);
}

/// Road below, sky above, a car that stands elsewhere in every image, a void border.
fn scene(image: usize) -> Vec<u8> {
    let id = |i: usize| match (i / WIDTH, i % WIDTH) {
        (0 | 1, _) => 3,
        (y, x) if (18..30).contains(&y) && (image * 9..image * 9 + 16).contains(&x) => 26,
        (y, _) if y < 20 => 23,
        _ => 7,
    };
    (0..WIDTH * HEIGHT).map(id).collect()
}

fn name(image: usize) -> String {
    format!("ulm_{image:06}_000019")
}

/// `street/`: 4 images to train on and 2 to evaluate on. `backbone/`: a random backbone.
fn street(place: &Place) {
    for (split, images) in [("train", 0..4), ("val", 2..4)] {
        for image in images {
            let ids = scene(image);
            let tint = |(i, id): (usize, &u8)| [id * 9, 255 - id * 5, (i % 31) as u8 * 8];
            let pixels: Vec<u8> = ids.iter().enumerate().flat_map(tint).collect();
            let place = |kind: &str, what: &str| {
                place.path(&format!("street/{kind}/{split}/ulm/{}_{what}.png", name(image)))
            };
            let path = place("leftImg8bit", "leftImg8bit");
            write_png(&path, ColorType::Rgb, BitDepth::Eight, WIDTH, HEIGHT, &pixels);
            labels(&place("gtFine", "gtFine_labelIds"), &ids);
            labels(&place("gtFine", "gtFine_instanceIds"), &ids); // not to be taken for labels
        }
    }
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18-w8 --out backbone {PLAIN}"
    ));
}

fn truth(image: usize) -> String {
    format!("street/gtFine/val/ulm/{}_gtFine_labelIds.png", name(image))
}

/// `predictions/`: one label image for each of the two in `val`.
fn predictions(place: &Place, ids: impl Fn(usize) -> Vec<u8>) {
    (2..4).for_each(|image| {
        labels(
            &place.path(&format!("predictions/{}_x.png", name(image))),
            &ids(image),
        )
    });
}

const SCORE: &str =
    "segmentation score --ground-truth street/gtFine/val --predictions predictions --out score.json";

#[test]
fn trains_evaluates_and_scores_the_same() {
    let place = Place::new();
    street(&place);
    let done = place.ok(&format!(
        "segmentation train --cityscapes street {TINY} --out run"
    ));
    assert!(
        done.stdout.contains("road") && done.stdout.ends_with("run/segmenter.safetensors\n"),
        "{}",
        done.stdout
    );
    let metrics = place.json("run/metrics.json");
    for key in [
        "mIoU",
        "IoU/road",
        "IoU/car",
        "category_mIoU",
        "IoU_category/flat",
        "pixel_accuracy",
    ] {
        let value = metrics[&format!("segmentation/{key}")]
            .as_f64()
            .unwrap_or_else(|| panic!("{key}: {metrics}"));
        assert!((0.0..=1.0).contains(&value), "{key} {value}");
    }
    let files = list(&place.path("run"));
    for file in [
        "config.toml",
        "log.jsonl",
        "state.safetensors",
        "confusion.png",
        "confusion.csv",
    ] {
        assert!(files.contains(&file.to_owned()), "{file} is not in {files:?}");
    }
    assert_eq!(list(&place.path("run/pictures")).len(), 2);
    assert_eq!(
        list(&place.path("run/predictions")),
        [2, 3].map(|i| format!("{}_labelIds.png", name(i)))
    );

    let miou = |file: &str| place.json(file)["segmentation/mIoU"].as_f64().unwrap();
    place.ok(&format!(
        "segmentation eval --run run --cityscapes street --out again {PLAIN}"
    ));
    place
        .ok("segmentation score --ground-truth street/gtFine/val --predictions run/predictions --out scored");
    let all = ["run", "again", "scored"].map(|folder| miou(&format!("{folder}/metrics.json")));
    assert!(all.iter().all(|m| *m == all[0]), "{all:?}");
    for image in [2, 3] {
        let file = format!("predictions/{}_labelIds.png", name(image));
        assert!(
            place.bytes(&format!("run/{file}")) == place.bytes(&format!("again/{file}")),
            "{file}"
        );
    }

    // Its own configuration repeats a run.
    place.ok("segmentation train --config run/config.toml --out repeated --device cpu --threads 1");
    assert!(place.bytes("run/segmenter.safetensors") == place.bytes("repeated/segmenter.safetensors"));

    let sliding =
        "--crop-eval --eval-stride 20 --eval-scales 0.75,1.25 --eval-flip --no-predictions --pictures 0";
    let checkpoint = "--checkpoint run/segmenter.safetensors";
    place.ok(&format!(
        "segmentation eval {checkpoint} --cityscapes street --split train --out slid {sliding} {PLAIN}"
    ));
    assert!(!place.path("slid/predictions").exists() && !place.path("slid/pictures").exists());

    place.fails(
        &format!("segmentation eval --checkpoint backbone/backbone.safetensors --cityscapes street {PLAIN}"),
        &[
            "backbone.safetensors",
            "is not a camtrast-segmenter file but camtrast-backbone",
            "segmentation train",
        ],
    );
}

#[test]
fn learns_its_training_images_by_heart() {
    let place = Place::new();
    street(&place);
    let whole = "--steps 100 --lr 0.2 --crop 40x56 --scale 1,1 --dropout 0";
    place.ok(&format!(
        "segmentation train --cityscapes street {TINY} {whole} --val-split train --out run"
    ));
    let miou = place.json("run/metrics.json")["segmentation/mIoU"]
        .as_f64()
        .unwrap();
    assert!(miou > 0.9, "{miou}");
}

#[test]
fn drawn_streets_are_cityscapes() {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18-w8 --out backbone {PLAIN}"
    ));
    place.ok(&format!("segmentation train --cityscapes world {TINY} --out run"));
    let metrics = place.json("run/metrics.json");
    for class in ["road", "sky", "building"] {
        assert!(
            metrics[format!("segmentation/IoU/{class}")].is_number(),
            "{metrics}"
        );
    }
    assert_eq!(list(&place.path("run/predictions")).len(), 2);
    let printed = place.ok("data info world").stdout;
    for part in [
        "train: 4 images of 64 x 32 pixels",
        "val: 2 images",
        "sidewalk",
        "folder world (miniimagenet)",
    ] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn data_info_names_what_is_wrong() {
    let place = Place::new();
    street(&place);
    let sound: serde_json::Value = serde_json::from_str(&place.ok("data info street --json").stdout).unwrap();
    assert_eq!(
        (&sound[0]["split"], &sound[0]["images"], &sound[1]["images"]),
        (&"train".into(), &4.into(), &2.into())
    );
    assert_eq!(sound[0]["classes"]["car"][1], 4, "{sound}");
    assert_eq!(sound[0]["problems"].as_array().unwrap().len(), 0, "{sound}");
    labels(&place.path(&truth(2)), &[99; WIDTH * HEIGHT]);
    fs::remove_file(place.path(&format!(
        "street/gtFine/train/ulm/{}_gtFine_labelIds.png",
        name(1)
    )))
    .unwrap();
    let printed = place.ok("data info street").stdout;
    for part in ["1 without their label", &name(1), &truth(2), "holds the id 99"] {
        assert!(printed.contains(part), "{printed}");
    }
}

#[test]
fn presets_modes_and_precisions_train() {
    let place = Place::new();
    street(&place);
    for flags in [
        "--preset mmseg --batch-size 2",
        "--batch-norm frozen --backbone-lr-scale 0.1 --precision bf16",
        "--output-stride 8 --scale 0.5,0.5 --crop 48x64 --warmup-steps 3",
    ] {
        place.ok(&format!(
            "segmentation train --cityscapes street {TINY} {flags} --out run --overwrite"
        ));
        let loss = place.log("run", "epoch").last().unwrap()["loss"]
            .as_f64()
            .unwrap();
        assert!(loss.is_finite() && loss > 0.0, "{flags}: {loss}");
    }
    // Frozen: statistics, scales and shifts of the backbone are those it came with; the rest moved.
    place.ok(&format!(
        "segmentation train --cityscapes street {TINY} --batch-norm frozen --out frozen"
    ));
    let (trained, pretrained) = (
        content(&place.bytes("frozen/segmenter.safetensors")).1,
        content(&place.bytes("backbone/backbone.safetensors")).1,
    );
    for (name, tensor) in &pretrained {
        let norm = name.contains("bn") || name.contains("downsample.1");
        assert_eq!(trained[&format!("backbone.{name}")] == *tensor, norm, "{name}");
    }
}

#[test]
fn the_stem_is_the_checkpoints() {
    let place = Place::new();
    street(&place);
    let train = |flags: &str| {
        let out = "--preset mmseg --batch-size 2 --out run --overwrite";
        place
            .ok(&format!(
                "segmentation train --cityscapes street {TINY} {out} {flags}"
            ))
            .stderr
    };
    let said = train("");
    assert!(
        said.contains("the stem is the checkpoint's, resnet18-w8;") && said.contains("resnet18-w8-v1c"),
        "{said}"
    );
    let arch = |of: &str| {
        place
            .text("run/config.toml")
            .contains(&format!("backbone_arch = \"{of}\""))
    };
    assert!(arch("resnet18-w8"));

    let pretrain = "pretrain --method scratch --data train.pack --arch resnet18-w8 --stem v1c --out \
        backbone --overwrite";
    place.ok(&format!("{pretrain} {PLAIN}"));
    let said = train("");
    assert!(!said.contains("the stem is") && arch("resnet18-w8-v1c"), "{said}");
    place.ok(&format!(
        "segmentation eval --run run --cityscapes street --out again {PLAIN}"
    ));
    assert_eq!(
        place.json("again/metrics.json")["segmentation/mIoU"],
        place.json("run/metrics.json")["segmentation/mIoU"]
    );
    // Small images are padded after their colours are changed, and the padding is no label.
    train("--crop 64 --photometric on --resize whole --scale 0.6,0.9");
}

#[test]
fn kills_and_ctrl_c_change_nothing() {
    let place = Place::new();
    street(&place);
    let command = |out: &str| {
        format!(
            "segmentation train --cityscapes street {TINY} --preset mmseg --steps 30 --save-every 3 \
             --out {out}"
        )
    };
    place.ok(&command("whole"));
    let state = |out: &str| place.path(&format!("{out}/state.safetensors")).exists();
    let done = place.signalled(&command("stopped"), libc::SIGINT, || state("stopped"));
    place.ends(
        done,
        1,
        &command("stopped"),
        &["interrupted at step", "run the same command again to continue"],
    );
    let done = place.signalled(&command("cut"), libc::SIGKILL, || state("cut"));
    assert_eq!(done.code, None, "the kill met no living process");
    // Somewhere in starting, training or evaluating.
    for pause in [500, 1500] {
        let mut child = place.spawn(&command("cut"));
        sleep(Duration::from_millis(pause));
        send(&child, libc::SIGKILL);
        child.wait().unwrap();
    }
    for run in ["cut", "stopped"] {
        place.ok(&command(run));
        for file in [
            "segmenter.safetensors",
            &format!("predictions/{}_labelIds.png", name(2)),
            "confusion.csv",
        ] {
            assert!(
                place.bytes(&format!("{run}/{file}")) == place.bytes(&format!("whole/{file}")),
                "{run}/{file} differs"
            );
        }
        assert_same_records(&place, run, "whole");
    }
    // A finished run stays as it is, and another recipe is refused.
    let before = place.bytes("cut/metrics.json");
    place.ok(&command("cut"));
    assert!(place.bytes("cut/metrics.json") == before);
    place.write(
        "nan.safetensors",
        poisoned(&place.bytes("whole/segmenter.safetensors")),
    );
    let nan = ["nan.safetensors: tensor", "holds NaN or infinite values"];
    place.fails(
        "segmentation eval --checkpoint nan.safetensors --cityscapes street --device cpu",
        &nan,
    );
    place.fails(
        &format!("{} --lr 0.1", command("cut")),
        &["lr = 0.05", "lr = 0.1", "--overwrite"],
    );
}

#[test]
fn folders_of_images_and_labels() {
    let place = Place::new();
    street(&place);
    for image in 0..4 {
        let from = place.path(&format!(
            "street/leftImg8bit/train/ulm/{}_leftImg8bit.png",
            name(image)
        ));
        fs::create_dir_all(place.path("plain/images/a")).unwrap();
        fs::copy(from, place.path(&format!("plain/images/a/{image}.png"))).unwrap();
        let ids: Vec<u8> = scene(image)
            .iter()
            .map(|id| [255, 0, 1, 2][[3, 7, 23, 26].iter().position(|i| i == id).unwrap()])
            .collect();
        // With a palette, whose colours must not matter.
        let path = place.path(&format!("plain/labels/a/{image}.png"));
        write_png(&path, ColorType::Indexed, BitDepth::Eight, WIDTH, HEIGHT, &ids);
    }
    place.write("names.txt", "ground\nsky\nvehicle\n");
    let data = "--images plain/images --labels plain/labels --class-names names.txt";
    place.ok(&format!("segmentation train {data} {TINY} --out run"));
    let metrics = place.json("run/metrics.json");
    assert!(metrics["segmentation/IoU/vehicle"].is_number(), "{metrics}");
    assert!(metrics["segmentation/category_mIoU"].is_null(), "{metrics}");
    let score = "segmentation score --ground-truth plain/labels --predictions run/predictions --class-names \
        names.txt";
    place.ok(&format!("{score} --out scored.json"));
    assert_eq!(
        place.json("scored.json")["segmentation/mIoU"],
        metrics["segmentation/mIoU"]
    );
    place.ok(&format!(
        "segmentation eval --run run --images plain/images --labels plain/labels {PLAIN}"
    ));
    place.fails(
        &format!("segmentation eval --run run --cityscapes street {PLAIN}"),
        &["run/segmenter.safetensors", "3 classes", "--images"],
    );
    place.fails(
        &format!("{score} --ignore 9"),
        &["plain/labels/a/0.png", "holds the id 255", "0..2 and 9"],
    );
    place.misused(
        &format!("segmentation train {TINY} --out none"),
        &["no data set", "--cityscapes"],
    );
    place.misused(
        &format!("segmentation train {data} --cityscapes street {TINY} --out none"),
        &["--cityscapes"],
    );
}

#[test]
fn training_data_that_cannot_be_used() {
    let place = Place::new();
    street(&place);
    let command = format!("segmentation train --cityscapes street {TINY} --out run");
    let refused = |saying: &[&str]| {
        place.fails(&command, saying);
        let _ = fs::remove_dir_all(place.path("run"));
    };
    let label = format!("street/gtFine/train/ulm/{}_gtFine_labelIds.png", name(1));
    let image = format!("street/leftImg8bit/train/ulm/{}_leftImg8bit.png", name(1));
    let (whole_label, whole_image) = (place.bytes(&label), place.bytes(&image));

    let rgb = vec![7; WIDTH * HEIGHT * 3];
    write_png(
        &place.path(&label),
        ColorType::Rgb,
        BitDepth::Eight,
        WIDTH,
        HEIGHT,
        &rgb,
    );
    refused(&[&label, "is a colour image, not class ids"]);
    write_png(
        &place.path(&label),
        ColorType::Grayscale,
        BitDepth::Sixteen,
        WIDTH,
        HEIGHT,
        &rgb[..WIDTH * HEIGHT * 2],
    );
    refused(&[&label, "16 bits per pixel"]);
    write_png(
        &place.path(&label),
        ColorType::Grayscale,
        BitDepth::Eight,
        HEIGHT,
        WIDTH,
        &rgb[..WIDTH * HEIGHT],
    );
    refused(&[&label, "40 x 56 pixels", &image, "56 x 40"]);
    labels(&place.path(&label), &[200; WIDTH * HEIGHT]);
    refused(&[&label, "holds the id 200", "0..33"]);
    place.write(&label, &whole_label[..whole_label.len() / 2]);
    refused(&[&label, "is not a complete PNG"]);
    fs::remove_file(place.path(&label)).unwrap();
    refused(&["street/leftImg8bit/train", "1 without their label", &name(1)]);
    place.write(&label, &whole_label);

    write_png(
        &place.path(&image),
        ColorType::Rgb,
        BitDepth::Sixteen,
        WIDTH,
        HEIGHT,
        &vec![7; WIDTH * HEIGHT * 6],
    );
    refused(&[&image, "16 bits per channel", "convert it to 8 bits"]);
    place.write(&image, &whole_image[..whole_image.len() / 2]);
    refused(&[&image, "is cut off before its end"]);
    fs::remove_file(place.path(&image)).unwrap();
    refused(&["street/gtFine/train", "1 without their image", &name(1)]);
    place.write(&image, &whole_image);

    place.fails(
        &format!("{command} --train-split extra"),
        &["street/leftImg8bit/extra", "no such folder"],
    );
    place.fails(
        &format!("{command} --batch-size 1"),
        &["--batch-size 1", "2 or more"],
    );
    place.fails(
        &format!("{command} --output-stride 32"),
        &["--output-stride 32", "16 nor 8"],
    );
    assert!(!place.path("run").exists(), "a refused command left a run");
    place.ok(&command);
}

#[test]
fn predictions_that_do_not_fit() {
    let place = Place::new();
    street(&place);
    predictions(&place, scene);
    let done = place.ok(SCORE);
    assert!(
        done.stderr
            .contains("absent from the ground truth and left out of the mean: sidewalk"),
        "{}",
        done.stderr
    );
    assert_eq!(place.json("score.json")["segmentation/mIoU"], 1.0);
    assert!(place.json("score.json")["segmentation/IoU/bus"].is_null());
    fs::remove_file(place.path("score.json")).unwrap();

    let file = format!("predictions/{}_x.png", name(3));
    let whole = place.bytes(&file);
    fs::remove_file(place.path(&file)).unwrap();
    place.fails(
        SCORE,
        &["predictions", "has no predictions for 1 of 2 images", &name(3)],
    );
    write_png(
        &place.path(&file),
        ColorType::Grayscale,
        BitDepth::Eight,
        HEIGHT,
        WIDTH,
        &vec![7; WIDTH * HEIGHT],
    );
    place.fails(SCORE, &[&file, "40 x 56", "56 x 40"]);
    write_png(
        &place.path(&file),
        ColorType::Rgba,
        BitDepth::Eight,
        WIDTH,
        HEIGHT,
        &vec![7; WIDTH * HEIGHT * 4],
    );
    place.fails(SCORE, &[&file, "colour image"]);
    place.write(&file, &whole[..40]);
    place.fails(SCORE, &[&file, "is not a complete PNG"]);
    assert!(!place.path("score.json").exists());
    place.write(&file, &whole);

    // More than needed is reported and left out; of two for one image the one named as label ids counts.
    place.write("predictions/ulm_000009_000019_x.png", &whole);
    let done = place.ok(SCORE);
    assert!(
        done.stderr.contains("1 predictions have no ground truth") && done.stderr.contains("ulm_000009"),
        "{}",
        done.stderr
    );
    place.write(&format!("predictions/{}_y.png", name(3)), &whole);
    place.fails(SCORE, &[&name(3), "one of 2 files"]);
    place.write(&format!("predictions/{}_labelIds.png", name(3)), &whole);
    place.ok(SCORE);
    place.fails(
        &SCORE.replace("gtFine/val", "gtFine/test"),
        &["street/gtFine/test", "no such folder"],
    );
    place.fails(
        &SCORE.replace("gtFine/val", "leftImg8bit/val"),
        &["holds no *_gtFine_labelIds.png"],
    );

    // Ids that are none are wrong, not a reason to stop; in the truth they are.
    fs::remove_dir_all(place.path("predictions")).unwrap();
    predictions(&place, |image| {
        scene(image)
            .iter()
            .map(|id| if *id == 26 { 77 } else { *id })
            .collect()
    });
    let done = place.ok(SCORE);
    assert!(
        done.stderr.contains("2 of 2 predictions contain ids") && done.stderr.contains("id 77"),
        "{}",
        done.stderr
    );
    assert_eq!(place.json("score.json")["segmentation/IoU/car"], 0.0);
    labels(&place.path(&truth(2)), &[99; WIDTH * HEIGHT]);
    place.fails(SCORE, &[&truth(2), "holds the id 99"]);
}

#[test]
fn void_alone_trains_to_zero_loss_and_scores_nothing() {
    let place = Place::new();
    street(&place);
    for folder in ["street/gtFine/train/ulm", "street/gtFine/val/ulm"] {
        for file in list(&place.path(folder))
            .iter()
            .filter(|f| f.ends_with("labelIds.png"))
        {
            labels(&place.path(folder).join(file), &[0; WIDTH * HEIGHT]);
        }
    }
    let done = place.ok(&format!(
        "segmentation train --cityscapes street {TINY} --auxiliary-weight 0.4 --out run"
    ));
    assert!(place.log("run", "step").iter().all(|line| line["loss"] == 0.0));
    assert!(done.stderr.contains("there is no mIoU"), "{}", done.stderr);
    assert!(place.json("run/metrics.json")["segmentation/mIoU"].is_null());
}

#[test]
fn a_printed_configuration_is_its_runs_own() {
    let place = Place::new();
    street(&place);
    let flags = format!("--cityscapes street {TINY} --preset mmseg --steps 2 --scale 0.5,1 --seed 3");
    assert_printed_is_the_runs_own(&place, "segmentation train", &flags, PLAIN, "run");
    let printed: toml::Table = place.text("run.toml").parse().unwrap();
    assert!(printed.contains_key("weight-decay"), "a default of the preset");
}
