//! What only a GPU can show. Without one these tests say so and pass.

use crate::world::{CONTRAST, Place};

fn gpu(place: &Place) -> bool {
    let probe = place.run(
        "pretrain --method scratch --data train.pack --arch resnet18 --width 8 --device cuda --out probe",
    );
    if probe.code != Some(0) {
        eprintln!("skipped, no GPU: {}", probe.stderr.trim());
    }
    probe.code == Some(0)
}

#[test]
fn every_method_trains_resumes_and_is_probed_on_a_gpu() {
    let place = Place::new();
    if !gpu(&place) {
        return;
    }
    for (method, more) in [
        ("supervised", ""),
        ("moco", CONTRAST),
        ("camtrast-moco", CONTRAST),
    ] {
        for precision in ["fp32", "bf16"] {
            let out = format!("{method}-{precision}");
            let train = format!(
                "pretrain --method {method} --data train.pack --arch resnet18 --width 8 --stem small \
                 --batch-size 16 \
                 --epochs 2 --device cuda --precision {precision} {more} --out {out}"
            );
            place.ok(&train);
            place.ok(&train); // finished: nothing to do
            let log = place.log(&out, "step");
            assert!(log.iter().all(|line| line["cuda_peak_bytes"].as_i64() > Some(0)));
            place.ok(&format!(
                "fewshot eval --checkpoint {out}/backbone.safetensors --data test.pack --device cuda"
            ));
        }
    }
}
