//! Feature pyramid, region proposals, second stage, and one whole detector with torchvision's weights.

use crate::{boxes, integers};
use camtrast_common::device::Precision;
use camtrast_common::nn::weights_channels_last;
use camtrast_common::testing::{
    Case, Worst, fill, fill_variables, numbers, probe, relative_error, sign, strings, unit,
};
use camtrast_detection::model::anchors::Anchors;
use camtrast_detection::model::fpn::Fpn;
use camtrast_detection::model::heads::{self, DetectionLimits, Scores, Truth};
use camtrast_detection::model::nms::suppress;
use camtrast_detection::model::rpn::{NMS, Rpn};
use camtrast_detection::model::{DetectorArch, FasterRcnn, Images, ModelConfig};
use camtrast_detection::torchvision;
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

fn compare_gradients(case: &Case, vs: &VarStore, tolerance: f64, what: &str) {
    let variables = vs.variables();
    let mut worst = Worst::default();
    let truth = case.tensor("gradients");
    for (row, name) in strings(&case.json("names")).iter().enumerate() {
        worst.add(
            name,
            relative_error(&probe(name, &variables[name].grad()), &truth.get(row as i64)),
        );
    }
    worst.check(what, tolerance);
}

#[test]
fn the_pyramid_is_torchvisions() {
    let case = Case::open("fpn");
    let vs = VarStore::new(Device::Cpu);
    let fpn = Fpn::new(&vs.root(), &[6, 12, 24, 48], 8);
    fill_variables(&vs);
    let sizes = [(13, 17), (7, 9), (4, 5), (2, 3)];
    let maps = (0..4).map(|i| fill(&format!("map{i}"), &[2, 6 << i, sizes[i].0, sizes[i].1]));
    let levels = fpn.forward(&maps.collect::<Vec<_>>());
    assert_eq!(levels.len(), 5);
    let mut worst = Worst::default();
    let mut loss = Tensor::zeros([], (Kind::Float, Device::Cpu));
    for (i, level) in levels.iter().enumerate() {
        let name = format!("level{i}");
        worst.add(&name, relative_error(&probe(&name, level), &case.tensor(&name)));
        loss += (level * sign(&format!("cotangent/{name}"), &level.size())).sum(None);
    }
    worst.check("pyramid", 1e-6);
    loss.backward();
    compare_gradients(&case, &vs, 1e-6, "pyramid gradients");
}

#[test]
fn region_proposals_are_torchvisions() {
    let case = Case::open("rpn");
    let vs = VarStore::new(Device::Cpu);
    let anchors = Anchors::one_size_a_level(&[24.0, 48.0], &[0.5, 1.0, 2.0]);
    let rpn = Rpn::new(&(vs.root() / "rpn"), 12, anchors);
    fill_variables(&vs);
    let predictions = rpn.forward(
        &[fill("map0", &[2, 12, 12, 16]), fill("map1", &[2, 12, 6, 8])],
        (96, 128),
    );
    let mut worst = Worst::default();
    for (name, ours) in [
        ("objectness", &predictions.objectness),
        ("offsets", &predictions.offsets),
    ] {
        worst.add(name, relative_error(&probe(name, ours), &case.tensor(name)));
    }
    let candidates = predictions.candidates(&[(96, 120), (80, 128)], 200);
    let kept = suppress(&candidates, NMS, 60).unwrap();
    let kept = candidates.iter().zip(&kept);
    let proposals: Vec<Tensor> = kept
        .map(|(image, kept)| image.boxes.index_select(0, kept))
        .collect();
    let counts: Vec<i64> = proposals.iter().map(|p| p.size()[0]).collect();
    assert_eq!(counts, integers(&case.tensor("counts")));
    worst.add(
        "proposals",
        relative_error(&Tensor::cat(&proposals, 0), &case.tensor("proposals")),
    );

    let truth = [
        boxes("truth", 4, 120.0, 80.0, 16.0),
        camtrast_detection::model::boxes::none(Device::Cpu),
    ];
    let targets = truth.map(|truth| predictions.targets(&truth));
    let labels = Tensor::stack(&targets.iter().map(|t| &t.labels).collect::<Vec<_>>(), 0);
    assert!(labels.equal(&case.tensor("labels")));
    let sampled = ["positive", "negative"].map(|name| integers(&case.tensor(name)));
    let losses = case.tensor("losses");
    let count: usize = sampled.iter().map(Vec::len).sum();
    for (row, beta) in [(0, 1.0 / 9.0), (1, 0.0)] {
        let (objectness, offsets) = predictions.losses(&targets, &sampled, beta);
        let (objectness, offsets) = (objectness / count as f64, offsets / count as f64);
        let ours = Tensor::stack(&[&objectness, &offsets], 0);
        worst.add(
            &format!("losses, beta {beta}"),
            relative_error(&ours, &losses.get(row)),
        );
        if row == 0 {
            (objectness + offsets).backward();
        }
    }
    worst.check("region proposals", 1e-6);
    let mut worst = Worst::default();
    let (variables, truth) = (vs.variables(), case.tensor("gradients"));
    for (row, name) in strings(&case.json("names")).iter().enumerate() {
        let gradient = variables[&format!("rpn.{name}")].grad();
        worst.add(
            name,
            relative_error(&probe(name, &gradient), &truth.get(row as i64)),
        );
    }
    worst.check("region proposal gradients", 1e-5);
}

