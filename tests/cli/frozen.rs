//! `--tune`: which part of a backbone moves, in the files themselves; the linear head; probes in a suite.

use crate::world::{PLAIN, Place, content, list};
use std::collections::BTreeMap;
use std::fs;

const DETECTION: &str = "detection train --checkpoint scratch/backbone.safetensors --voc world/VOCdevkit \
    --train 2007:trainval --classes clock,tree,mushroom,chair --preset moco --batch-size 2 --lr 0.05 \
    --warmup-steps 0 --train-sides 48 --anchor-sizes 8,16,32,48,64 --regions-per-image 16 \
    --train-proposals 100,30 --precise-bn 0 --device cpu --threads 1";

fn place() -> Place {
    let place = Place::new();
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18-w8 --out scratch {PLAIN}"
    ));
    place
}

type Tensors = BTreeMap<String, (String, Vec<u8>)>;

/// Tensors of the network's backbone, and names of its other ones.
fn parts(place: &Place, file: &str) -> (Tensors, Vec<String>) {
    let (backbone, head): (Tensors, Tensors) = content(&place.bytes(file))
        .1
        .into_iter()
        .partition(|(name, _)| name.starts_with("backbone."));
    let backbone = backbone.into_iter();
    let named = backbone.map(|(name, value)| (name["backbone.".len()..].to_owned(), value));
    (named.collect(), head.into_keys().collect())
}

/// Names of tensors that differ from the checkpoint's; counters of batches do not count.
fn moved(place: &Place, file: &str) -> Vec<String> {
    let checkpoint = content(&place.bytes("scratch/backbone.safetensors")).1;
    let (backbone, _) = parts(place, file);
    assert_eq!(backbone.len(), checkpoint.len());
    let differs = |(name, value): (String, (String, Vec<u8>))| {
        (checkpoint[&name] != value && !name.ends_with("num_batches_tracked")).then_some(name)
    };
    backbone.into_iter().filter_map(differs).collect()
}

#[test]
fn detection_moves_the_part_that_is_tuned_and_nothing_else() {
    let place = place();
    let line = |tune: &str, flags: &str| format!("{DETECTION} --arch c4 --tune {tune} {flags}");
    for tune in ["all", "norm", "last-stage", "frozen"] {
        place.ok(&line(tune, &format!("--steps 2 --out {tune}")));
    }
    let moved = |tune: &str| moved(&place, &format!("{tune}/detector.safetensors"));
    assert_eq!(moved("frozen"), [""; 0]);
    let is_norm = |name: &String| name.contains("bn") || name.contains("downsample.1");
    let norm = moved("norm");
    assert!(norm.len() > 20 && norm.iter().all(is_norm), "{norm:?}");
    assert!(norm.contains(&"layer1.0.bn1.weight".to_owned()), "{norm:?}");
    let last = moved("last-stage");
    assert!(last.iter().all(|name| name.starts_with("layer4.")), "{last:?}");
    assert!(last.contains(&"layer4.1.conv2.weight".to_owned()), "{last:?}");
    let all = moved("all");
    assert!(all.iter().any(|name| name == "conv1.weight") && all.len() > norm.len() + last.len() / 2);
    assert!(place.text("frozen/config.toml").contains("tune = \"frozen\"\n"));

    // A state in which the backbone is not the checkpoint's is found at the end.
    let other = line("frozen", "--steps 2 --out moved");
    place.ok(&format!(
        "pretrain --method scratch --data train.pack --arch resnet18-w8 --seed 1 --out other {PLAIN}"
    ));
    place.ok(&other.replace("scratch/", "other/"));
    fs::remove_file(place.path("moved/metrics.json")).unwrap();
    let config = place.text("frozen/config.toml");
    place.write("moved/config.toml", config.replace("steps = 2", "steps = 3"));
    let saying = [
        "the part of the backbone that --tune holds has changed",
        "--overwrite",
    ];
    place.fails(&line("frozen", "--steps 3 --out moved"), &saying);
    assert!(!list(&place.path("moved")).contains(&"metrics.json".to_owned()));
}

