//! What the command line says of itself to shells, to `man` and to `--config`.

use crate::world::{CONTRAST, PLAIN, Place, TINY, list};
use std::process::Command;

#[test]
fn every_command_has_a_man_page() {
    let place = Place::new();
    assert_eq!(place.ok("man --out pages").stdout, "pages\n");
    let pages = list(&place.path("pages"));
    // Every page names those of its commands, `camtrast\-suite\-run(1)`.
    let mut named = vec!["camtrast.1".to_owned()];
    for page in &pages {
        let text = place.text(&format!("pages/{page}"));
        let commands = text.lines().filter_map(|line| line.strip_suffix("(1)"));
        named.extend(commands.map(|name| name.replace('\\', "") + ".1"));
    }
    named.sort();
    assert_eq!(pages, named);
    let help = place.ok("--help").stdout;
    let commands = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next()
        .unwrap();
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()) {
        let page = format!("camtrast-{command}.1");
        assert!(command == "help" || pages.contains(&page), "{page}");
    }
    assert!(pages.contains(&"camtrast-suite-run.1".to_owned()));
    let text = place.text("pages/camtrast-pretrain.1");
    let said = [
        ".TH camtrast-pretrain 1",
        "\\-\\-print\\-config",
        "camtrast\\-moco",
    ];
    said.iter()
        .for_each(|part| assert!(text.contains(part), "{part}: {text}"));
    // Pages that are there are written again.
    place.ok("man --out pages");
    place.write("file", "");
    place.fails("man --out file/pages", &["file/pages", "cannot create"]);
}

/// What `make docs` shows as the reference: every command and every flag of its help.
#[test]
fn every_command_has_its_reference_in_markdown() {
    let place = Place::new();
    place.ok("man --out pages --markdown");
    let help = |command: &str| place.ok(&format!("{command} --help")).stdout;
    let below = |command: &str| -> Vec<String> {
        let text = help(command);
        let Some((_, list)) = text.split_once("Commands:\n") else {
            return Vec::new();
        };
        let names = list.lines().take_while(|line| !line.is_empty());
        let names = names.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
        let names = names.filter(|name| {
            *name != "help" && !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase())
        });
        names
            .map(|name| format!("{command} {name}").trim().to_owned())
            .collect()
    };
    let first = below("");
    let pages: Vec<String> = first.iter().map(|name| format!("{name}.md")).collect();
    let mut sorted = pages.clone();
    sorted.sort();
    assert_eq!(list(&place.path("pages")), sorted);
    let mut flags = 0;
    for name in &first {
        let page = place.text(&format!("pages/{name}.md"));
        let mut commands = below(name);
        if commands.is_empty() {
            commands.push(name.clone());
        }
        for command in commands {
            assert!(
                page.contains(&format!("# camtrast {command}\n")),
                "{command}: {page}"
            );
            let text = help(&command);
            for word in text.split_whitespace().filter(|word| word.starts_with("--")) {
                let flag = word.trim_end_matches(|c: char| !c.is_alphanumeric());
                let named = flag.len() > 2 && !["--help", "--version"].contains(&flag);
                flags += named as usize;
                assert!(!named || page.contains(flag), "{command}: {flag}");
            }
        }
    }
    assert!(flags > 200, "{flags}");
    let page = place.text("pages/pretrain.md");
    let line = page
        .lines()
        .find(|line| line.starts_with("- `--method "))
        .unwrap();
    assert!(
        line.contains("(required)") && line.contains("`camtrast-simsiam`"),
        "{line}"
    );
}

#[test]
fn shells_complete_commands_flags_and_values() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = place.ok(&format!("completions {shell}")).stdout;
        for word in ["segmentation", "print-config"] {
            assert!(script.contains(word), "{shell} knows no {word}");
        }
    }
    place.misused("completions tcsh", &["tcsh", "bash", "zsh", "fish"]);
    place.write("completions.bash", place.ok("completions bash").stdout);
    for (line, offered) in [
        ("camtrast detec", "detection"),
        ("camtrast detection sc", "score"),
        ("camtrast pretrain --print", "--print-config"),
        (
            "camtrast pretrain --method camtrast-",
            "camtrast-moco camtrast-simsiam",
        ),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let [.., before, last] = words[..] else {
            panic!("{line}")
        };
        let words_before = words.len() - 1;
        let ask = format!(
            "source ./completions.bash; COMP_WORDS=({line}); COMP_CWORD={words_before}; \
             _camtrast camtrast {last} {before}; echo \"${{COMPREPLY[*]}}\""
        );
        let bash = Command::new("bash")
            .args(["-c", &ask])
            .current_dir(place.path(""))
            .output()
            .unwrap();
        let answer = String::from_utf8(bash.stdout).unwrap();
        assert_eq!(answer.trim(), offered, "{line}");
    }
}

/// Prints the configuration of a training command, makes the run, and makes it again from what was printed.
/// `plain` is what decides no setting.
pub fn assert_printed_is_the_runs_own(place: &Place, command: &str, flags: &str, plain: &str, run: &str) {
    let before = list(&place.path(""));
    let printed = place
        .ok(&format!("{command} {flags} {plain} --print-config"))
        .stdout;
    assert_eq!(list(&place.path("")), before, "printing leaves nothing");
    let printed_file = format!("{run}.toml");
    place.write(&printed_file, &printed);
    let again = format!("{command} --config {printed_file} {plain}");
    assert_eq!(place.ok(&format!("{again} --print-config")).stdout, printed);

    place.ok(&format!("{command} {flags} {plain} --out {run}"));
    place.ok(&format!("{again} --out {run}-again"));
    let config = place.text(&format!("{run}/config.toml"));
    assert_eq!(config, place.text(&format!("{run}-again/config.toml")));
    let (settings, _) = config.split_once("\n[dataset]").unwrap();
    assert_eq!(settings, printed, "{run}");
}

#[test]
fn a_printed_configuration_of_pretraining_is_its_runs_own() {
    let place = Place::new();
    let part = "--classes 5 --epochs 1 --seed 3";
    for (run, flags) in [
        ("moco", CONTRAST),
        (
            "supervised",
            "--clip-norm 1 --accumulate 2 --jitter 0.1,0.2,0.3,0",
        ),
        ("camtrast-simsiam", "--preset released-code"),
        ("scratch", "--epochs 0"),
    ] {
        let flags = format!("--method {run} {TINY} {part} {flags}");
        assert_printed_is_the_runs_own(&place, "pretrain", &flags, PLAIN, run);
    }
    let moco: toml::Table = place.text("moco.toml").parse().unwrap();
    assert_eq!(
        moco["key-momentum"].as_float(),
        Some(0.999),
        "a default of the method"
    );
    let released: toml::Table = place.text("camtrast-simsiam.toml").parse().unwrap();
    assert_eq!(released["preset"].as_str(), Some("released-code"));
    // What could not run is not printed either, and a run that is there stays as it is.
    let bad = format!("pretrain --method supervised {TINY} --epochs 0 --print-config");
    assert_eq!(place.fails(&bad, &["--epochs 0"]).stdout, "");
    let config = place.text("moco/config.toml");
    place.ok(&format!(
        "pretrain --method byol {TINY} --out moco --overwrite --print-config"
    ));
    assert_eq!(place.text("moco/config.toml"), config);
    assert!(place.path("moco/backbone.safetensors").exists());
    place.misused(&format!("pretrain --method byol {TINY}"), &["--out"]);
}
