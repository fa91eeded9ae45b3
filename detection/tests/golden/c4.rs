//! The C4 detector under MoCo's settings, beside detectron2's: one training step and detections.

use crate::{boxes, integers};
use camtrast_common::device::Precision;
use camtrast_common::engine::StepContext;
use camtrast_common::nn::{Modes, weights_channels_last};
use camtrast_common::settings::{Switch, set};
use camtrast_common::testing::{Case, Worst, fill, numbers, probe, relative_error, strings, uniform};
use camtrast_detection::model::anchors::Anchors;
use camtrast_detection::model::heads::Truth;
use camtrast_detection::model::{DetectorArch, FasterRcnn, Images, ModelConfig};
use camtrast_detection::transform::Padded;
use camtrast_detection::{DetectionOptions, Preset};
use camtrast_images::resample::Image;
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Device, Tensor};

const CLASSES: i64 = 4;
const AT: StepContext = StepContext {
    seed: 0,
    epoch: 0,
    step: 0,
    batch: 0,
    total_steps: 1,
};

// The network of the case, by what --preset moco says and what the case makes small.
fn detector(case: &Case, change: DetectionOptions) -> (VarStore, FasterRcnn, DetectionOptions) {
    let options = change.resolve(Preset::Moco, DetectorArch::C4).unwrap();
    let config = case.json("config");
    let number = |key: &str| config[key].as_u64().unwrap() as usize;
    let model = ModelConfig {
        train_proposals: [
            number("MODEL.RPN.PRE_NMS_TOPK_TRAIN"),
            number("MODEL.RPN.POST_NMS_TOPK_TRAIN"),
        ],
        test_proposals: [
            number("MODEL.RPN.PRE_NMS_TOPK_TEST"),
            number("MODEL.RPN.POST_NMS_TOPK_TEST"),
        ],
        anchors_per_image: number("MODEL.RPN.BATCH_SIZE_PER_IMAGE"),
        regions_per_image: number("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"),
        detections_per_image: number("TEST.DETECTIONS_PER_IMAGE"),
        ..options
            .model(DetectorArch::C4, "resnet50-w8".parse().unwrap(), CLASSES)
            .unwrap()
    };
    let vs = VarStore::new(Device::Cpu);
    let net = FasterRcnn::new(&vs.root(), &model);
    let shapes: Vec<Vec<i64>> = serde_json::from_value(case.json("shapes")).unwrap();
    let scales: BTreeMap<String, f64> = serde_json::from_value(case.json("scale")).unwrap();
    let variables = vs.variables();
    assert_eq!(variables.len(), shapes.len());
    for (name, shape) in strings(&case.json("names")).iter().zip(shapes) {
        let factor = scales
            .iter()
            .find(|(end, _)| name.ends_with(*end))
            .map_or(1.0, |(_, factor)| *factor);
        assert_eq!(variables[name].size(), shape, "{name}");
        tch::no_grad(|| {
            variables[name]
                .shallow_clone()
                .copy_(&(fill(name, &shape) * factor))
        });
    }
    weights_channels_last(&vs);
    (vs, net, options)
}

fn image(number: usize, (height, width): (usize, usize)) -> Image {
    let pixels = uniform(&format!("image{number}"), height * width * 3)
        .map(|u| (u * 256.0) as u8)
        .collect();
    Image {
        height,
        width,
        pixels,
    }
}

fn input(images: &[Image], options: &DetectionOptions) -> Images {
    use camtrast_common::augment::{IMAGENET_MEAN, IMAGENET_STD, Input};
    let input = Input::new(&IMAGENET_MEAN, &IMAGENET_STD, Device::Cpu);
    Padded::new(images, set(&options.pad_to)).input(&input)
}

fn truth(number: usize, (height, width): (usize, usize)) -> Truth {
    let boxes = boxes(&format!("truth{number}"), 3, width as f64, height as f64, 16.0);
    Truth {
        boxes,
        labels: Tensor::from_slice(&[number as i64 + 1, 2, 3]),
    }
}

fn losses(net: &FasterRcnn, groups: &[Images], truth: &[Truth]) -> Tensor {
    let losses = net
        .losses(groups, truth, &AT, Precision::Fp32, Modes::TRAIN)
        .unwrap();
    Tensor::stack(
        &[
            losses.objectness,
            losses.proposal_boxes,
            losses.classes,
            losses.boxes,
        ],
        0,
    )
}

