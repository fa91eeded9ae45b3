//! What is said beside the tables: choices of sweeps, what predicts what, and the order of runs.

use crate::chart::{Axis, Panel, Point};
use crate::compare::Comparison;
use crate::diagram::critical_difference;
use crate::order::{Order, Tested, order};
use crate::predict::{Correlation, FEWEST, Matrix, Pair, Prediction, prediction};
use crate::ranks::METHODS;
use crate::rows::Gathered;
use crate::sweeps::{Swept, sweeps};
use crate::table::Table;
use crate::words;

/// All of it.
pub struct Findings {
    /// The sweeps.
    pub sweeps: Vec<Swept>,
    /// Correlations of the first table.
    pub prediction: Prediction,
    /// The order in each table that has one, with the table's number.
    pub orders: Vec<(usize, Order)>,
}

impl Findings {
    /// Of gathered results and their tables.
    pub fn of(all: &Gathered, tables: &[Comparison]) -> Self {
        let ordered = |table: &Comparison| Some((table.number, order(all, table)?));
        Findings {
            sweeps: sweeps(all),
            prediction: prediction(all, tables),
            orders: tables.iter().filter_map(ordered).collect(),
        }
    }
}

impl Swept {
    /// The grid as a table.
    pub fn table(&self) -> Table {
        let mut table = Table::new(["run".to_owned()].into_iter().chain(self.columns.clone()));
        for (run, scores, chosen) in &self.rows {
            table.row([run].into_iter().chain(scores).chain([chosen]).cloned());
        }
        table
    }
}

/// Why nothing is said, if there are too few backbones.
pub fn refusal(prediction: &Prediction) -> Option<String> {
    let Prediction::TooFew(backbones) = prediction else {
        return None;
    };
    Some(format!(
        "Which cheap measure predicts which transfer cannot be said from {backbones} backbones: it takes \
         {FEWEST} that have both a measure and a number."
    ))
}

/// How correlations are to be read.
pub const READING: &str = "Rank correlations over backbones (every seed of a run is one): Spearman's ρ, and \
    Kendall's τ (tau-b). In brackets the percentiles 2.5 and 97.5 of 1,000 bootstrap draws of runs, all \
    seeds of a run together: seeds of a run are alike and add little. An interval that contains zero says \
    nothing about the sign. p is that of a permutation test of ρ between the runs' means over seeds, \
    two-sided, with Holm's correction for all pairs beside it. A correlation over these backbones says \
    nothing about others.";

/// A correlation with its interval: `0.83 [0.40, 0.95]`.
pub fn correlation(of: &Correlation) -> String {
    let value = words::signed(of.value);
    match of.interval {
        Some([low, high]) => format!("{value} [{}, {}]", words::signed(low), words::signed(high)),
        None => value,
    }
}

/// `p = 0.031, Holm 0.124`, if there is a test.
pub fn significance(pair: &Pair) -> Option<String> {
    pair.test.map(|test| words::both_p(test.p, test.holm))
}

/// Why a pair has no correlation.
pub fn absence(pair: &Pair) -> String {
    match pair.backbones.len() {
        few if few < FEWEST => format!("{few} backbones"),
        _ => "all alike".into(),
    }
}

impl Matrix {
    /// The matrix, measures down, numbers across.
    pub fn table(&self, all: &Gathered) -> Table {
        let titles = self
            .numbers
            .iter()
            .map(|&column| all.columns[column].title.clone());
        let mut table = Table::new(["measure".to_owned()].into_iter().chain(titles));
        for (&measure, pairs) in self.measures.iter().zip(&self.pairs) {
            let cells = pairs.iter().map(|pair| match &pair.correlations {
                Some([rho, tau]) => {
                    let test = significance(pair).map_or(String::new(), |text| format!(" ({text})"));
                    format!("ρ {}, τ {}{test}", correlation(rho), correlation(tau))
                }
                None => absence(pair),
            });
            table.row([all.columns[measure].title.clone()].into_iter().chain(cells));
        }
        table
    }

    /// The scatter plot of a pair, a series for each run.
    pub fn scatter(&self, all: &Gathered, measure: usize, number: usize) -> Panel {
        let [x, y] =
            [self.measures[measure], self.numbers[number]].map(|column| words::title(&all.columns[column]));
        let backbones = &self.pairs[measure][number].backbones;
        let points = |row: usize| {
            let own = backbones.iter().filter(move |backbone| backbone.row == row);
            own.map(|b| Point {
                x: b.x,
                y: b.y,
                spread: 0.0,
            })
            .collect()
        };
        let rows = all.rows.iter().enumerate();
        Panel {
            title: y,
            x_axis: x,
            axis: Axis::Scatter,
            series: rows.map(|(i, row)| (row.run.name.clone(), points(i))).collect(),
        }
    }
}

impl Order {
    /// The average ranks as a table.
    pub fn table(&self, all: &Gathered) -> Table {
        let titles = self
            .columns
            .iter()
            .map(|&column| all.columns[column].title.clone());
        let mut table = Table::new(["run".to_owned()].into_iter().chain(titles).chain(["all".into()]));
        let text = |rank: &Option<f64>| rank.map_or("–".to_owned(), words::fixed);
        for (row, ranks, mean) in &self.runs {
            let cells = ranks.iter().chain([mean]).map(text);
            table.row([all.rows[*row].run.name.clone()].into_iter().chain(cells));
        }
        table
    }

    /// What the ranks are, and what the tests say.
    pub fn sentences(&self, all: &Gathered) -> Vec<String> {
        let about = "Mean ranks over the seeds of the first number of each task, 1 the best, and their mean \
                     over the tasks; the test over tasks ranks the runs' means. Runs that lack a seed of the \
                     others have no rank."
            .to_owned();
        let tests = self.tests.iter().map(|tested| {
            let found = match tested.holm < 0.05 {
                true => "there are differences",
                false => "no difference between runs is shown",
            };
            let p = words::both_p(tested.test.p, tested.holm);
            let (statistic, title) = (words::fixed(tested.test.statistic), tested.title(all));
            format!("{title}: Friedman's χ² = {statistic}, {p}: {found}.")
        });
        let method = (!self.tests.is_empty()).then(|| {
            "In the pictures, runs that a bar joins do not differ at 5 % by Nemenyi's test (Demšar 2006). \
             With few seeds or tasks the tests find only large differences, and their p is rough."
                .to_owned()
        });
        let [fewest, most] = METHODS;
        let none = self.tests.is_empty().then(|| {
            format!(
                "No test: it takes two seeds or two tasks, and {fewest} to {most} runs that have all of them."
            )
        });
        [about]
            .into_iter()
            .chain(tests)
            .chain(method)
            .chain(none)
            .collect()
    }

    /// The diagrams of the tests.
    pub fn diagrams(&self, all: &Gathered) -> Vec<String> {
        let drawn = |tested: &Tested| {
            let names = tested.rows.iter().map(|&row| all.rows[row].run.name.clone());
            let methods: Vec<(String, f64)> = names.zip(tested.test.ranks.iter().copied()).collect();
            critical_difference(&tested.title(all), &methods, tested.test.critical_difference)
        };
        self.tests.iter().map(drawn).collect()
    }
}

impl Tested {
    /// `AP over 3 seeds`, `all over 2 tasks`.
    pub fn title(&self, all: &Gathered) -> String {
        match self.column {
            Some(column) => format!("{} over {} seeds", all.columns[column].title, self.blocks),
            None => format!("all over {} tasks", self.blocks),
        }
    }
}
