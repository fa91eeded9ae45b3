//! Which cells of a plan choose a swept setting when they start, and which cells they choose it from.

use super::cell::{Pick, SuiteCell};
use super::recipe::{SuiteRecipe, slug};
use super::sweep::SWEEP;
use super::tasks::Task;
use camtrast_report::record::{Sweep, cell_folder};
use std::collections::BTreeSet;
use std::path::Path;

/// The seeds of a recipe, those first with which values are measured; otherwise what is wrong with them.
pub fn order(recipe: &SuiteRecipe, tasks: &[Task]) -> Result<Vec<u64>, String> {
    if !recipe.sweep_seeds.is_empty() {
        if tasks.iter().all(|task| task.sweep.is_none()) {
            return Err(format!("has sweep-seeds, but no {SWEEP} in a task's table"));
        }
        if let Some(seed) = recipe
            .sweep_seeds
            .iter()
            .find(|seed| !recipe.seeds.contains(seed))
        {
            return Err(format!("sweep-seeds has {seed}, which is not one of its seeds"));
        }
    }
    let (first, then): (Vec<u64>, Vec<u64>) =
        recipe.seeds.iter().partition(|&&seed| recipe.sweeps_with(seed));
    Ok([first, then].concat())
}

/// Finds the cells that a sweep's choices are made from, and adds to every cell with its backbone's own best
/// value one with the value that is best on average.
pub fn add(cells: &mut Vec<SuiteCell>, recipe: &SuiteRecipe, number: usize, sweep: &Sweep, out: &Path) {
    let is_own = |cell: &SuiteCell| cell.pick.as_ref().is_some_and(|pick| pick.sweep == number);
    let own: Vec<usize> = (0..cells.len()).filter(|&i| is_own(&cells[i])).collect();
    let mut all = BTreeSet::new();
    for &i in &own {
        // With seeds for the sweep a run has one value, chosen over them; otherwise every backbone its own.
        let measures = |other: &SuiteCell| {
            other.run == cells[i].run
                && sweep.tasks.contains(&other.task)
                && (!recipe.sweep_seeds.is_empty() || other.seed == cells[i].seed)
        };
        let among: Vec<usize> = (0..cells.len()).filter(|&j| measures(&cells[j])).collect();
        all.extend(among.iter().copied());
        cells[i].pick.as_mut().expect("it has one").among = among;
    }
    for twin in own {
        let cell = cells[twin].clone();
        cells.push(SuiteCell {
            task: sweep.shared_task.clone(),
            folder: cell_folder(out, &slug(&cell.run), cell.seed, &sweep.shared_task),
            pick: Some(Pick {
                sweep: number,
                shared: true,
                among: all.iter().copied().collect(),
                twin: Some(twin),
            }),
            ..cell
        });
    }
}
