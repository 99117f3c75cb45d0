"""Losses called as those of other libraries, or with the outputs of a network, say what to write here."""

import copy
import pickle

import pytest
import torch

from seg_core.spec import parameters_of
from seg_train import (
    BoundaryLoss,
    CrossEntropyLoss,
    DeepSupervision,
    DiceLoss,
    FocalLoss,
    JaccardLoss,
    LovaszLoss,
    OhemCrossEntropyLoss,
    TverskyLoss,
)

TARGET = torch.zeros(1, 4, 4, dtype=torch.long)
OUTPUTS = {"out": torch.zeros(1, 2, 4, 4), "aux": torch.zeros(1, 2, 4, 4)}


@pytest.mark.parametrize(
    "loss", [CrossEntropyLoss, DiceLoss, FocalLoss, JaccardLoss, LovaszLoss, OhemCrossEntropyLoss, TverskyLoss]
)
def test_the_outputs_of_a_network_are_told(loss):
    with pytest.raises(TypeError, match=r'got dict; pass outputs\["out"\]'):
        loss()(OUTPUTS, TARGET)
    assert loss()(OUTPUTS["out"], TARGET).ndim == 0


def test_what_is_no_tensor_is_told():
    with pytest.raises(TypeError, match="pass one of its tensors: 'out', 'aux'"):
        BoundaryLoss()(OUTPUTS, TARGET)
    with pytest.raises(TypeError, match="target must be a tensor, got ndarray"):
        DiceLoss()(OUTPUTS["out"], TARGET.numpy())
    with pytest.raises(TypeError, match="outputs must be the dict"):
        DeepSupervision(CrossEntropyLoss())(OUTPUTS["out"], TARGET)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: DiceLoss(mode="multiclass"), "DiceLoss .*mode='multiclass': use task="),
        (lambda: JaccardLoss(from_logits=True), "from_logits=True: remove it: losses take logits"),
        (lambda: FocalLoss(alpha=0.25), "alpha=0.25: use weight="),
        (lambda: DiceLoss("binary"), "got 'binary'; write task='binary'"),
        (lambda: LovaszLoss("multiclass", per_image=True), "got 'multiclass'; write task='multiclass'"),
    ],
)
def test_arguments_of_other_libraries_are_told(build, words):
    with pytest.raises(ValueError, match=words):
        build()


def test_losses_keep_their_signatures_and_can_be_copied():
    assert "squared" in parameters_of(DiceLoss)
    assert TverskyLoss(alpha=0.3).alpha == 0.3
    assert copy.deepcopy(FocalLoss(gamma=3.0)).gamma == pickle.loads(pickle.dumps(FocalLoss(gamma=3.0))).gamma == 3
    with pytest.raises(TypeError, match="unexpected keyword argument 'nothing'"):
        DiceLoss(nothing=1)
