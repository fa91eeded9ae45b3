//! Backbones and networks that would be tested on data they were trained on, as far as this can be found
//! before anything is run.

use super::plan::{SuiteCell, SuitePlan};
use super::settle::{Data, Settled, Splits};
use crate::commands::probe::of_packs;
use anyhow::Result;
use camtrast_common::checkpoint::some;
use camtrast_common::tensor_file::TensorFile;
use camtrast_datasets::Pack;
use camtrast_datasets::overlap::{Overlap, PackClasses, between};
use camtrast_pretrain::Method;
use camtrast_report::record::PRETRAIN;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

/// Every leak among the settled cells, one sentence each.
pub fn leaks(plan: &SuitePlan, settled: &[Option<Settled>]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for (cell, own) in plan.cells.iter().zip(settled) {
        let Some(own) = own else { continue };
        let leak = match &own.data {
            Data::Splits(splits) => within(cell, splits),
            Data::Pack { .. } => plan.packs.get(&cell.task).and_then(|pack| {
                let trained = cell
                    .after
                    .and_then(|parent| Some((&plan.cells[parent], settled[parent].as_ref()?)));
                probed(cell, pack, &own.data, trained)
            }),
        };
        found.extend(leak.filter(|leak| !found.contains(leak)));
    }
    found
}

/// A task whose sweep would be validated on test images, and which.
///
/// # Errors
/// Those of packs that hold only images that are trained on.
pub fn validated_on_test(plan: &SuitePlan, settled: &[Option<Settled>]) -> Result<Option<String>> {
    let mut seen: Vec<&str> = Vec::new();
    for (cell, own) in plan.cells.iter().zip(settled) {
        let Some(Settled {
            data,
            validation: Some(validation),
            ..
        }) = own
        else {
            continue;
        };
        if seen.contains(&&cell.task[..]) {
            continue;
        }
        seen.push(&cell.task);
        let both = match (validation, data) {
            (Data::Splits(validation), Data::Splits(test)) => {
                let both = common(&validation.test, &test.test);
                let (count, all) = (both.len(), validation.test.len());
                let first = both.first();
                first.map(|first| format!("{count} of its {all} validation images, such as {first}"))
            }
            (Data::Pack { path: train, .. }, Data::Pack { path: test, .. }) => {
                of_packs(&Pack::open(train)?, &Pack::open(test)?)?
                    .map(|_| "some of its validation images".into())
            }
            _ => None,
        };
        if let Some(both) = both {
            return Ok(Some(format!("{}: {both} are test images", cell.task)));
        }
    }
    Ok(None)
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
