//! `sweep = { lr = [0.01, 0.02, 0.05] }` in a task's table: values of a flag to choose from, and the part of
//! the training data to choose on.

use camtrast_detection::voc::VocSplit;
use camtrast_report::record::COURSE;
use std::path::Path;
use toml::{Table, Value};

/// The key of a task's table.
pub const SWEEP: &str = "sweep";
/// Share of the training images that is validated on, where the data has no lists for it.
const HELD: f64 = 0.2;
/// Flags that say what is trained on and tested on.
const DATA: [&str; 6] = [
    "train",
    "test",
    "train-split",
    "val-split",
    "holdout",
    "label-share",
];

/// Values of a flag.
pub struct Grid {
    /// The flag.
    pub flag: String,
    /// Its values, ascending.
    pub values: Vec<Value>,
}

impl Grid {
    /// Takes the sweep out of the table of a task; otherwise what is wrong with it.
    pub fn take(table: &mut Table, task: &str) -> Result<Option<Grid>, String> {
        let Some(sweep) = table.remove(SWEEP) else {
            return Ok(None);
        };
        let wrong = |problem: &str| Err(format!("[{task}] sweep {problem}"));
        let one = sweep.as_table().filter(|sweep| sweep.len() == 1);
        let Some((flag, Value::Array(values))) = one.and_then(|sweep| sweep.iter().next()) else {
            return wrong("is not one flag with a list of values, as in sweep = { lr = [0.01, 0.02, 0.05] }");
        };
        let flag = flag.replace('_', "-");
        if let Some(text) = values.iter().find(|value| number(value).is_none()) {
            return wrong(&format!("of {flag}: {text} is not a number"));
        }
        if values.len() < 2 {
            return wrong(&format!(
                "of {flag} needs two values or more; a single one is {flag} = .. in the table itself"
            ));
        }
        if table.keys().any(|key| key.replace('_', "-") == flag) {
            return wrong(&format!("of {flag}: the table sets {flag}, too"));
        }
        if COURSE.contains(&&flag[..]) || DATA.contains(&&flag[..]) {
            return wrong(&format!("of {flag}: it is not a setting of training"));
        }
        let mut values = values.clone();
        values.sort_by(|a, b| number(a).partial_cmp(&number(b)).expect("they are numbers"));
        if let Some(pair) = values
            .windows(2)
            .find(|pair| number(&pair[0]) == number(&pair[1]))
        {
            return wrong(&format!("of {flag} names {} twice", pair[0]));
        }
        Ok(Some(Grid { flag, values }))
    }

    /// The values as text.
    pub fn texts(&self) -> Vec<String> {
        self.values.iter().map(ToString::to_string).collect()
    }

    /// Refuses settings of a single run that say the same, or on which data; `own` is the run's table.
    pub fn check_own(&self, own: &Table) -> Result<(), String> {
        let clash = |key: &&String| **key == self.flag || DATA.contains(&&key[..]);
        match own.keys().find(clash) {
            Some(key) => Err(format!(
                "{key} cannot be its own, because {} is chosen for every run in the same way",
                self.flag
            )),
            None => Ok(()),
        }
    }
}

fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Integer(number) => *number as f64,
        Value::Float(number) => *number,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

/// The table of a task for validation, and what it is trained and validated on, as a text.
pub fn validation(command: &str, shared: &Table) -> (Table, String) {
    let mut table = shared.clone();
    if let Some([train, val]) = halves(shared) {
        let words = format!("trained on {train}, validated on {val}");
        table.insert("train".into(), train.into());
        table.insert("test".into(), val.into());
        return (table, words);
    }
    table.insert("holdout".into(), HELD.into());
    let part = match command {
        "detection train" => "a drawn fifth of the training images",
        "segmentation train" => "the last fifth of the training images by name",
        _ => "a drawn fifth of the labelled training images of each class",
    };
    (table, format!("trained without {part}, validated on it"))
}

/// `2007:train` and `2007:val` in place of `2007:trainval`, where all splits have these lists.
fn halves(shared: &Table) -> Option<[String; 2]> {
    let root = Path::new(shared.get("voc")?.as_str()?);
    let splits = match shared.get("train")? {
        Value::Array(splits) => splits.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
        text => text.as_str()?.split(',').collect(),
    };
    let halves = splits
        .iter()
        .map(|split| split.trim().parse::<VocSplit>().ok()?.halves(root));
    let halves: Vec<[VocSplit; 2]> = halves.collect::<Option<_>>()?;
    let joined = |i: usize| {
        let names: Vec<String> = halves.iter().map(|pair| pair[i].to_string()).collect();
        names.join(",")
    };
    Some([joined(0), joined(1)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(sweep: &str) -> Result<Option<Grid>, String> {
        Grid::take(&mut sweep.parse().unwrap(), "detection")
    }

    #[test]
    fn a_sweep_is_one_flag_with_several_numbers() {
        let grid = taken("sweep = { lr = [0.05, 0.01, 1] }").unwrap().unwrap();
        assert_eq!(
            (&grid.flag[..], grid.texts()),
            ("lr", vec!["0.01".into(), "0.05".into(), "1".into()])
        );
        assert!(taken("lr = 1").unwrap().is_none());
        for (wrong, said) in [
            ("sweep = [0.1, 0.2]", "is not one flag"),
            ("sweep = { lr = 0.1 }", "is not one flag"),
            ("sweep = { lr = [1, 2], steps = [1, 2] }", "is not one flag"),
            ("sweep = { lr = [0.1] }", "needs two values"),
            ("sweep = { lr = [] }", "needs two values"),
            ("sweep = { lr = [0.1, \"high\"] }", "\"high\" is not a number"),
            ("sweep = { lr = [0.1, nan] }", "nan is not a number"),
            ("sweep = { lr = [1, 1.0] }", "twice"),
            ("lr = 1\nsweep = { lr = [1, 2] }", "the table sets lr, too"),
            ("sweep = { threads = [1, 2] }", "not a setting of training"),
            ("sweep = { holdout = [0.1, 0.2] }", "not a setting of training"),
        ] {
            let problem = taken(wrong).err().unwrap_or_default();
            assert!(
                problem.starts_with("[detection] sweep ") && problem.contains(said),
                "{problem}"
            );
        }
    }

    #[test]
    fn what_is_validated_on_is_a_part_of_what_is_trained_on() {
        let root = tempfile::tempdir().unwrap();
        let lists = root.path().join("VOC2007/ImageSets/Main");
        std::fs::create_dir_all(&lists).unwrap();
        let mut table = Table::new();
        table.insert("voc".into(), root.path().display().to_string().into());
        table.insert("train".into(), "2007:trainval".into());
        table.insert("test".into(), "2007:test".into());
        let (held, words) = validation("detection train", &table);
        assert_eq!(
            (held["holdout"].as_float(), held["test"].as_str()),
            (Some(0.2), Some("2007:test"))
        );
        assert!(words.contains("a drawn fifth"), "{words}");
        for name in ["train", "val"] {
            std::fs::write(lists.join(format!("{name}.txt")), "a\n").unwrap();
        }
        let (halves, words) = validation("detection train", &table);
        assert_eq!(
            (halves["train"].as_str(), halves["test"].as_str()),
            (Some("2007:train"), Some("2007:val"))
        );
        assert!(
            !halves.contains_key("holdout") && words.contains("validated on 2007:val"),
            "{words}"
        );
        table.insert("train".into(), "2007:trainval,2007:train".into());
        assert!(validation("detection train", &table).0.contains_key("holdout"));
    }
}
