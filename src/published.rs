//! Published numbers to print beside ours.

use pretrain::Method;

/// Sun et al. 2022, Table 3: 5-way accuracy in percent on miniImageNet, 1-shot and 5-shot (ResNet-50, 84 pixels).
pub fn mini_imagenet(method: Method) -> Option<(f64, f64)> {
    match method {
        Method::Scratch => None,
        Method::Supervised => Some((55.31, 73.73)),
        Method::Moco => Some((52.04, 73.56)),
        Method::Simsiam => Some((48.81, 69.27)),
        Method::Byol => Some((45.01, 61.42)),
        Method::Exemplar => Some((53.43, 74.64)),
        Method::CamtrastMoco => Some((54.14, 74.02)),
        Method::CamtrastSimsiam => Some((58.42, 74.68)),
    }
}