#[test]
fn the_dense_linear_probe_is_batch_norm_and_a_convolution() {
    let place = place();
    let line = format!(
        "segmentation train --checkpoint scratch/backbone.safetensors --cityscapes world --steps 6 \
         --batch-size 2 --crop 32 --lr 0.1 --head linear --tune frozen {PLAIN}"
    );
    place.ok(&format!("{line} --out run"));
    assert_eq!(moved(&place, "run/segmenter.safetensors"), [""; 0]);
    let (_, head) = parts(&place, "run/segmenter.safetensors");
    let tensors = content(&place.bytes("run/segmenter.safetensors")).1;
    let shapes: Vec<(&str, &str)> = head
        .iter()
        .map(|name| (&name[..], &tensors[name].0[..]))
        .collect();
    let weights: Vec<&(&str, &str)> = shapes
        .iter()
        .filter(|(_, shape)| shape.contains(", 1, 1]"))
        .collect();
    assert_eq!(weights.len(), 1, "{shapes:?}");
    assert!(weights[0].1.contains("[19, 64, 1, 1]"), "{weights:?}");
    // Of batch norm: scale, shift, mean, variance and the counter; of the convolution: weight and bias.
    assert_eq!(shapes.len(), 7, "{shapes:?}");
    assert!(place.text("run/config.toml").contains("head = \"linear\"\n"));
    let miou = |file: &str| place.json(file)["segmentation/mIoU"].as_f64().unwrap();
    place.ok(&format!(
        "segmentation eval --run run --cityscapes world --out again {PLAIN}"
    ));
    assert_eq!(miou("again/metrics.json"), miou("run/metrics.json"));
    // It learns: more steps, smaller loss.
    let losses: Vec<f64> = {
        place.ok(&format!("{line} --steps 40 --log-every 5 --out long"));
        place
            .log("long", "step")
            .iter()
            .map(|line| line["loss"].as_f64().unwrap())
            .collect()
    };
    assert!(losses.last().unwrap() < &(0.7 * losses[0]), "{losses:?}");
}

#[test]
fn a_suite_probes_every_backbone() {
    let place = Place::new();
    place.ok(
        "data synth --out other --size 32 --images-per-class 4 --evaluation-images-per-class 4 --scenes 1 \
         --test-scenes 1 --scene-size 64 --streets 1 --val-streets 1 --street-size 32 --seed 9",
    );
    place.ok("data prepare miniimagenet --from other --out other.pack --size 32 --split train");
    let recipe = "title = \"Probed\"\nruns = [\n{ name = \"supervised\", method = \"supervised\" },\n\
        { name = \"scratch\", method = \"scratch\" },\n]\n[data]\ntrain = \"train.pack\"\n\
        [pretrain]\narch = \"resnet18-w8-small\"\nbatch-size = 16\nepochs = 1\nthreads = 1\n\
        [probe]\ntrain = \"train.pack\"\ntest = \"other.pack\"\nc = [0.1, 1]\nk = [1, 5]\n";
    place.write("recipe.toml", recipe);
    let run = |flags: &str| format!("suite run recipe.toml --out suite --device cpu {flags}");
    place.ok(&run(""));
    let csv = place.text("suite/report.csv");
    for run in ["supervised", "scratch"] {
        for metric in ["probe/linear/top1", "probe/knn/top1"] {
            let line = csv
                .lines()
                .find(|line| line.starts_with(run) && line.contains(metric));
            let value: f64 = line
                .unwrap_or_else(|| panic!("{csv}"))
                .split(',')
                .nth(5)
                .unwrap()
                .parse()
                .unwrap();
            assert!((0.0..=1.0).contains(&value), "{csv}");
        }
    }
    // The same numbers as by hand.
    place.ok(&format!(
        "probe eval --checkpoint suite/runs/supervised-s0/backbone.safetensors --train train.pack \
         --test other.pack --c 0.1,1 --k 1,5 --out hand {PLAIN}"
    ));
    let top1 = |file: &str| place.json(file)["probe/linear/top1"].clone();
    assert_eq!(
        top1("hand/metrics.json"),
        top1("suite/runs/supervised-s0/probe/metrics.json")
    );
    let page = place.text("suite/report.html");
    assert!(page.contains("linear") && page.contains("kNN"));

    // Another setting of the probe does not train again; an unknown one is refused.
    place.write("recipe.toml", recipe.replace("k = [1, 5]", "k = [1, 3]"));
    let plan = place.ok(&run("--dry-run")).stdout;
    let states = |state: &str| plan.lines().filter(|line| line.starts_with(state)).count();
    assert_eq!((states("done"), states("outdated")), (2, 2), "{plan}");
    place.write("recipe.toml", recipe.replace("k = [1, 5]", "neighbours = 5"));
    place.misused(&run(""), &["neighbours", "probe"]);
    fs::remove_file(place.path("other.pack")).unwrap();
    place.write("recipe.toml", recipe);
    place.fails(&run(""), &["other.pack"]);
}
