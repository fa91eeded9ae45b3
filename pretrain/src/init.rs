//! `--init`: a run starts from a backbone instead of random weights.

use crate::method::Pretraining;
use crate::recipe::PretrainRecipe;
use camtrast_common::augment::{IMAGENET_MEAN, IMAGENET_STD};
use camtrast_common::checkpoint::{Backbone, load_backbone};
use camtrast_common::optim::copy_into;
use camtrast_common::progress::Progress;
use camtrast_common::{Error, Result};
use std::collections::BTreeMap;
use tch::{Device, Tensor};

/// Reads the backbone that a recipe names, if any.
///
/// # Errors
/// As [`load_backbone`]; [`Error::File`] when it has another architecture.
pub(crate) fn read(recipe: &PretrainRecipe, progress: &dyn Progress) -> Result<Option<Backbone>> {
    let Some(path) = &recipe.init else {
        return Ok(None);
    };
    let backbone = load_backbone(path, Device::Cpu)?;
    let (own, wanted) = (backbone.info.arch, recipe.arch);
    if own != wanted {
        let problem = format!("is a {own}, but this run trains a {wanted}");
        return Err(Error::file(
            path,
            problem,
            format!("give --arch {own}, or another --init"),
        ));
    }
    if (backbone.info.mean, backbone.info.std) != (IMAGENET_MEAN, IMAGENET_STD) {
        let path = path.display();
        progress.note(&format!(
            "warning: {path} was trained on images that were normalised otherwise"
        ));
    }
    Ok(Some(backbone))
}

/// Copies the backbone into that of a method, and into its momentum encoder or target network; heads stay
/// random.
///
/// # Errors
/// [`Error::Settings`] naming a tensor that does not fit.
pub(crate) fn start_from(backbone: &Backbone, method: &dyn Pretraining) -> Result<()> {
    backbone.copy_into(method.online(), "backbone.")?;
    let tensors: BTreeMap<String, Tensor> = backbone.vs.variables().into_iter().collect();
    for network in ["key/backbone.", "target/backbone."] {
        let own = method.extra_state().into_iter();
        let own: BTreeMap<String, Tensor> = own
            .filter_map(|(name, tensor)| Some((name.strip_prefix(network)?.to_owned(), tensor)))
            .collect();
        if !own.is_empty() {
            copy_into(&own, &tensors, "the backbone of --init")?;
        }
    }
    Ok(())
}
