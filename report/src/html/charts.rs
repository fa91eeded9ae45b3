//! Charts and their legends, as the template shows them.

use crate::chart::{self, Panel, chart};
use serde::Serialize;

#[derive(Serialize)]
struct Legend {
    name: String,
    colour: String,
    dashes: &'static str,
}

/// Charts over one legend.
#[derive(Serialize)]
pub(super) struct Charts {
    svgs: Vec<String>,
    legend: Vec<Legend>,
}

/// The charts of panels; `None` without any.
pub(super) fn charts(panels: &[Panel]) -> Option<Charts> {
    let drawn = |line: usize| panels.iter().any(|panel| !panel.series[line].1.is_empty());
    let names = panels
        .first()?
        .series
        .iter()
        .enumerate()
        .filter(|(i, _)| drawn(*i));
    let legend = names.map(|(i, (name, _))| Legend {
        name: name.clone(),
        colour: chart::colour(i),
        dashes: chart::dashes(i),
    });
    Some(Charts {
        svgs: panels.iter().map(chart).collect(),
        legend: legend.collect(),
    })
}
