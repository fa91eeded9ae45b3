//! Settings that nobody gave: those of the paper's text, or of the preset that is named.

use super::{BATCH, CLASSES, build, initialised, labels, moment, views};
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::optim::Algorithm;
use camtrast_common::schedule::Decay;
use camtrast_common::settings::Numbers;
use camtrast_pretrain::{Method, Preset, PretrainOptions, Setting};
use serde_json::{Value, json};
use tch::Device;

fn resolved(method: Method, given: PretrainOptions) -> PretrainOptions {
    let setting = Setting {
        arch: "resnet50".parse().unwrap(),
        classes: CLASSES,
        images: 38_400,
        image_size: 84,
        device: Device::Cpu,
        group: Group::ALONE,
        precision: Precision::Fp32,
        seed: 0,
    };
    let defaults = method.defaults(&setting, &given);
    given.resolve(defaults, &method.to_string()).unwrap()
}

// "otherwise each method's own paper" (supplement A): MoCo v2's temperature is 0.2, SimSiam's blocks start as
// identities.
#[test]
fn camtrast_has_the_settings_of_the_method_it_contrasts_with() {
    let [moco, with_moco, simsiam, with_simsiam] = [
        Method::Moco,
        Method::CamtrastMoco,
        Method::Simsiam,
        Method::CamtrastSimsiam,
    ]
    .map(|method| resolved(method, PretrainOptions::default()));
    assert_eq!((moco.temperature, with_moco.temperature), (Some(0.2), Some(0.2)));
    assert_eq!(
        (simsiam.zero_init_residual, with_simsiam.zero_init_residual),
        (Some(true), Some(true))
    );
    assert_eq!(
        (moco.zero_init_residual, with_moco.zero_init_residual),
        (None, Some(false))
    );
    assert_eq!(
        (simsiam.constant_predictor_lr, with_simsiam.constant_predictor_lr),
        (Some(true), Some(true))
    );
    // MoCo's eight devices; a classifier in the query encoder sees the whole batch.
    assert_eq!((moco.bn_splits, moco.query_bn_splits), (Some(8), Some(8)));
    assert_eq!(
        (with_moco.bn_splits, with_moco.query_bn_splits),
        (Some(8), Some(1))
    );
    // One flag moves both encoders of plain MoCo.
    let whole = resolved(
        Method::Moco,
        PretrainOptions {
            bn_splits: Some(1),
            ..PretrainOptions::default()
        },
    );
    assert_eq!((whole.bn_splits, whole.query_bn_splits), (Some(1), Some(1)));
}

#[test]
fn the_classifier_sees_the_whole_batch() {
    let moco = json!({
        "batch-size": BATCH, "epochs": 4, "queue-size": 16, "projector-hidden": 24, "projection-dim": 16,
        "cam-warmup-epochs": 0,
    });
    let losses = |more: Value| -> Vec<f64> {
        let mut options = moco.clone();
        options
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let (mut method, options) = build(Method::CamtrastMoco, &options, "key");
        let loss = method
            .loss(&views(0, 1), &labels(), &moment(0, &options))
            .unwrap();
        let named = |name: &str| {
            loss.parts
                .iter()
                .find(|(n, _)| *n == name)
                .unwrap()
                .1
                .double_value(&[])
        };
        ["loss_original", "loss_suppressed", "loss_contrast"]
            .map(named)
            .into()
    };
    let [default, whole, split] =
        [json!({}), json!({"bn-splits": 1}), json!({"query-bn-splits": 4})].map(losses);
    assert_eq!(
        default[..2],
        whole[..2],
        "the parts of the keys must not reach the classifier"
    );
    assert_ne!(default[2], whole[2], "keys are normalised in parts");
    assert!(
        default[0] != split[0] && default[1] != split[1],
        "the queries' parts reach the classifier"
    );
}

#[test]
fn simsiam_starts_with_blocks_that_pass_their_input_on() {
    let last_scales = |method: Method, options: Value| -> f64 {
        let (built, _) = initialised(method, &options);
        let variables = built.online().variables().into_iter();
        variables
            .filter(|(name, _)| name.ends_with(".bn2.weight"))
            .map(|(_, t)| t.abs().sum(None).double_value(&[]))
            .sum()
    };
    for method in [Method::Simsiam, Method::CamtrastSimsiam] {
        assert_eq!(last_scales(method, json!({})), 0.0, "{method}");
        assert!(
            last_scales(method, json!({"zero-init-residual": false})) > 0.0,
            "{method}"
        );
    }
    // An ablation differs in its losses alone.
    assert_eq!(
        last_scales(Method::CamtrastSimsiam, json!({"contrast": "none"})),
        0.0
    );
    assert!(last_scales(Method::CamtrastMoco, json!({"queue-size": 256})) > 0.0);
}

#[test]
fn the_released_code_is_a_preset_that_flags_override() {
    let options = Preset::ReleasedCode
        .under(PretrainOptions::default(), Method::CamtrastSimsiam)
        .unwrap();
    let options = resolved(Method::CamtrastSimsiam, options);
    assert_eq!(
        (options.epochs, options.batch_size, options.lr),
        (Some(100), Some(256), Some(0.05))
    );
    assert_eq!(
        (options.optimizer, options.momentum, options.weight_decay),
        (Some(Algorithm::Sgd), Some(0.9), Some(5e-4))
    );
    assert_eq!((options.schedule, options.gamma), (Some(Decay::Step), Some(0.1)));
    assert_eq!(options.milestones, Some(Numbers(vec![60.0, 80.0])));
    // Epochs count from one there, and the map is used from epoch 30 on.
    assert_eq!(options.cam_warmup_epochs, Some(29));
    assert_eq!(
        (options.jitter, options.jitter_probability),
        (Some(Numbers(vec![0.4; 4])), Some(1.0))
    );
    assert_eq!(
        (options.constant_predictor_lr, options.zero_init_residual),
        (Some(false), Some(true))
    );

    // The rate does not follow the batch there.
    let given = PretrainOptions {
        batch_size: Some(64),
        jitter_probability: Some(0.8),
        ..PretrainOptions::default()
    };
    let options = Preset::ReleasedCode
        .under(given, Method::CamtrastSimsiam)
        .unwrap();
    assert_eq!(
        (options.batch_size, options.lr, options.jitter_probability),
        (Some(64), Some(0.05), Some(0.8))
    );

    for method in [Method::CamtrastMoco, Method::Moco, Method::Supervised] {
        let error = Preset::ReleasedCode
            .under(PretrainOptions::default(), method)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("--preset released-code") && error.contains("camtrast-simsiam"),
            "{error}"
        );
    }
    // Contrast with MoCo is never trained there either.
    let moco = PretrainOptions {
        contrast: Some(camtrast_pretrain::options::Contrast::Moco),
        ..PretrainOptions::default()
    };
    assert!(Preset::ReleasedCode.under(moco, Method::CamtrastSimsiam).is_err());
}
