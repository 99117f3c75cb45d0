"""Every network learns: 200 steps on Shapes, all outputs trained. Marked `learning`: it takes minutes a network."""

import itertools

import pytest
import torch
from torch.utils.data import DataLoader

import seg_models
from seg_core import SegmentationAugment, SegmentationTransform
from seg_core.registry import MODELS
from seg_datasets import get_dataset
from seg_train import BoundaryLoss, CrossEntropyLoss

STEPS = 200
BATCH = 8
SIZE = (64, 96)
AUX_WEIGHT = 0.4


def lightest_of_each_family():
    names = sorted(seg_models.list_models(), key=lambda name: MODELS.entry(name).params)
    return sorted({MODELS.entry(name).family: name for name in reversed(names)}.values())


@pytest.mark.learning
@pytest.mark.parametrize("name", lightest_of_each_family())
def test_200_steps_on_shapes_bring_every_loss_well_under_its_start(name):
    torch.manual_seed(0)
    data = get_dataset("Shapes", None, split="train", transforms=SegmentationTransform(), size=SIZE)
    several = len(MODELS.entry(name).outputs) > 1
    model = seg_models.get_model(name, num_classes=9, **({"aux_loss": True} if several else {})).train()
    # for STDC too: Shapes ignores outlines, and so has no details
    losses_of = {"boundary": BoundaryLoss()}
    criterion, augment = CrossEntropyLoss(), SegmentationAugment(hflip=0.5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=STEPS)
    batches = itertools.islice(DataLoader(data, BATCH, shuffle=True, drop_last=True), STEPS)
    history = []
    for images, masks in batches:
        images, masks = augment(images, masks)
        losses = {key: losses_of.get(key, criterion)(output, masks) for key, output in model(images).items()}
        optimizer.zero_grad()
        sum(loss * (1 if key == "out" else AUX_WEIGHT) for key, loss in losses.items()).backward()
        optimizer.step()
        scheduler.step()
        history.append({key: loss.item() for key, loss in losses.items()})
    assert len(history) == STEPS
    for key in history[0]:
        start, end = (sum(step[key] for step in part) / 10 for part in (history[:10], history[-10:]))
        print(f"{name} {key}: {start:.3f} -> {end:.3f}")
        assert end < (0.5 if key == "out" else 0.8) * start