#[test]
fn a_c4_detector_trains_and_detects_as_detectron2s() {
    tch::set_num_threads(1);
    let case = Case::open("c4");
    let (vs, net, options) = detector(&case, DetectionOptions::default());
    let sizes: Vec<(usize, usize)> = serde_json::from_value(case.json("sizes")).unwrap();
    let anchors = Anchors {
        rounded: false,
        ..Anchors::at_one_level(&set(&options.anchor_sizes).0, &set(&options.anchor_ratios).0)
    };
    let first = Anchors::generate(&anchors.cells(Device::Cpu), (16, 16), &[(1, 1)]).remove(0);
    assert!(relative_error(&first, &case.tensor("anchors")) < 1e-7);

    // How far detectron2's own numbers move when its weights change by a rounding error: ours may be four
    // times as far away.
    let moved: [f64; 4] = numbers(&case.json("moved")).try_into().unwrap();
    let [losses_moved, gradients_moved, boxes_moved, scores_moved] = moved.map(|moved| 4.0 * moved);
    let images: Vec<Image> = sizes
        .iter()
        .enumerate()
        .map(|(i, &size)| image(i, size))
        .collect();
    let found = tch::no_grad(|| net.detect(&input(&images[..1], &options), Precision::Fp32))
        .unwrap()
        .remove(0);
    assert_eq!(integers(&found.labels), integers(&case.tensor("labels")));
    let largest = |ours: &Tensor, truth: &Tensor| (ours - truth).abs().max().double_value(&[]);
    for (what, ours, moved) in [
        ("boxes", &found.boxes, boxes_moved),
        ("scores", &found.scores, scores_moved),
    ] {
        let mut worst = Worst::default();
        worst.add(what, largest(ours, &case.tensor(what)));
        worst.check(what, moved);
    }

    let groups = [input(&images, &options)];
    assert_eq!(groups[0].pixels.size(), [2, 3, 104, 150]);
    let truth: Vec<Truth> = sizes
        .iter()
        .enumerate()
        .map(|(i, &size)| truth(i, size))
        .collect();
    let ours = losses(&net, &groups, &truth);
    let theirs = case.tensor("losses");
    let mut worst = Worst::default();
    for (row, name) in ["objectness", "proposal boxes", "classes", "boxes"]
        .iter()
        .enumerate()
    {
        worst.add(
            name,
            relative_error(&ours.get(row as i64), &theirs.get(row as i64)),
        );
    }
    worst.check("losses of one step", losses_moved);
    ours.sum(None).backward();
    let (variables, gradients) = (vs.variables(), case.tensor("gradients"));
    let mut worst = Worst::default();
    let mut errors = Vec::new();
    for (row, name) in strings(&case.json("trained")).iter().enumerate() {
        errors.push(relative_error(
            &probe(name, &variables[name].grad()),
            &gradients.get(row as i64),
        ));
        worst.add(name, errors[row]);
    }
    worst.check("gradients of one step", gradients_moved);
    errors.sort_by(f64::total_cmp);
    assert!(errors[errors.len() / 2] < 1e-3, "{}", errors[errors.len() / 2]);

    // None of the settings that detectron2 and torchvision differ in could be another one unnoticed.
    for (what, change) in [
        (
            "anchors",
            DetectionOptions {
                round_anchors: Some(Switch::On),
                ..DetectionOptions::default()
            },
        ),
        (
            "normaliser",
            DetectionOptions {
                fixed_rpn_normalizer: Some(Switch::Off),
                ..DetectionOptions::default()
            },
        ),
        (
            "padding",
            DetectionOptions {
                pad_to: Some(32),
                ..DetectionOptions::default()
            },
        ),
        (
            "smooth L1",
            DetectionOptions {
                smooth_l1_beta: Some(1.0 / 9.0),
                ..DetectionOptions::default()
            },
        ),
    ] {
        let (_vs, net, options) = detector(&case, change);
        let other = tch::no_grad(|| losses(&net, &[input(&images, &options)], &truth));
        let error = ((other - &theirs) / &theirs).abs().max().double_value(&[]);
        println!("{what}: losses move by {error:.1e}");
        assert!(error > 1e-3, "{what}: {error:e}");
    }
}

// As on two devices with synchronised batch norm and averaged gradients.
#[test]
fn groups_of_images_are_one_batch_to_the_network() {
    tch::set_num_threads(1);
    let case = Case::open("c4");
    let (vs, net, options) = detector(&case, DetectionOptions::default());
    let before: BTreeMap<String, Tensor> = vs
        .variables()
        .into_iter()
        .map(|(n, t)| (n, t.detach().copy()))
        .collect();
    let step = |groups: &[Images], truth: &[Truth]| {
        camtrast_common::optim::copy_into(&vs.variables().into_iter().collect(), &before, "the start")
            .unwrap();
        vs.variables().into_values().for_each(|mut v| v.zero_grad());
        let losses = losses(&net, groups, truth);
        losses.sum(None).backward();
        let variables = vs.variables();
        let gradient = variables["backbone.layer2.0.conv2.weight"].grad().copy();
        let statistics = variables["backbone.layer3.5.bn3.running_var"].copy();
        [losses.detach(), gradient, statistics]
    };
    // Of one size, so that one padded tensor holds the same pixels.
    let size = (104, 150);
    let images = [0, 1, 2, 3].map(|i| image(i, size));
    let truth = [0, 1, 0, 1].map(|i| truth(i, size));
    let whole = step(&[input(&images, &options)], &truth);
    let pairs = step(
        &[input(&images[..2], &options), input(&images[2..], &options)],
        &truth,
    );
    let mut worst = Worst::default();
    for (what, (a, b)) in ["losses", "gradient", "running variance"]
        .iter()
        .zip(pairs.iter().zip(&whole))
    {
        worst.add(what, relative_error(a, b));
    }
    worst.check("pairs of images", 1e-4);

    // Of two sizes, where padding one group leaves the other as it is: the order of groups changes nothing.
    let other = (80, 200);
    let wide = [0, 1].map(|i| image(i, other));
    let (a, b) = (|| input(&images[..2], &options), || input(&wide, &options));
    let of_two = |first, second| {
        [truth_of(first), truth_of(second)]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
    };
    let forth = step(&[a(), b()], &of_two(size, other));
    let back = step(&[b(), a()], &of_two(other, size));
    let mut worst = Worst::default();
    for (what, (a, b)) in ["losses", "gradient", "running variance"]
        .iter()
        .zip(forth.iter().zip(&back))
    {
        worst.add(what, relative_error(a, b));
    }
    // As `a_c4_detector_...`: of the gradient, a few inputs of ReLUs that change their sign.
    worst.check("groups of two sizes", 2e-2);
}

fn truth_of(size: (usize, usize)) -> [Truth; 2] {
    [0, 1].map(|i| truth(i, size))
}
