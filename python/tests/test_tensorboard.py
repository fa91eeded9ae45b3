"""TensorBoard's own reader finds the scalars and the pictures of a run."""

import json

from conftest import TINY, command
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator


def test_scalars_and_pictures_are_read(here, world):
    (here / "world").symlink_to(world / "world")
    code, _, errors = command(f"pretrain --method supervised {TINY} --log-every 5 --out run", here)
    assert code == 0, errors
    code, _, errors = command("segmentation train --checkpoint run/backbone.safetensors --cityscapes world --steps 2 --batch-size 2 "
                              "--crop 32x32 --head-channels 8 --pictures 2 --device cpu --threads 1 --out masks", here)
    assert code == 0, errors
    events = EventAccumulator(str(here / "run"), size_guidance={SCALARS: 0}).Reload()
    lines = map(json.loads, (here / "run/log.jsonl").read_text().splitlines())
    losses = [(line["step"], line["loss"]) for line in lines if line["kind"] == "step"]
    read = [(event.step, event.value) for event in events.Scalars("step/loss")]
    assert [step for step, _ in read] == [step for step, _ in losses]
    assert all(abs(a - b) < 1e-6 * b for (_, a), (_, b) in zip(read, losses))

    events = EventAccumulator(str(here / "masks"), size_guidance={IMAGES: 0}).Reload()
    files = {f"pictures/{path.stem}": path for path in (here / "masks/pictures").iterdir()}
    assert len(files) == 2 and set(files) <= set(events.Tags()["images"])
    for tag, path in files.items():
        [picture] = events.Images(tag)
        assert picture.encoded_image_string == path.read_bytes()
        assert (picture.width, picture.height) == Image.open(path).size
