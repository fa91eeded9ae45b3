//! How fast crops come out of images of Cityscapes' size, beside the training steps that they are for.
//!
//! Draws streets of 2048 x 1024 pixels as PNG files, then takes turns: batches of crops of 768 x 768 from the
//! loader, with all cores, and training steps on them (DeepLab v3+ on ResNet-50, output stride 16). The
//! loader works while the network does, so that on a GPU it is its own rate that counts: images a second
//! here, times cores there over cores here.

use camtrast_common::device::channels_last;
use camtrast_common::distributed::Group;
use camtrast_common::engine::Source;
use camtrast_common::nn::{Modes, weights_channels_last};
use camtrast_common::progress::Silent;
use camtrast_common::resnet::BasicDilation;
use camtrast_segmentation::Dataset;
use camtrast_segmentation::augment::{Resize, SegmentationAugment};
use camtrast_segmentation::deeplab::{
    DeepLab, DeepLabConfig, DropoutPlace, Head, LossAverage, cross_entropy,
};
use camtrast_segmentation::source::{Batch, CropSource};
use camtrast_world::{SynthOptions, synth};
use std::sync::Arc;
use std::time::Instant;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const CROP: usize = 768;
const BATCH: u64 = 2;
const ROUNDS: u64 = 3;

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let streets = SynthOptions {
        streets: [8, 0],
        street_size: 1024,
        ..SynthOptions::new(folder.path())
    };
    let few = SynthOptions {
        size: 16,
        images_per_class: 1,
        evaluation_images_per_class: 1,
        scenes: [0, 0],
        ..streets
    };
    synth(&few, &Silent).expect("a world");
    let dataset = Arc::new(Dataset::cityscapes(folder.path(), "train").expect("streets"));
    let augment = SegmentationAugment {
        height: CROP,
        width: CROP,
        scale: (0.5, 2.0),
        resize: Resize::Crop,
        flip: 0.5,
        max_class_share: 1.0,
        photometric: false,
        padding: [124, 116, 104],
    };
    let mut source = CropSource::new(
        dataset.clone(),
        augment,
        BATCH,
        u64::MAX,
        0,
        Device::Cpu,
        Group::ALONE,
    );
    let config = DeepLabConfig {
        head: Head::Deeplab,
        arch: "resnet50".parse().expect("a known architecture"),
        output_stride: 16,
        basic_dilation: BasicDilation::Both,
        atrous_rates: [6, 12, 18],
        aspp_kernel: 1,
        channels: 256,
        separable: false,
        dropout: 0.1,
        dropout_place: DropoutPlace::Aspp,
        classes: dataset.classes.len() as i64,
        auxiliary: false,
    };
    let vs = VarStore::new(Device::cuda_if_available());
    let net = DeepLab::new(&vs.root(), &config);
    weights_channels_last(&vs);

    let (mut loading, mut training) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let begun = Instant::now();
        let batch = source.batch(0, round).expect("a batch");
        loading.push(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        step(&net, batch);
        training.push(begun.elapsed().as_secs_f64());
    }
    let rate = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        BATCH as f64 / seconds[seconds.len() / 2]
    };
    let (loader, trainer) = (rate(&mut loading), rate(&mut training));
    let (cores, device) = (rayon::current_num_threads(), vs.device());
    println!("loader, {cores} cores: {loader:.1} images/s; training on {device:?}: {trainer:.2} images/s");
    println!(
        "the loader is {:.1} times as fast as the training",
        loader / trainer
    );
}

fn step(net: &DeepLab, batch: Batch) {
    let pixels = batch.images.permute([0, 3, 1, 2]).to_kind(Kind::Float) / 255.0;
    let labels = batch.labels.to_kind(Kind::Int64);
    let loss: Tensor = cross_entropy(
        &net.forward(&channels_last(&pixels), Modes::TRAIN).main,
        &labels,
        LossAverage::Labelled,
    );
    loss.backward();
    assert!(loss.double_value(&[]).is_finite(), "waits for the device");
}
