//! The choice of a swept setting, from the metrics of the cells that measured its values.

use super::cell::SuiteCell;
use super::plan::SuitePlan;
use super::settle::Settled;
use super::store::{backbone_sha256, recorded};
use camtrast_common::error::says_diverged;
use camtrast_report::record::{Choice, State, read};
use std::collections::BTreeMap;

/// A cell as it runs: with the value that was chosen for it, if one is.
pub struct Decided {
    pub cell: SuiteCell,
    pub key: String,
    pub choice: Option<Choice>,
}

/// Makes the choice of a cell whose backbone has this checksum; otherwise says what is missing for it.
pub fn decide(
    plan: &SuitePlan,
    cell: &SuiteCell,
    settled: &Settled,
    backbone_sha256: &str,
) -> Result<Decided, String> {
    let Some(pick) = &cell.pick else {
        return Ok(Decided {
            cell: cell.clone(),
            key: settled.key(backbone_sha256),
            choice: None,
        });
    };
    let sweep = &plan.suite.sweeps[pick.sweep];
    let count = sweep.values.len();
    let mut measured = vec![Vec::new(); count];
    for (place, (&of, own_key)) in pick.among.iter().zip(&settled.among).enumerate() {
        let found = score(&plan.cells[of], own_key, &sweep.metric);
        measured[place % count].push(found.map_err(|why| format!("its sweep is not done: {why}"))?);
    }
    let scores: Vec<Option<f64>> = measured.iter().map(|scores| mean(scores)).collect();
    let mut best: Option<(usize, f64)> = None;
    for (value, score) in scores.iter().enumerate() {
        // Of equal scores the smaller value, which comes first.
        if let Some(score) = score.filter(|score| best.is_none_or(|(_, most)| *score > most)) {
            best = Some((value, score));
        }
    }
    let Some((value, _)) = best else {
        let (flag, values) = (&sweep.flag, sweep.values.join(", "));
        return Err(format!(
            "its training diverged with every {flag} of its sweep ({values})"
        ));
    };
    Ok(Decided {
        cell: cell.with(&sweep.flag, &sweep.values[value]),
        key: settled.key_with(value, backbone_sha256),
        choice: Some(Choice {
            flag: sweep.flag.clone(),
            value: sweep.values[value].clone(),
            shared: pick.shared,
            scores: sweep.values.iter().cloned().zip(scores).collect(),
        }),
    })
}

/// The mean, in which a training that diverged counts as 0; `None` if all did.
fn mean(scores: &[Option<f64>]) -> Option<f64> {
    let sum: f64 = scores.iter().flatten().sum();
    scores
        .iter()
        .any(Option::is_some)
        .then(|| sum / scores.len() as f64)
}

/// A cell's validation score; `None` if its training diverged. Otherwise why there is none.
fn score(cell: &SuiteCell, own_key: &str, metric: &str) -> Result<Option<f64>, String> {
    let name = cell.name();
    let backbone = cell.checkpoint.as_deref().map(backbone_sha256);
    let backbone = backbone
        .transpose()
        .map_err(|error| format!("{name}: {error:#}"))?;
    let key = Settled::joined(own_key, &backbone.unwrap_or_default());
    let record = recorded(&cell.folder).filter(|record| record.key == key);
    let (state, error) = record.map_or((State::Begun, None), |record| (record.state, record.error));
    let error = error.unwrap_or_default();
    match state {
        State::Begun => Err(format!("{name} has no result")),
        State::Failed if says_diverged(&error) => Ok(None),
        State::Failed => Err(format!("{name} failed: {error}")),
        State::Done => {
            let path = cell.folder.join("metrics.json");
            let metrics: Option<BTreeMap<String, serde_json::Value>> =
                read(&path).map_err(|error| error.to_string())?;
            let value = metrics.as_ref().and_then(|metrics| metrics.get(metric)?.as_f64());
            value
                .map(Some)
                .ok_or_else(|| format!("{} has no {metric}", path.display()))
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_diverged_counts_as_nothing_in_a_mean() {
        assert_eq!(super::mean(&[Some(0.5), Some(0.25)]), Some(0.375));
        assert_eq!(super::mean(&[Some(0.5), None]), Some(0.25));
        assert_eq!(super::mean(&[None, None]), None);
    }
}
