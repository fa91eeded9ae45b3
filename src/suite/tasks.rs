//! The tasks of a recipe: what every backbone is transferred to.

use super::recipe::{Run, SuiteRecipe, slug};
use super::sweep::{Grid, validation};
use camtrast_report::record::{Column, Sweep};
use toml::Table;

/// A task of every run.
pub struct Task {
    /// Name, and that of its folder.
    pub name: String,
    /// Name of its test pack.
    pub pack: Option<String>,
    /// Such as `detection train`.
    pub command: &'static str,
    /// Flags for all runs.
    pub shared: Table,
    /// What a run says of it by itself.
    pub own: fn(&Run) -> Option<&Table>,
    /// Its columns in the report.
    pub columns: Vec<Column>,
    /// A setting to choose from, and the tasks that measure its values on validation images.
    pub sweep: Option<(Grid, Sweep)>,
}

impl Task {
    /// Whether it measures a value of a sweep on validation images.
    pub fn is_validation(&self) -> bool {
        self.columns.iter().any(|column| column.validation)
    }
}

/// The task that measures entropy and uniformity.
pub const REPRESENTATION: &str = "representation";
const PROBE: &str = "probe";
const FINETUNE: &str = "finetune";

/// The tasks of a recipe; otherwise what is wrong with it.
pub fn tasks(recipe: &SuiteRecipe) -> Result<Vec<Task>, String> {
    let mut tasks: Vec<Task> = Vec::new();
    // Precision and threads are set once, for all commands.
    let with = |table: &Table, more: &[(&str, String)]| {
        let inherited = ["precision", "threads"]
            .into_iter()
            .filter_map(|k| Some((k.to_owned(), recipe.pretrain.get(k)?.clone())));
        let more = more
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone().into()));
        inherited.chain(table.clone()).chain(more).collect::<Table>()
    };
    let packs = &recipe.data.test;
    for (name, pack) in packs {
        let (folder, prefix) = match packs.len() {
            1 => ("fewshot".to_owned(), String::new()),
            _ => (format!("fewshot-{}", slug(name)), format!("{name} ")),
        };
        let number = |key: &str, default: i64| {
            recipe
                .fewshot
                .get(key)
                .and_then(toml::Value::as_integer)
                .unwrap_or(default)
        };
        let shots: Vec<String> = match recipe.fewshot.get("shots") {
            Some(toml::Value::Array(shots)) => shots.iter().map(|s| s.to_string()).collect(),
            Some(toml::Value::String(shots)) => shots.split(',').map(|s| s.trim().to_owned()).collect(),
            Some(shots) => vec![shots.to_string()],
            None => vec!["1".into(), "5".into()],
        };
        let column = |shots: &String| {
            let metric = format!("fewshot/{}way{shots}shot", number("ways", 5));
            Column {
                ci95: Some(format!("{metric}/ci95")),
                ..column(
                    &format!("{prefix}{shots}-shot"),
                    &folder,
                    &format!("{metric}/mean"),
                    true,
                )
            }
        };
        tasks.push(Task {
            columns: shots.iter().map(column).collect(),
            name: folder.clone(),
            pack: Some(name.clone()),
            command: "fewshot eval",
            shared: with(&recipe.fewshot, &[("data", pack.display().to_string())]),
            own: |run| Some(&run.fewshot),
            sweep: None,
        });
    }
    if !recipe.probe.is_empty() {
        let named = [("linear", "linear"), ("kNN", "knn")];
        let named = named.map(|(title, probe)| Column {
            ci95: Some(format!("probe/{probe}/ci95")),
            ..column(title, PROBE, &format!("probe/{probe}/top1"), true)
        });
        tasks.push(Task {
            name: PROBE.into(),
            pack: None,
            command: "probe eval",
            shared: with(&recipe.probe, &[]),
            own: |_| None,
            columns: named.into(),
            sweep: None,
        });
    }
    if !recipe.finetune.is_empty() {
        tasks.extend(swept(Task {
            name: FINETUNE.into(),
            pack: None,
            command: "probe finetune",
            shared: with(&recipe.finetune, &[]),
            own: |_| None,
            columns: vec![Column {
                ci95: Some("probe/finetune/ci95".into()),
                ..column("fine-tuned", FINETUNE, "probe/finetune/top1", true)
            }],
            sweep: None,
        })?);
    }
    if !recipe.detection.is_empty() {
        let named = [
            ("AP", "AP", true),
            ("AP50", "AP50", true),
            ("AP75", "AP75", false),
            ("VOC07 mAP", "voc07_mAP", false),
        ];
        let named = named.map(|(title, metric, headline)| {
            column(title, "detection", &format!("detection/{metric}"), headline)
        });
        tasks.extend(swept(Task {
            name: "detection".into(),
            pack: None,
            command: "detection train",
            shared: with(&recipe.detection, &[]),
            own: |run| Some(&run.detection),
            columns: named.into(),
            sweep: None,
        })?);
    }
    if !recipe.segmentation.is_empty() {
        let named = [("mIoU", "mIoU", true), ("category mIoU", "category_mIoU", false)];
        let named = named.map(|(title, metric, headline)| {
            column(title, "segmentation", &format!("segmentation/{metric}"), headline)
        });
        tasks.extend(swept(Task {
            name: "segmentation".into(),
            pack: None,
            command: "segmentation train",
            shared: with(&recipe.segmentation, &[]),
            own: |run| Some(&run.segmentation),
            columns: named.into(),
            sweep: None,
        })?);
    }
    if !recipe.sweep_seeds.is_empty() {
        let seeds: Vec<String> = recipe.sweep_seeds.iter().map(u64::to_string).collect();
        for (_, sweep) in tasks.iter_mut().filter_map(|task| task.sweep.as_mut()) {
            let one = if seeds.len() == 1 { "seed" } else { "seeds" };
            sweep.validation += &format!(", with {one} {} for all", seeds.join(", "));
        }
    }
    if let (true, Some(train)) = (recipe.representation, &recipe.data.train) {
        let named = [
            ("H_R", "entropy"),
            ("U", "uniformity"),
            ("U unit", "uniformity_unit"),
            ("alignment", "alignment"),
            ("RankMe", "rankme"),
            ("a-ReQ", "alpha_req"),
            ("LiDAR", "lidar"),
            ("LogME", "logme"),
        ];
        let named = named.map(|(title, metric)| Column {
            percent: false,
            ..column(title, REPRESENTATION, &format!("representation/{metric}"), false)
        });
        tasks.push(Task {
            name: REPRESENTATION.into(),
            pack: None,
            command: "analyze representation",
            shared: with(&Table::new(), &[("data", train.display().to_string())]),
            own: |_| None,
            columns: named.into(),
            sweep: None,
        });
    }
    if let (true, Some(pack)) = (recipe.cam, packs.values().next()) {
        tasks.push(Task {
            name: "cam".into(),
            pack: None,
            command: "analyze cam",
            shared: with(&Table::new(), &[("data", pack.display().to_string())]),
            own: |_| None,
            columns: Vec::new(),
            sweep: None,
        });
    }
    Ok(tasks)
}

