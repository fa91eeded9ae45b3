//! Backbones and networks that would be tested on data they were trained on, as far as this can be found
//! before anything is run.

use super::cell::SuiteCell;
use super::plan::SuitePlan;
use super::settle::{Data, Settled, Splits};
use crate::commands::probe::of_packs;
use anyhow::Result;
use camtrast_common::checkpoint::some;
use camtrast_common::tensor_file::TensorFile;
use camtrast_datasets::Pack;
use camtrast_datasets::overlap::{Overlap, PackClasses, between};
use camtrast_pretrain::Method;
use camtrast_report::record::PRETRAIN;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Every leak among the settled cells, one sentence each.
///
/// # Errors
/// Those of packs, also when a task would be fine-tuned on all of its test images.
pub fn leaks(plan: &SuitePlan, settled: &[Option<Settled>]) -> Result<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    // What two packs have in common, which takes a look at every image.
    let mut repeated: BTreeMap<[&Path; 2], Option<String>> = BTreeMap::new();
    for (cell, own) in plan.cells.iter().zip(settled) {
        // Validation images that are like others trained on only make a choice worse.
        let Some(own) = own.as_ref().filter(|_| !plan.is_validation(&cell.task)) else {
            continue;
        };
        let leak = match (&own.data, &own.validation) {
            (Data::Splits(splits), _) => within(cell, splits),
            (Data::Pack { path: test, .. }, Some(Data::Pack { path: train, .. })) => {
                let repeats = match repeated.entry([train, test]) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(place) => place.insert(of_packs(&Pack::open(train)?, &Pack::open(test)?)?),
                };
                repeats
                    .as_ref()
                    .map(|repeats| format!("{}: {repeats}", plan.table_of(&cell.task)))
            }
            (Data::Pack { .. }, _) => plan.packs.get(&cell.task).and_then(|pack| {
                let trained = cell
                    .after
                    .and_then(|parent| Some((&plan.cells[parent], settled[parent].as_ref()?)));
                probed(cell, pack, &own.data, trained)
            }),
        };
        found.extend(leak.filter(|leak| !found.contains(leak)));
    }
    Ok(found)
}

/// A task whose sweep would be validated on nothing but test images.
pub fn validated_on_test(plan: &SuitePlan, settled: &[Option<Settled>]) -> Option<String> {
    let splits = plan.cells.iter().zip(settled).filter_map(|(cell, own)| {
        let own = own.as_ref()?;
        match (&own.validation, &own.data) {
            (Some(Data::Splits(validation)), Data::Splits(test)) => Some((&cell.task, validation, test)),
            _ => None,
        }
    });
    let mut wrong = splits.filter_map(|(task, validation, test)| {
        let (both, all) = (common(&validation.test, &test.test), validation.test.len());
        (both.len() == all).then(|| format!("{task}: all of its {all} validation images are test images"))
    });
    wrong.next()
}

/// A test pack that the backbone was trained on, or whose classes it was trained on.
fn probed(
    cell: &SuiteCell,
    name: &str,
    test: &Data,
    trained: Option<(&SuiteCell, &Settled)>,
) -> Option<String> {
    let Data::Pack { path, sha256, .. } = test else {
        return None;
    };
    let run = &cell.run;
    let same = format!(
        "run {run:?} is trained on the test pack {name:?} ({})",
        path.display()
    );
    let Some((parent, settled)) = trained else {
        let file = TensorFile::open(cell.checkpoint.as_deref()?).ok()?;
        let said = |key: &str| file.metadata().get(key);
        let untrained = said("method").is_some_and(|method| Method::is_untrained(method));
        return (said("dataset_sha256") == Some(sha256) && !untrained).then_some(same);
    };
    // An untrained backbone has seen nothing.
    if parent.task != PRETRAIN || Method::is_untrained(&parent.method) {
        return None;
    }
    match between(pack_classes(&settled.data)?, pack_classes(test)?)? {
        Overlap::Pack => Some(same),
        Overlap::Classes(both) => Some(format!(
            "run {run:?} is trained on {} classes of the test pack {name:?}: {}",
            both.len(),
            some(&both)
        )),
    }
}

fn pack_classes(data: &Data) -> Option<PackClasses<'_>> {
    match data {
        Data::Pack { sha256, classes, .. } => Some(PackClasses {
            sha256,
            names: classes,
        }),
        Data::Splits(_) => None,
    }
}

/// Test images that are also training images.
fn within(cell: &SuiteCell, splits: &Splits) -> Option<String> {
    let both = common(&splits.test, &splits.training);
    let first = both.first()?;
    let (count, all) = (both.len(), splits.test.len());
    Some(format!(
        "{}: {count} of the {all} test images are trained on, such as {first}",
        cell.task
    ))
}

/// Images that are also among others, by file or content.
fn common(images: &[(PathBuf, String)], others: &[(PathBuf, String)]) -> Vec<String> {
    let files = others.iter().filter_map(|(path, _)| fs::canonicalize(path).ok());
    let files: BTreeSet<_> = files.collect();
    let sums: BTreeSet<&String> = others.iter().map(|(_, sum)| sum).collect();
    let both = images.iter().filter(|(path, sum)| {
        sums.contains(sum) || fs::canonicalize(path).is_ok_and(|path| files.contains(&path))
    });
    both.map(|(path, _)| path.display().to_string()).collect()
}
