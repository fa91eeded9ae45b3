//! Panels for the chart: training losses, and numbers over the x of a suite's runs.

use crate::chart::{Axis, Panel, Point};
use crate::compare::{Comparison, Line};
use crate::rows::{Gathered, Row};
use crate::words;

/// A panel of training losses for each task that has any, one line per row; for several seeds, the first with
/// a log.
pub fn losses(all: &Gathered) -> Vec<Panel> {
    let panel = |task: &str| {
        over_steps(all, task, |row| {
            let course = row
                .cells(task)
                .map(|(_, found)| &found.course.losses)
                .find(|losses| losses.len() > 1);
            course.cloned().unwrap_or_default()
        })
    };
    all.tasks().into_iter().filter_map(panel).collect()
}

/// A panel of `points` by step, one line per row; `None` where no row has any.
pub fn over_steps(all: &Gathered, title: &str, points: impl Fn(&Row) -> Vec<(f64, f64)>) -> Option<Panel> {
    let line = |row: &Row| {
        let point = |(x, y)| Point { x, y, spread: 0.0 };
        (row.run.name.clone(), points(row).into_iter().map(point).collect())
    };
    let series: Vec<(String, Vec<Point>)> = all.rows.iter().map(line).collect();
    let any = series.iter().any(|(_, points)| !points.is_empty());
    any.then(|| Panel {
        title: title.to_owned(),
        x_axis: "step".into(),
        axis: Axis::Numbers,
        series,
    })
}

/// A panel for each column over the x of the runs, one line per series. Scores of another protocol have a
/// separate panel; measures that are not scores may be measured on the images that x counts, so they are all
/// in one.
pub fn over_x(all: &Gathered, tables: &[Comparison]) -> Vec<Panel> {
    let mut names: Vec<&str> = Vec::new();
    for name in all.rows.iter().filter_map(|row| row.run.series.as_deref()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let x_axis = all
        .suites
        .iter()
        .map(|suite| &suite.x_axis)
        .find(|axis| !axis.is_empty());
    let panel = |column: usize, title: String, tables: &[Comparison]| {
        let point = |line: &Line| {
            let summary = line.entries[column].summary?;
            Some(Point {
                x: all.rows[line.row].run.x?,
                y: summary.mean,
                spread: summary.half.unwrap_or(0.0),
            })
        };
        let line = |name: &&str| {
            let lines = tables.iter().flat_map(|table| &table.lines);
            let own = lines.filter(|line| all.rows[line.row].run.series.as_deref() == Some(name));
            let mark = words::mark_if(
                own.clone().any(|line| line.partial().is_some()),
                own.clone().any(|line| line.leakage().is_some()),
            );
            (format!("{name}{mark}"), own.filter_map(point).collect())
        };
        let series = names.iter().map(line).collect();
        Panel {
            title,
            x_axis: x_axis.cloned().unwrap_or_default(),
            axis: Axis::Places,
            series,
        }
    };
    let columns = all
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| !column.validation);
    let panels = columns.flat_map(|(i, column)| {
        let title = words::title(column);
        match column.headline {
            true => tables
                .chunks(1)
                .map(|one| {
                    let apart = if one[0].number > 1 {
                        format!(", table {}", one[0].number)
                    } else {
                        String::new()
                    };
                    panel(i, title.clone() + &apart, one)
                })
                .collect(),
            false => vec![panel(i, title, tables)],
        }
    });
    panels
        .filter(|panel| panel.series.iter().any(|(_, points)| !points.is_empty()))
        .collect()
}
