//! The image operations, in float32 beside torchvision's in float64.

use camtrast_common::augment::{
    Window, adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, gaussian_blur, luma,
    normalise, sample_windows, solarize,
};
use camtrast_common::testing::{Case, Worst, numbers, probe, relative_error, strings, uniform};
use serde_json::Value;
use tch::Tensor;

const SIDE: i64 = 84;

fn image() -> Tensor {
    let shape = [2, 3, SIDE + 3, SIDE + 3];
    let u: Vec<f64> = uniform("image", shape.iter().product::<i64>() as usize).collect();
    let means = Tensor::from_slice(&u)
        .view(shape)
        .avg_pool2d([4, 4], [1, 1], [0, 0], false, true, None);
    ((means - 0.5) * 4.0 + 0.5)
        .clamp(0.0, 1.0)
        .to_kind(tch::Kind::Float)
}

fn window(value: &Value, flip: bool) -> Window {
    let [top, left, height, width] = numbers(value)[..] else {
        panic!("a window is four numbers: {value}")
    };
    Window {
        top: top as i64,
        left: left as i64,
        height: height as i64,
        width: width as i64,
        flip,
    }
}

fn whole(flip: bool) -> Window {
    Window {
        top: 0,
        left: 0,
        height: SIDE,
        width: SIDE,
        flip,
    }
}

fn column(values: &[f64]) -> Tensor {
    Tensor::from_slice(values)
        .to_kind(tch::Kind::Float)
        .view([-1, 1, 1, 1])
}

// As `Augment` turns chosen images grey: saturation 0 for these, 1 for the others.
fn composed(x: &Tensor, p: &Value) -> Tensor {
    let f = |name: &str| p[name].as_f64().unwrap();
    let x = sample_windows(x, &[window(&p["box0"], true), window(&p["box1"], false)]);
    let x = adjust_contrast(
        &adjust_brightness(&x, &column(&[f("brightness"), 1.0])),
        &column(&[f("contrast"), 1.0]),
    );
    let x = adjust_hue(
        &adjust_saturation(&x, &column(&[f("saturation"), 1.0])),
        &column(&[f("hue"), 0.0]),
    );
    let x = adjust_saturation(&x, &column(&[1.0, 0.0]));
    let x = gaussian_blur(&x, &[f("sigma0") as f32, f("sigma1") as f32], 2.0);
    normalise(
        &x,
        &camtrast_common::augment::IMAGENET_MEAN,
        &camtrast_common::augment::IMAGENET_STD,
    )
}

fn operation(name: &str, x: &Tensor, p: &Value) -> Tensor {
    let factor = || column(&[p["factor"].as_f64().unwrap(); 2]);
    let three = |value: &Value| <[f64; 3]>::try_from(numbers(value)).unwrap();
    match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        "crop" => sample_windows(x, &[window(&p["box"], false); 2]),
        "pad" => {
            let corner = numbers(&p["window"]);
            let [top, left] = [corner[0], corner[1]].map(|v| v as i64 - 8);
            sample_windows(
                x,
                &[Window {
                    top,
                    left,
                    ..whole(false)
                }; 2],
            )
        }
        "flip" => sample_windows(x, &[whole(true); 2]),
        "brightness" => adjust_brightness(x, &factor()),
        "contrast" => adjust_contrast(x, &factor()),
        "saturation" => adjust_saturation(x, &factor()),
        "hue_up" | "hue_down" => adjust_hue(x, &factor()),
        "gray" => luma(x).expand([2, 3, SIDE, SIDE], false),
        "blur" => gaussian_blur(x, &[p["sigma"].as_f64().unwrap() as f32; 2], 2.0),
        "normalize" => normalise(x, &three(&p["mean"]), &three(&p["std"])),
        "composed" => composed(x, p),
        _ => panic!("{name}"),
    }
}

#[test]
fn operations_are_torchvisions() {
    let case = Case::open("augment");
    let x = image();
    let mut worst = Worst::default();
    worst.add(
        "input",
        relative_error(&probe("input", &x), &case.tensor("input")),
    );
    worst.check("augment", 1e-12);

    let (truth, max_abs, parameters) = (
        case.tensor("probes"),
        case.tensor("max_abs"),
        case.json("parameters"),
    );
    assert_eq!(
        (
            parameters["size"].as_i64(),
            parameters["pad"].as_i64(),
            parameters["kernel_size"].as_i64()
        ),
        (Some(SIDE), Some(8), Some(13))
    );
    let mut worst = Worst::default();
    for (i, name) in strings(&case.json("operations")).iter().enumerate() {
        let ours = operation(name, &x, &parameters[name]);
        let row = relative_error(&probe(name, &ours), &truth.get(i as i64));
        println!("{name}: {row:.1e}");
        worst.add(name, row);
        let largest = max_abs.double_value(&[i as i64]);
        worst.add(name, (ours.abs().max().double_value(&[]) / largest - 1.0).abs());
    }
    // Half a pixel's rounding in grid_sample's coordinates is what the whole chain is off by.
    worst.check("augment operations", 2e-6);
}

// Every image of a batch has numbers of its own.
#[test]
fn each_image_has_its_own_numbers() {
    let x = image();
    let windows = [
        Window {
            top: 3,
            left: 9,
            height: 40,
            width: 50,
            flip: true,
        },
        Window {
            top: -8,
            left: 5,
            ..whole(false)
        },
    ];
    let factors = [0.7, 1.3];
    let sigmas = [0.5f32, 1.9];
    let shifts = [-0.05, 0.1];
    let batch = [
        sample_windows(&x, &windows),
        adjust_brightness(&x, &column(&factors)),
        adjust_contrast(&x, &column(&factors)),
        adjust_saturation(&x, &column(&factors)),
        adjust_hue(&x, &column(&shifts)),
        gaussian_blur(&x, &sigmas, 2.0),
    ];
    for i in 0..2 {
        let one = x.narrow(0, i, 1);
        let i = i as usize;
        let alone = [
            sample_windows(&one, &windows[i..=i]),
            adjust_brightness(&one, &column(&factors[i..=i])),
            adjust_contrast(&one, &column(&factors[i..=i])),
            adjust_saturation(&one, &column(&factors[i..=i])),
            adjust_hue(&one, &column(&shifts[i..=i])),
            gaussian_blur(&one, &sigmas[i..=i], 2.0),
        ];
        for (operation, (batch, alone)) in batch.iter().zip(&alone).enumerate() {
            let error = relative_error(&batch.narrow(0, i as i64, 1), alone);
            assert!(error < 1e-6, "operation {operation}, image {i}: {error:e}");
        }
    }
}

#[test]
fn solarising_is_torchvisions_on_bytes_and_floats() {
    let case = Case::open("solarize");
    let values = Tensor::arange(256, (tch::Kind::Float, tch::Device::Cpu)) / 255.0;
    let ours = solarize(&values);
    assert!(camtrast_common::testing::same(
        &(&ours * 255.0).round().to_kind(tch::Kind::Uint8),
        &case.tensor("bytes")
    ));
    let mut worst = Worst::default();
    worst.add("floats", relative_error(&ours, &case.tensor("floats")));
    worst.check("solarize", 1e-7);
}