#[test]
fn the_second_stage_is_torchvisions() {
    let case = Case::open("roi_heads");
    let truth = boxes("truth", 4, 120.0, 90.0, 16.0);
    let proposals = boxes("proposals", 40, 120.0, 90.0, 8.0);
    for i in 0..8 {
        let moved = Tensor::from_slice(&[0.5f32, -0.25, 0.5, -0.25]) * (i + 1) as f64;
        proposals.get(i).copy_(&(truth.get(i % 4) + moved));
    }
    let truth = Truth {
        boxes: truth,
        labels: Tensor::from_slice(&[1i64, 3, 2, 1]),
    };
    let (regions, matches, labels) = heads::assign(&proposals, &truth);
    assert_eq!(integers(&labels), integers(&case.tensor("labels")));
    let offsets = heads::CODER.encode(&truth.boxes.index_select(0, &matches.clamp_min(0)), &regions);
    let mut worst = Worst::default();
    worst.add("targets", relative_error(&offsets, &case.tensor("targets")));
    let scores = Scores {
        logits: fill("logits", &[44, 4]).set_requires_grad(true),
        offsets: fill("offsets", &[44, 16]).set_requires_grad(true),
    };
    let objects = labels.gt(0).nonzero().squeeze_dim(1);
    let (classes, box_loss) = scores.losses(&labels, &offsets, &objects, 1.0 / 9.0);
    worst.add(
        "losses",
        relative_error(&Tensor::stack(&[&classes, &box_loss], 0), &case.tensor("losses")),
    );
    let l1 = scores.losses(&labels, &offsets, &objects, 0.0).1.view([1]);
    worst.add("losses_l1", relative_error(&l1, &case.tensor("losses_l1")));
    (classes + box_loss).backward();
    let gradients = case.tensor("gradients");
    for (row, (name, tensor)) in [("logits", &scores.logits), ("offsets", &scores.offsets)]
        .into_iter()
        .enumerate()
    {
        worst.add(
            name,
            relative_error(&probe(name, &tensor.grad()), &gradients.get(row as i64)),
        );
    }
    let found = scores
        .found(
            &regions,
            (90, 120),
            &DetectionLimits {
                score: 0.2,
                nms: 0.3,
                detections: 20,
            },
        )
        .unwrap();
    worst.add(
        "found boxes",
        relative_error(&found.boxes, &case.tensor("found_boxes")),
    );
    worst.add(
        "found scores",
        relative_error(&found.scores, &case.tensor("found_scores")),
    );
    assert_eq!(integers(&found.labels), integers(&case.tensor("found_labels")));
    worst.check("second stage", 1e-6);
}

#[test]
fn a_whole_detector_with_torchvisions_weights_finds_what_torchvision_finds() {
    tch::set_num_threads(1);
    let case = Case::open("faster_rcnn");
    let shapes: Vec<Vec<i64>> = serde_json::from_value(case.json("shapes")).unwrap();
    let scales: BTreeMap<String, f64> = serde_json::from_value(case.json("scale")).unwrap();
    let weight = |(name, shape): (String, Vec<i64>)| {
        let factor = scales
            .iter()
            .find(|(end, _)| name.ends_with(*end))
            .map_or(1.0, |(_, factor)| *factor);
        let tensor = fill(&name, &shape);
        let tensor = if factor == 1.0 { tensor } else { tensor * factor };
        (name, tensor)
    };
    let theirs = strings(&case.json("names"))
        .into_iter()
        .zip(shapes)
        .map(weight)
        .collect();

    let (config, ours) = torchvision::convert(theirs).unwrap();
    assert_eq!((config.arch, config.classes), (DetectorArch::Fpn, 4));
    let vs = VarStore::new(Device::Cpu);
    let config = ModelConfig {
        backbone: "resnet50".parse().unwrap(),
        ..config
    };
    let detector = FasterRcnn::new(&vs.root(), &config);
    camtrast_common::optim::copy_into(&vs.variables().into_iter().collect(), &ours, "the file").unwrap();
    weights_channels_last(&vs);

    let [mean, std] =
        [[0.485f32, 0.456, 0.406], [0.229, 0.224, 0.225]].map(|v| Tensor::from_slice(&v).view([3, 1, 1]));
    let pixels = ((unit("image", &[3, 96, 128]) - mean) / std).unsqueeze(0);
    let images = Images {
        pixels,
        sizes: vec![(96, 128)],
    };
    let _no_grad = tch::no_grad_guard();
    let maps = detector
        .feature_maps(&[images.pixels.shallow_clone()], camtrast_common::nn::Mode::Eval)
        .remove(0);
    let mut worst = Worst::default();
    let stored = case.tensor("maps");
    for (i, map) in maps.iter().enumerate() {
        let name = format!("map{i}");
        worst.add(&name, relative_error(&probe(&name, map), &stored.get(i as i64)));
    }
    worst.check("feature maps", 1e-4);
    let predictions = detector.predictions(&maps, (96, 128));
    let objectness = probe("objectness", &predictions.objectness);
    let mut worst = Worst::default();
    worst.add(
        "objectness",
        relative_error(&objectness, &case.tensor("objectness")),
    );
    worst.check("objectness", 1e-4);
    let found = detector.detect(&images, Precision::Fp32).unwrap().remove(0);
    assert_eq!(integers(&found.labels), integers(&case.tensor("labels")));
    let largest = |ours: &Tensor, truth: &Tensor| (ours - truth).abs().max().double_value(&[]);
    // torchvision's own float64 result is as far away as the metadata says.
    let own = numbers(&case.json("float64"));
    println!(
        "boxes {:e} px, scores {:e}; torchvision to itself in float64 {own:?}",
        largest(&found.boxes, &case.tensor("boxes")),
        largest(&found.scores, &case.tensor("scores"))
    );
    let mut worst = Worst::default();
    worst.add("boxes", largest(&found.boxes, &case.tensor("boxes")));
    worst.check("detections in pixels", 1e-3);
    let mut worst = Worst::default();
    worst.add("scores", largest(&found.scores, &case.tensor("scores")));
    worst.check("scores", 1e-4);
}
