//! MoCo v2 and Exemplar: loss, gradients and the queue with its labels.

use super::{CLASSES, build, compare, gradients, labels, moment, views};
use camtrast_common::testing::{Case, Worst, relative_error, same};
use camtrast_pretrain::Method;
use camtrast_pretrain::contrast::info_nce;
use tch::{Device, Kind, Tensor, no_grad};

#[test]
fn keys_of_the_same_class_are_no_negatives() {
    let case = Case::open("infonce");
    let [q, k, queue] = ["q", "k", "queue"].map(|name| case.tensor(name).to_kind(Kind::Float));
    let excluded = case
        .tensor("labels")
        .unsqueeze(1)
        .eq_tensor(&case.tensor("queue_labels"));
    let temperature = case.json("temperature")["exemplar"].as_f64().unwrap();
    let q = q.set_requires_grad(true);
    let (loss, _) = info_nce(&q, &k, &queue, Some(&excluded), temperature).unwrap();
    loss.backward();
    let mut worst = Worst::default();
    worst.add(
        "loss",
        relative_error(&loss.view([1]), &case.tensor("exemplar.loss")),
    );
    worst.add(
        "grad_q",
        relative_error(&q.grad(), &case.tensor("exemplar.grad_q")),
    );
    worst.check("infonce exemplar", 1e-6);
}

// The second batch meets the keys of the first, and runs around the queue's end.
#[test]
fn two_batches_are_the_references() {
    let case = Case::open("exemplar");
    for name in [Method::Moco, Method::Exemplar] {
        let named = |what: &str| case.tensor(&format!("{name}.{what}"));
        let (mut method, options) = build(name, &case.json("options"), "key");
        let mut queue_labels = method.extra_state().remove("queue/labels").unwrap();
        let initial = Tensor::arange(12, (Kind::Int64, Device::Cpu)).remainder(7) - 1;
        no_grad(|| queue_labels.copy_(&initial));

        let mut worst = Worst::default();
        for batch in 0..2 {
            let labels = (labels() + batch).remainder(CLASSES);
            let loss = method
                .loss(&views(batch as u64, 2), &labels, &moment(0, &options))
                .unwrap()
                .total;
            worst.add(
                &format!("loss of batch {batch}"),
                relative_error(&loss, &named("loss").get(batch)),
            );
            method
                .groups()
                .into_iter()
                .flat_map(|group| group.params)
                .for_each(|(_, mut p)| p.zero_grad());
            loss.backward();
        }
        compare(
            &mut worst,
            "gradient",
            &gradients(method.as_ref()),
            &named("grads"),
        );
        worst.add(
            "queue",
            relative_error(&method.extra_state()["queue/keys"], &named("queue")),
        );
        worst.check(&name.to_string(), 1e-5);
        let truth = if name == Method::Exemplar {
            case.tensor("labels")
        } else {
            initial
        };
        assert!(same(&queue_labels, &truth), "labels follow their keys");
    }
}
