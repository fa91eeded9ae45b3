//! What was done once is not done again: settings that come back, settings written out, other suites.

use super::{RECIPE, results, run, states};
use crate::world::Place;

#[test]
fn settings_that_come_back_find_their_results() {
    let place = Place::new();
    let recipe = RECIPE.replace("[0, 1]", "[0]");
    let other = recipe.replace("classes = 16", "classes = 16, lr = 0.01");
    let command = run("recipe.toml", "suite");
    place.write("recipe.toml", &recipe);
    place.ok(&command);
    let first = results(&place, "suite");
    place.write("recipe.toml", &other);
    place.ok(&command);
    assert_ne!(results(&place, "suite"), first);
    place.write("recipe.toml", &recipe);
    let plan = place.ok(&format!("{command} --dry-run")).stdout;
    assert_eq!((states(&plan, "reuse"), states(&plan, "done")), (3, 6), "{plan}");
    assert!(plan.ends_with("nothing left to do\n"), "{plan}");
    let done = place.ok(&command);
    assert!(!done.stderr.contains("done in"), "{}", done.stderr);
    assert!(
        done.stderr
            .contains("Supervised, 16 s0 pretrain: taken from suite/outdated/"),
        "{}",
        done.stderr
    );
    assert_eq!(results(&place, "suite"), first);
}

#[test]
fn writing_out_a_default_changes_nothing() {
    let place = Place::new();
    let recipe = RECIPE.replace("[0, 1]", "[0]");
    place.write("recipe.toml", &recipe);
    place.ok(&run("recipe.toml", "suite"));
    let protocol = place.json("suite/runs/scratch-s0/fewshot/cell.json")["protocol"].clone();
    let written = recipe
        .replace("queries = 5", "ways = 5\nqueries = 5\nshots = [1, 5]")
        .replace(
            "batch-size = 16",
            "batch-size = 16\naccumulate = 1\nprecision = \"fp32\"\noptimizer = \"sgd\"",
        )
        .replace("resnet18-w8-small", "resnet18\"\nwidth = 8\nstem = \"small");
    place.write("recipe.toml", &written);
    let plan = place
        .ok(&format!("{} --dry-run", run("recipe.toml", "suite")))
        .stdout;
    assert!(plan.ends_with("nothing left to do\n"), "{plan}");
    // Nor are its numbers those of another protocol.
    place.ok(&run("recipe.toml", "written"));
    assert_eq!(
        place.json("written/runs/scratch-s0/fewshot/cell.json")["protocol"],
        protocol
    );
    place.write("recipe.toml", written.replace("ways = 5", "ways = 4"));
    let plan = place
        .ok(&format!("{} --dry-run", run("recipe.toml", "suite")))
        .stdout;
    assert_eq!(
        (states(&plan, "outdated"), states(&plan, "done")),
        (3, 6),
        "{plan}"
    );
}

#[test]
fn suites_share_their_pretraining() {
    let place = Place::new();
    let recipe = RECIPE.replace("[0, 1]", "[0]");
    place.write("one.toml", &recipe);
    place.ok(&run("one.toml", "one"));
    // Another table: other names, another task, the same networks.
    place.write(
        "two.toml",
        recipe
            .replace("Supervised, ", "Labels ")
            .replace("queries = 5", "queries = 7"),
    );
    let command = format!("{} --reuse one", run("two.toml", "two"));
    let plan = place.ok(&format!("{command} --dry-run")).stdout;
    assert_eq!((states(&plan, "reuse"), states(&plan, "to do")), (6, 3), "{plan}");
    let done = place.ok(&command);
    assert!(!done.stderr.contains("pretrain done in"), "{}", done.stderr);
    assert!(
        done.stderr.contains("Labels 16 s0 fewshot done in"),
        "{}",
        done.stderr
    );
    for name in ["8", "16"] {
        let [one, two] = [
            format!("one/runs/supervised-{name}-s0"),
            format!("two/runs/labels-{name}-s0"),
        ];
        assert!(
            place.bytes(&format!("{one}/backbone.safetensors"))
                == place.bytes(&format!("{two}/backbone.safetensors"))
        );
    }
    assert_eq!(place.json("two/runs/labels-8-s0/cell.json")["run"], "Labels 8");
    assert!(place.ok("suite status two").stdout.contains("9 of 9 done"));
    place.fails(
        &format!("{} --reuse world", run("two.toml", "three")),
        &["world: is not the folder of a suite"],
    );
}
