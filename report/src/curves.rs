//! Panels for the chart: training losses, and numbers over what a suite varies.

use crate::chart::{Axis, Panel, Point};
use crate::compare::{Comparison, Entry};
use crate::gather::Gathered;
use crate::words;

/// A panel of training losses for each task that has any, a line per row; of several seeds the first with a log.
pub fn losses(all: &Gathered) -> Vec<Panel> {
    let panel = |task: &str| {
        let line = |row: &crate::gather::Row| {
            let course = row.cells(task).map(|(_, found)| &found.course.losses).find(|losses| losses.len() > 1);
            let points = course.into_iter().flatten().map(|&(x, y)| Point { x, y, spread: 0.0 }).collect();
            (row.run.name.clone(), points)
        };
        let series: Vec<(String, Vec<Point>)> = all.rows.iter().map(line).collect();
        let any = series.iter().any(|(_, points)| !points.is_empty());
        any.then(|| Panel { title: task.to_owned(), x_axis: "step".into(), axis: Axis::Numbers, series })
    };
    all.tasks().into_iter().filter_map(panel).collect()
}

/// A panel for each column over the x of the runs, a line per series; of each point the table that has it.
pub fn over_x(all: &Gathered, tables: &[Comparison]) -> Vec<Panel> {
    let mut names: Vec<&str> = Vec::new();
    for name in all.rows.iter().filter_map(|row| row.run.series.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let lines = || tables.iter().flat_map(|table| &table.lines);
    let panel = |(i, column)| {
        let point = |row: usize, entry: &Entry| {
            let summary = entry.summary?;
            Some(Point { x: all.rows[row].run.x?, y: summary.mean, spread: summary.half.unwrap_or(0.0) })
        };
        let series = names.iter().map(|name| {
            let own = lines().filter(|line| all.rows[line.row].run.series.as_deref() == Some(name));
            ((*name).to_owned(), own.filter_map(|line| point(line.row, &line.entries[i])).collect())
        });
        let x_axis = all.suites.iter().map(|suite| &suite.x_axis).find(|axis| !axis.is_empty()).cloned();
        Panel {
            title: words::title(column),
            x_axis: x_axis.unwrap_or_default(),
            axis: Axis::Places,
            series: series.collect(),
        }
    };
    let panels = all.columns.iter().enumerate().map(panel);
    panels.filter(|panel| panel.series.iter().any(|(_, points): &(String, Vec<Point>)| !points.is_empty())).collect()
}
