//! Images per second of one augmented view on the CPU. `benches/peers/augment.py` does the same with PIL and
//! torchvision.

use camtrast_common::augment::{Augment, Crop};
use camtrast_common::random::generator;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tch::{Device, Kind, Tensor};

const IMAGES: i64 = 128;

fn views(criterion: &mut Criterion) {
    let weak = Augment {
        crop: Crop::Padded { padding: 8 },
        flip: 0.5,
        jitter: [0.4, 0.4, 0.4, 0.0],
        jitter_probability: 1.0,
        ..Augment::NONE
    };
    let strong = Augment {
        crop: Crop::Resized { scale: (0.2, 1.0) },
        flip: 0.5,
        jitter: [0.4, 0.4, 0.4, 0.1],
        jitter_probability: 0.8,
        grayscale: 0.2,
        blur: 0.5,
        ..Augment::NONE
    };
    let no_hue = Augment {
        jitter: [0.4, 0.4, 0.4, 0.0],
        ..strong.clone()
    };
    let no_blur = Augment {
        blur: 0.0,
        ..strong.clone()
    };
    let only_crop = Augment {
        crop: strong.crop,
        flip: 0.5,
        ..Augment::NONE
    };
    let pixels = Tensor::randint(256, [IMAGES, 84, 84, 3], (Kind::Uint8, Device::Cpu));
    let mut group = criterion.benchmark_group("augment");
    group
        .throughput(Throughput::Elements(IMAGES as u64))
        .sample_size(10);
    let cases = [
        ("none", Augment::NONE),
        ("crop and flip", only_crop),
        ("supervised", weak),
        ("moco v2", strong),
        ("moco v2 without hue", no_hue),
        ("moco v2 without blur", no_blur),
    ];
    for (name, augment) in cases {
        let mut step = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                step += 1;
                augment.apply(&pixels, &mut generator(0, "bench", 0, step))
            })
        });
    }
}

criterion_group!(benches, views);
criterion_main!(benches);
