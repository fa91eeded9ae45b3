//! DeepLab v3+ against torch and torchvision.

use camtrast_common::device::channels_last;
use camtrast_common::nn::{Mode, Modes, weights_channels_last};
use camtrast_common::resnet::{BasicDilation, ResNet, pool};
use camtrast_common::testing::{
    Case, Worst, fill, fill_variables, probe, relative_error, sign, strings, uniform,
};
use camtrast_segmentation::deeplab::{
    Aspp, Decoder, DeepLab, DeepLabConfig, DropoutPlace, Head, LossAverage, cross_entropy, upsample,
};
use serde_json::Value;
use std::collections::HashMap;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

// The rows of a group of probes, compared by name. A gradient that is zero but for rounding (a bias before
// another batch norm has one) is held to a millionth of the largest.
pub(crate) fn compare(
    case: &Case,
    group: &str,
    rows: &Value,
    ours: &HashMap<String, Tensor>,
    tolerance: f64,
) {
    let truth = case.tensor(group);
    let norms = truth.norm_scalaropt_dim(2, [1], false);
    let floor = norms.max().double_value(&[]) * 1e-6;
    let mut worst = Worst::default();
    for (i, name) in strings(rows).iter().enumerate() {
        let i = i as i64;
        let apart = (probe(name, &ours[name]) - truth.get(i)).norm().double_value(&[]);
        worst.add(name, apart / norms.double_value(&[i]).max(floor));
    }
    worst.check(group, tolerance);
}

pub(crate) fn gradients(vs: &VarStore) -> HashMap<String, Tensor> {
    vs.variables()
        .into_iter()
        .filter(|(_, v)| v.requires_grad())
        .map(|(name, v)| (name, v.grad()))
        .collect()
}

pub(crate) fn labels(name: &str, classes: i64, shape: [i64; 3]) -> Tensor {
    let id = |u: f64| match (u * (classes + 1) as f64) as i64 {
        id if id == classes => 255,
        id => id,
    };
    let ids: Vec<i64> = uniform(name, shape.iter().product::<i64>() as usize)
        .map(id)
        .collect();
    Tensor::from_slice(&ids).view(shape)
}

fn shift_backbone(vs: &VarStore, prefix: &str, shift: &Value) {
    for (name, bias) in vs.variables() {
        let name = name.strip_prefix(prefix).unwrap_or_default();
        if name.starts_with("layer") && name.ends_with(".bias") {
            let part = name.split('.').nth(2).unwrap();
            let _ = no_grad(|| bias.shallow_clone().g_add_scalar_(shift[part].as_f64().unwrap()));
        }
    }
}

// Batch norms have biases of one dimension beside running means; classifiers have none.
fn shift_head(vs: &VarStore) {
    let variables = vs.variables();
    for (name, bias) in &variables {
        let norm = name
            .strip_suffix(".bias")
            .is_some_and(|n| variables.contains_key(&format!("{n}.running_mean")));
        if norm && !name.starts_with("backbone.") {
            let _ = no_grad(|| bias.shallow_clone().g_add_scalar_(1.5));
        }
    }
}

fn atrous_agrees(stride: i64, kind: Kind, forward: f64, backward: Option<f64>) {
    let case = Case::open("atrous_resnet");
    let mut vs = VarStore::new(Device::Cpu);
    let net = ResNet::atrous(
        &vs.root(),
        "resnet50".parse().unwrap(),
        stride,
        BasicDilation::Both,
    );
    fill_variables(&vs);
    if kind == Kind::Double {
        vs.double();
    } else {
        weights_channels_last(&vs);
    }
    let x = channels_last(&fill("input", &[4, 3, 64, 64]).to_kind(kind));
    let stages = no_grad(|| net.stages(&x.narrow(0, 0, 2), Mode::Eval));
    let shape = Vec::<i64>::try_from(case.tensor(&format!("{stride}.layer4.shape"))).unwrap();
    assert_eq!(stages.layers[3].size(), shape);
    let names = ["maxpool", "layer1", "layer2", "layer3", "layer4"].map(String::from);
    let stages = names
        .into_iter()
        .zip([stages.stem].into_iter().chain(stages.layers))
        .collect();
    compare(
        &case,
        &format!("{stride}.eval.stages"),
        &case.json("eval.stages"),
        &stages,
        forward,
    );

    shift_backbone(&vs, "", &case.json("bias_shift"));
    let features = pool(&net.feature_map(&x, Mode::TRAIN));
    let loss = (&features * sign("cotangent", &features.size()).to_kind(kind)).sum(None);
    loss.backward();
    let mut worst = Worst::default();
    worst.add(
        "loss",
        relative_error(&loss.view([1]), &case.tensor(&format!("{stride}.train.loss"))),
    );
    worst.check("atrous loss", forward);
    if let Some(tolerance) = backward {
        compare(
            &case,
            &format!("{stride}.train.grads"),
            &case.json("train.grads"),
            &gradients(&vs),
            tolerance,
        );
    }
}

#[test]
fn atrous_resnet_in_float64() {
    atrous_agrees(16, Kind::Double, 1e-12, Some(1e-11));
    atrous_agrees(8, Kind::Double, 1e-12, Some(1e-11));
}

// Forward only: here a ReLU's input lies so near to zero that float32 lands on its other side, and gradients
// jump by 5e-3.
#[test]
fn atrous_resnet_in_float32() {
    atrous_agrees(16, Kind::Float, 1e-5, None);
    atrous_agrees(8, Kind::Float, 1e-5, None);
}

