//! Boxes, anchors, matching, suppression, RoIAlign.

use crate::{boxes, integers};
use camtrast_common::random::generator;
use camtrast_common::testing::{Case, Worst, fill, probe, relative_error, sign, strings, unit};
use camtrast_detection::model::anchors::Anchors;
use camtrast_detection::model::boxes::{BoxCoder, clip, iou};
use camtrast_detection::model::matcher::{BACKGROUND, Matcher, Sampler};
use camtrast_detection::model::nms::{Candidates, nms, suppress};
use camtrast_detection::model::roi_align::{Map, Region, RoiAlign, level};
use tch::{Device, Kind, Tensor};

fn pairs(value: &serde_json::Value) -> Vec<(i64, i64)> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn anchors_are_torchvisions() {
    let case = Case::open("anchors");
    let image = serde_json::from_value(case.json("image")).unwrap();
    let (sizes, ratios) = ([32.0, 64.0, 128.0, 256.0, 512.0], [0.5, 1.0, 2.0]);
    let generate = |anchors: Anchors, maps: &str| {
        Anchors::generate(&anchors.cells(Device::Cpu), image, &pairs(&case.json(maps)))
    };
    let c4 = generate(Anchors::at_one_level(&sizes, &ratios), "c4_maps");
    assert!(c4[0].equal(&case.tensor("c4").to_kind(Kind::Float)));
    let fpn = generate(Anchors::one_size_a_level(&sizes, &ratios), "fpn_maps");
    let fpn = Tensor::cat(&fpn, 0);
    let every_seventh = fpn.slice(0, 0, fpn.size()[0], 7);
    assert!(every_seventh.equal(&case.tensor("fpn").to_kind(Kind::Float)));
}

#[test]
fn boxes_are_coded_and_matched_as_torchvision_does() {
    let case = Case::open("boxes");
    let truth = boxes("truth", 5, 200.0, 150.0, 2.0);
    let proposals = boxes("proposals", 60, 200.0, 150.0, 2.0);
    proposals.get(0).copy_(&truth.get(0));
    proposals
        .get(1)
        .copy_(&(truth.get(1) + Tensor::from_slice(&[3f32, 0.0, 3.0, 0.0])));
    let offsets = fill("offsets", &[60, 8]);
    let _ = offsets.get(0).g_mul_scalar_(10.0);
    let (coder, plain) = (
        BoxCoder {
            weights: [10.0, 10.0, 5.0, 5.0],
        },
        BoxCoder { weights: [1.0; 4] },
    );
    let overlaps = iou(&truth, &proposals);
    let targets = truth.index_select(0, &Tensor::arange(60, (Kind::Int64, Device::Cpu)).remainder(5));
    let decoded = plain.decode(&offsets, &proposals);
    let mut worst = Worst::default();
    for (name, ours) in [
        ("iou", overlaps.shallow_clone()),
        ("encoded", coder.encode(&targets, &proposals)),
        ("decoded", coder.decode(&offsets, &proposals)),
        ("clipped", clip(&decoded, (150, 200))),
        ("decoded_plain", decoded),
    ] {
        worst.add(name, relative_error(&ours, &case.tensor(name)));
    }
    worst.check("boxes", 1e-6);
    // As when no proposal is left of an image.
    let none = plain.decode(&offsets.narrow(0, 0, 0), &proposals.narrow(0, 0, 0));
    assert_eq!(none.size(), [0, 8]);
    let loose = Matcher {
        high: 0.7,
        low: 0.3,
        low_quality: true,
    };
    assert_eq!(
        integers(&loose.matches(&overlaps)),
        integers(&case.tensor("matches_low"))
    );
    let strict = Matcher {
        high: 0.5,
        low: 0.5,
        low_quality: false,
    };
    assert_eq!(
        integers(&strict.matches(&overlaps)),
        integers(&case.tensor("matches"))
    );
    let nothing = strict.matches(&Tensor::zeros([0, 3], (Kind::Float, Device::Cpu)));
    assert_eq!(
        integers(&nothing),
        [BACKGROUND; 3],
        "without ground truth all is background"
    );
}

#[test]
fn a_sample_has_its_size_and_share() {
    let sampler = Sampler {
        size: 8,
        positive_share: 0.25,
    };
    let labels: Vec<i8> = (0..40).map(|i| [3, 0, -1, 0][i % 4]).collect();
    let mut draws = generator(1, "test", 0, 0);
    let (positive, negative) = sampler.sample(&labels, &mut draws);
    assert_eq!((positive.len(), negative.len()), (2, 6));
    assert!(positive.iter().all(|&row| labels[row as usize] == 3));
    assert!(negative.iter().all(|&row| labels[row as usize] == 0));
    let (positive, negative) = sampler.sample(&[0; 20], &mut draws);
    assert_eq!(
        (positive.len(), negative.len()),
        (0, 8),
        "background makes up for missing objects"
    );
    let (positive, negative) = sampler.sample(&[1, -1, 0], &mut draws);
    assert_eq!((positive.len(), negative.len()), (1, 1), "what there is");
}