/// A task, or, if its table has a sweep, the tasks of the values and after them the task with the best value.
fn swept(mut task: Task) -> Result<Vec<Task>, String> {
    let Some(grid) = Grid::take(&mut task.shared, &task.name)? else {
        return Ok(vec![task]);
    };
    let (held, validation) = validation(task.command, &task.shared);
    let chosen_by = task.columns[0].clone();
    let flag = &grid.flag;
    let mut tasks: Vec<Task> = Vec::new();
    for (value, text) in grid.values.iter().zip(grid.texts()) {
        let name = format!("{}-{flag}-{text}", task.name);
        let mut shared = held.clone();
        shared.insert(flag.clone(), value.clone());
        let column = Column {
            title: format!("{}, validation at {flag} {text}", chosen_by.title),
            task: name.clone(),
            headline: false,
            validation: true,
            ..chosen_by.clone()
        };
        tasks.push(Task {
            name,
            pack: None,
            command: task.command,
            shared,
            own: task.own,
            columns: vec![column],
            sweep: None,
        });
    }
    let shared_task = format!("{}-shared", task.name);
    let shared: Vec<Column> = task
        .columns
        .iter()
        .map(|column| Column {
            title: format!("{}, shared {flag}", column.title),
            task: shared_task.clone(),
            ..column.clone()
        })
        .collect();
    let sweep = Sweep {
        task: task.name.clone(),
        shared_task,
        flag: flag.clone(),
        values: grid.texts(),
        tasks: tasks.iter().map(|task| task.name.clone()).collect(),
        metric: chosen_by.metric,
        title: chosen_by.title,
        validation,
    };
    task.columns.extend(shared);
    task.sweep = Some((grid, sweep));
    tasks.push(task);
    Ok(tasks)
}

fn column(title: &str, task: &str, metric: &str, headline: bool) -> Column {
    let (title, task, metric) = (title.to_owned(), task.to_owned(), metric.to_owned());
    Column {
        title,
        task,
        metric,
        ci95: None,
        percent: true,
        headline,
        validation: false,
    }
}
