"""The first batch as the network sees it."""

import pytest
import torch

import seg_train.run.trainer as trainer_module
from seg_core.transforms.augment import SegmentationAugment
from seg_train import Trainer, load_config
from seg_train.loggers.base import Logger, TrainingSample
from seg_train.loggers.local import LocalLogger
from seg_train.run.preview import preview_of

AUGMENT = {"hflip": 0.5, "rotation_range": [-20, 20], "color_jitter": [0.3, 0.3, 0.3, 0.1], "blur": 1.0}


def test_preview_is_what_the_network_gets(tables, monkeypatch):
    tables["data"]["augment"] = AUGMENT
    trainer = Trainer(load_config(tables))
    calls, inputs, masks = [], [], []
    monkeypatch.setattr(trainer.loggers, "on_first_batch", calls.append)
    trainer.parts.model.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0].clone()))
    log_step = trainer._log_step
    monkeypatch.setattr(
        trainer, "_log_step", lambda result, batch: (masks.append((result.masks, batch)), log_step(result, batch))
    )
    trainer.run()
    (samples,) = calls
    seen, (target, batch) = inputs[0], masks[0]
    augment = trainer.parts.augment
    colors = seen * torch.tensor(augment.std).view(3, 1, 1) + torch.tensor(augment.mean).view(3, 1, 1)
    assert len(samples) == 4
    for place, sample in enumerate(samples):
        assert sample.index == batch.indices[place]
        assert sample.name == f"{sample.index}.png"
        assert (sample.image.dtype, sample.image.shape) == (torch.uint8, (3, 32, 24))
        assert (sample.image / 255 - colors[place]).abs().max() <= 0.51 / 255
        assert torch.equal(sample.mask, target[place])
    assert sum(not torch.equal(sample.mask, batch.masks[i].long()) for i, sample in enumerate(samples)) == 4


def test_run_with_a_preview_is_bit_for_bit_the_run_without(tables, monkeypatch):
    tables["data"]["augment"] = AUGMENT
    tables["log"]["local"]["max_drawing_share"] = 1
    plain = Trainer(load_config(tables, ["paths.run=plain"]))
    with monkeypatch.context() as without:
        without.setattr(trainer_module, "preview_of", lambda *arguments: [])
        without.setattr(plain.loggers, "on_first_batch", lambda samples: None)
        plain.run()
    random_states = [torch.get_rng_state()]
    shown = Trainer(load_config(tables, ["paths.run=shown"]))
    shown.run()
    random_states.append(torch.get_rng_state())
    assert not (plain.folder.path / "plots" / "first_batch.png").exists()
    assert (shown.folder.path / "plots" / "first_batch.png").is_file()
    weights = [trainer.network.network.state_dict() for trainer in (plain, shown)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert torch.equal(*random_states)


def test_failure_to_draw_does_not_end_the_run(tables, monkeypatch):
    tables["log"]["local"]["max_drawing_share"] = 1
    trainer = Trainer(load_config(tables))
    monkeypatch.setattr(LocalLogger, "on_first_batch", lambda self, samples: 1 / 0)
    with pytest.warns(UserWarning, match="logger local failed in on_first_batch; it stays in use"):
        assert trainer.run().scores["epoch"] == 2


def test_loggers_get_the_samples(tables):
    got = []

    class Own(Logger):
        def on_first_batch(self, samples):
            got.extend(samples)

    trainer = Trainer(load_config(tables))
    trainer.loggers.loggers["own"] = Own(trainer.folder.path)
    trainer.run()
    assert len(got) == 4
    assert all(isinstance(sample, TrainingSample) for sample in got)


@pytest.mark.parametrize("limit", [1, 3, 99])
def test_number_of_samples_is_limited(tables, stripes, limit):
    trainer = Trainer(load_config(tables))
    batch = next(trainer.data.train_loader.read([[5, 2, 7, 1]]))
    before = batch.images.clone()
    samples = preview_of(trainer.parts, batch, stripes(), limit)
    assert [sample.index for sample in samples] == [5, 2, 7, 1][:limit]
    whole = preview_of(trainer.parts, batch, stripes())
    assert all(torch.equal(a.image, b.image) for a, b in zip(samples, whole, strict=False))
    assert torch.equal(batch.images, before)


def test_colors_without_augmentation_are_those_of_the_image(tables, stripes):
    trainer = Trainer(load_config(tables))
    trainer.parts.augment = SegmentationAugment()
    batch = next(trainer.data.train_loader.read([[0, 1]]))
    for place, sample in enumerate(preview_of(trainer.parts, batch, stripes())):
        assert torch.equal(sample.image, batch.images[place])
