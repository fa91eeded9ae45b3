//! Features of every image of a pack, for a probe of your own or `camtrast fewshot score` and `probe score`:
//!
//!     cargo run --example features -- backbone.safetensors test.safetensors features.safetensors

use camtrast_common::checkpoint::load_backbone;
use camtrast_common::device::Precision;
use camtrast_common::distributed::Group;
use camtrast_common::features::extract;
use camtrast_common::progress::Silent;
use camtrast_common::tensor_file::{Metadata, save};
use camtrast_datasets::Pack;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Tensor};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [backbone, pack, out] = &arguments[..] else {
        anyhow::bail!("usage: features BACKBONE PACK OUT");
    };
    let backbone = load_backbone(Path::new(backbone), Device::Cpu)?;
    let pack = Pack::open(Path::new(pack))?;
    let features = extract(
        &backbone,
        &pack,
        Device::Cpu,
        Precision::Fp32,
        Group::ALONE,
        &Silent,
    )?; // [N, D]
    println!("{:?} features of {}", features.size(), backbone.info.arch);
    let tensors = BTreeMap::from([
        ("features".to_owned(), features),
        ("labels".to_owned(), Tensor::from_slice(pack.labels())), // [N]
    ]);
    save(Path::new(out), &tensors, &Metadata::new())?;
    Ok(())
}