#[test]
fn suppression_is_torchvisions() {
    let case = Case::open("nms");
    let all = boxes("nms", 300, 120.0, 100.0, 20.0);
    all.narrow(0, 10, 10).copy_(&all.narrow(0, 0, 10));
    let scores = (unit("scores", &[300]) * 64.0).floor() / 64.0;
    for (name, threshold) in [("kept_30", 0.3), ("kept_50", 0.5), ("kept_70", 0.7)] {
        let kept = integers(&nms(&all, &scores, threshold, usize::MAX).unwrap());
        assert_eq!(kept, integers(&case.tensor(name)), "{name}");
        assert_eq!(
            integers(&nms(&all, &scores, threshold, 5).unwrap()),
            kept[..5],
            "{name} limited"
        );
    }
    let half = nms(
        &case.tensor("half_boxes"),
        &Tensor::from_slice(&[0.5f32, 0.4]),
        0.5,
        usize::MAX,
    )
    .unwrap();
    assert_eq!(integers(&half), integers(&case.tensor("half")));

    let grouped = |count: i64| {
        let candidates = Candidates {
            boxes: all.narrow(0, 0, count),
            scores: scores.narrow(0, 0, count),
            groups: Tensor::arange(count, (Kind::Int64, Device::Cpu)).remainder(3),
            valid: Tensor::ones([count], (Kind::Bool, Device::Cpu)),
        };
        integers(&suppress(&[candidates], 0.5, usize::MAX).unwrap()[0])
    };
    let kept = grouped(300);
    let score = |row: &i64| scores.double_value(&[*row]);
    assert!(
        kept.windows(2).all(|pair| score(&pair[0]) >= score(&pair[1])),
        "by falling score"
    );
    let one_after_the_other =
        (0..3).flat_map(|group| kept.iter().copied().filter(move |row| row % 3 == group));
    assert_eq!(
        one_after_the_other.collect::<Vec<_>>(),
        integers(&case.tensor("grouped_50"))
    );

    let (none, no_scores) = (all.narrow(0, 0, 0), scores.narrow(0, 0, 0));
    assert_eq!(nms(&none, &no_scores, 0.5, 10).unwrap().size(), [0]);
    assert_eq!(grouped(0), [0i64; 0]);
}

// Regions of images 0, 1, 0, 1, ..
fn in_turns(boxes: &Tensor) -> Vec<Region> {
    let sides: Vec<f32> = Vec::try_from(boxes.reshape([-1])).unwrap();
    let region = |(i, corners): (usize, &[f32])| Region {
        map: 0,
        image: i % 2,
        corners: corners.try_into().unwrap(),
    };
    sides.chunks_exact(4).enumerate().map(region).collect()
}

#[test]
fn roi_align_is_torchvisions_kernel() {
    let case = Case::open("roi_align");
    let mut regions = in_turns(&boxes("regions", 12, 68.0, 52.0, 2.0));
    let extra: Vec<f32> = Vec::try_from(case.tensor("extra").reshape([-1])).unwrap();
    regions.extend(extra.chunks_exact(5).map(|row| Region {
        map: 0,
        image: row[0] as usize,
        corners: row[1..].try_into().unwrap(),
    }));
    let (mut values, mut gradients) = (Worst::default(), Worst::default());
    for name in strings(&case.json("cases")) {
        let align = RoiAlign {
            bins: if name.ends_with("bins3") { 3 } else { 7 },
            sampling_ratio: if name.contains("ratio2") { 2 } else { 0 },
            aligned: name.starts_with("aligned1"),
        };
        let features = fill("features", &[2, 5, 13, 17]).set_requires_grad(true);
        let map = Map {
            features: &features,
            scale: 0.25,
        };
        let pooled = align.forward(&[map], &regions);
        values.add(&name, relative_error(&probe(&name, &pooled), &case.tensor(&name)));
        if align.bins == 3 {
            let stored = case.tensor(&format!("{name}.values"));
            values.add(
                &format!("{name} values"),
                relative_error(&pooled.select(1, 0), &stored),
            );
        }
        (&pooled * sign(&format!("cotangent/{name}"), &pooled.size()))
            .sum(None)
            .backward();
        let gradient = features.grad();
        let stored = case.tensor(&format!("{name}.gradient"));
        gradients.add(&name, relative_error(&gradient.select(1, 0), &stored));
        let ours = probe(&format!("{name}/gradient"), &gradient);
        gradients.add(
            &format!("{name} probe"),
            relative_error(&ours, &case.tensor(&format!("{name}.gradient_probe"))),
        );
    }
    values.check("RoIAlign", 1e-6);
    gradients.check("RoIAlign gradients", 1e-6);

    let maps: Vec<Tensor> = (0..4)
        .map(|i| fill(&format!("level{i}"), &[2, 3, 64 >> i, 96 >> i]))
        .collect();
    let scaled = in_turns(&boxes("scaled", 40, 384.0, 256.0, 2.0));
    let of_image = |image: usize| scaled.iter().filter(move |region| region.image == image);
    let by_image = of_image(0).chain(of_image(1)).map(|region| Region {
        map: level(region.corners, 4, maps.len()),
        ..*region
    });
    let by_image: Vec<Region> = by_image.collect();
    let pyramid: Vec<Map> = (maps.iter().enumerate())
        .map(|(i, features)| Map {
            features,
            scale: 0.25 / f64::from(1 << i),
        })
        .collect();
    let align = RoiAlign {
        bins: 7,
        sampling_ratio: 2,
        aligned: false,
    };
    let pooled = align.forward(&pyramid, &by_image);
    let mut worst = Worst::default();
    worst.add(
        "levels",
        relative_error(&probe("levels", &pooled), &case.tensor("levels")),
    );
    worst.check("multi-scale RoIAlign", 1e-6);
    assert_eq!(align.forward(&pyramid, &[]).size(), [0, 3, 7, 7]);
}