fn config(channels: i64, classes: i64, separable: bool) -> DeepLabConfig {
    DeepLabConfig {
        head: Head::Deeplab,
        arch: "resnet50".parse().unwrap(),
        output_stride: 16,
        basic_dilation: BasicDilation::Both,
        atrous_rates: [6, 12, 18],
        aspp_kernel: 1,
        channels,
        separable,
        dropout: 0.0,
        dropout_place: DropoutPlace::Aspp,
        classes,
        auxiliary: true,
    }
}

fn head_agrees(variant: &str, separable: bool) {
    let case = Case::open("deeplab");
    let mut vs = VarStore::new(Device::Cpu);
    let aspp = Aspp::new(&(vs.root() / "aspp"), 32, &config(16, 5, separable));
    let decoder = Decoder::new(&(vs.root() / "decoder"), 8, 16, 5, separable);
    fill_variables(&vs);
    shift_head(&vs);
    vs.double();
    let input = |name: &str, shape: &[i64]| fill(name, shape).to_kind(Kind::Double).set_requires_grad(true);
    let (context, low) = (input("context", &[2, 32, 21, 17]), input("low", &[2, 8, 41, 33]));
    let pyramid = aspp.forward(&context, Mode::TRAIN);
    let logits = decoder.classify(&decoder.features(&pyramid, &low, Mode::TRAIN));
    let loss = cross_entropy(&logits, &labels("labels", 5, [2, 81, 65]), LossAverage::Labelled);
    loss.backward();
    let evaluated = no_grad(|| aspp.forward(&context, Mode::Eval));

    let of = |name: &str| case.tensor(&format!("{variant}.{name}"));
    let mut worst = Worst::default();
    worst.add(
        "aspp in training",
        relative_error(&probe("aspp", &pyramid), &of("aspp").get(0)),
    );
    worst.add(
        "aspp",
        relative_error(&probe("aspp", &evaluated), &of("aspp").get(1)),
    );
    worst.add("loss", relative_error(&loss.view([1]), &of("loss")));
    worst.check(&format!("{variant} head"), 1e-12);
    let mut worst = Worst::default();
    // Stored in float32.
    worst.add(
        "logits",
        relative_error(
            &logits.slice(2, None, None, 4).slice(3, None, None, 4),
            &of("logits"),
        ),
    );
    worst.check(&format!("{variant} logits"), 1e-7);

    let mut ours = gradients(&vs);
    ours.extend([
        ("context".to_owned(), context.grad()),
        ("low".to_owned(), low.grad()),
    ]);
    let group = format!("{variant}.grads");
    assert_eq!(strings(&case.json(&group)).len(), ours.len());
    compare(&case, &group, &case.json(&group), &ours, 1e-10);
    let running = vs.variables();
    let group = format!("{variant}.running");
    compare(&case, &group, &case.json(&group), &running, 1e-12);
}

#[test]
fn aspp_and_decoder() {
    head_agrees("plain", false);
}

#[test]
fn separable_aspp_and_decoder() {
    head_agrees("separable", true);
}

fn network_agrees(kind: Kind, forward: f64, backward: Option<f64>) {
    let case = Case::open("deeplab");
    let mut vs = VarStore::new(Device::Cpu);
    let net = DeepLab::new(&vs.root(), &config(64, 7, false));
    fill_variables(&vs);
    shift_head(&vs);
    if kind == Kind::Double {
        vs.double();
    } else {
        weights_channels_last(&vs);
    }
    shift_backbone(&vs, "backbone.", &case.json("bias_shift"));
    let x = channels_last(&fill("input", &[2, 3, 65, 97]).to_kind(kind));
    let logits = net.forward(&x, Modes::TRAIN);
    let labels = labels("network.labels", 7, [2, 65, 97]);
    let loss = |logits: &Tensor| cross_entropy(logits, &labels, LossAverage::Labelled);
    let (main, auxiliary) = (loss(&logits.main), loss(&logits.auxiliary.unwrap()));
    (&main + &auxiliary * 0.4).backward();
    let mut worst = Worst::default();
    worst.add(
        "main",
        relative_error(&main.view([1]), &case.tensor("network.main")),
    );
    worst.add(
        "auxiliary",
        relative_error(&auxiliary.view([1]), &case.tensor("network.auxiliary")),
    );
    worst.check(&format!("network {kind:?}"), forward);
    if let Some(tolerance) = backward {
        compare(
            &case,
            "network.grads",
            &case.json("network.grads"),
            &gradients(&vs),
            tolerance,
        );
    }
}

#[test]
fn network_with_auxiliary_classifier_in_float64() {
    network_agrees(Kind::Double, 1e-12, Some(1e-10));
}

#[test]
fn network_with_auxiliary_classifier_in_float32() {
    network_agrees(Kind::Float, 1e-5, None);
}

#[test]
fn resizing_takes_pixels_for_areas() {
    let case = Case::open("upsample");
    let mut worst = Worst::default();
    for (height, width) in [(10, 14), (20, 28), (17, 25), (3, 4), (5, 7)] {
        let name = format!("{height}x{width}");
        let x = case.tensor("input").set_requires_grad(true);
        let y = upsample(&x, height, width);
        (&y * sign(&format!("cotangent/{name}"), &y.size()).to_kind(Kind::Double))
            .sum(None)
            .backward();
        worst.add(&name, relative_error(&y, &case.tensor(&name)));
        worst.add(
            &format!("{name} gradient"),
            relative_error(&x.grad(), &case.tensor(&format!("{name}.grad"))),
        );
    }
    worst.check("upsample", 1e-13);
}
