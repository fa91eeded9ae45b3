//! `keep-epochs` of a run: the backbone of each kept epoch is a row of its own, and a point of the curve over
//! the epochs of pretraining.

use super::recipe::{Run, SuiteRecipe, slug};
use camtrast_report::record::{KeptEpoch, RunRecord};
use toml::Value;

const KEY: &str = "keep-epochs";

/// The epochs that a run keeps, but for its last, which is the run itself.
///
/// # Errors
/// What is wrong with the setting.
pub fn epochs(recipe: &SuiteRecipe, run: &Run) -> Result<Vec<u64>, String> {
    if run.checkpoint.is_some() {
        return Ok(Vec::new());
    }
    let epochs = match setting(recipe, run, KEY) {
        None => return Ok(Vec::new()),
        Some(Value::Array(items)) => items.iter().map(whole).collect(),
        Some(Value::String(text)) => text.split(',').map(|part| part.trim().parse().ok()).collect(),
        Some(one) => whole(one).map(|one| vec![one]),
    };
    let epochs: Option<Vec<u64>> = epochs;
    let last = last(recipe, run);
    let mut epochs = epochs.ok_or_else(|| format!("{KEY} is not a list of epochs"))?;
    epochs.retain(|epoch| Some(*epoch) != last);
    epochs.sort_unstable();
    epochs.dedup();
    Ok(epochs)
}

/// The name of a kept epoch's row.
pub fn name(run: &Run, epoch: u64) -> String {
    format!("{}, epoch {epoch}", run.name)
}

/// A run's row and those of its kept epochs. They are a line of the figure, unless the run belongs to another
/// one.
///
/// # Errors
/// As [`epochs`].
pub fn records(recipe: &SuiteRecipe, run: &Run, record: RunRecord) -> Result<Vec<RunRecord>, String> {
    let kept = epochs(recipe, run)?;
    if kept.is_empty() {
        return Ok(vec![record]);
    }
    let own_line = run.series.is_none() && run.x.is_none();
    let on_line = |record: RunRecord, epoch: Option<u64>| match own_line {
        true => RunRecord {
            series: Some(run.name.clone()),
            x: epoch.map(|epoch| epoch as f64),
            ..record
        },
        false => record,
    };
    let row = |epoch: u64| RunRecord {
        name: name(run, epoch),
        slug: slug(&name(run, epoch)),
        kept: Some(KeptEpoch {
            run: record.slug.clone(),
            epoch,
        }),
        published: Default::default(),
        series: None,
        x: None,
        ..record.clone()
    };
    let rows = kept.iter().map(|&epoch| on_line(row(epoch), Some(epoch)));
    let whole = on_line(record.clone(), last(recipe, run));
    Ok([whole].into_iter().chain(rows).collect())
}

/// Refuses rows with one folder.
///
/// # Errors
/// Which rows these are.
pub fn check_names(rows: &[RunRecord]) -> Result<(), String> {
    for (i, row) in rows.iter().enumerate() {
        if rows[..i].iter().any(|other| other.slug == row.slug) {
            return Err(format!("has two rows named {:?}, one of them of {KEY}", row.name));
        }
    }
    Ok(())
}

/// The label of the figure's x axis.
pub fn x_axis(recipe: &SuiteRecipe, rows: &[RunRecord]) -> String {
    match rows.iter().any(|row| row.kept.is_some()) && recipe.x_axis.is_empty() {
        true => "epochs of pretraining".into(),
        false => recipe.x_axis.clone(),
    }
}

// The run's last epoch, where the recipe says it.
fn last(recipe: &SuiteRecipe, run: &Run) -> Option<u64> {
    setting(recipe, run, "epochs").and_then(whole)
}

fn setting<'a>(recipe: &'a SuiteRecipe, run: &'a Run, key: &str) -> Option<&'a Value> {
    run.flags.get(key).or(recipe.pretrain.get(key))
}

fn whole(value: &Value) -> Option<u64> {
    value.as_integer().and_then(|epoch| u64::try_from(epoch).ok())
}
