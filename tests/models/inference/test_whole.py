"""Prediction of whole images in one pass."""

import torch

from seg_models import predict_whole


def test_predict_whole_gives_logits_without_a_graph(shades):
    logits = predict_whole(shades.eval(), torch.zeros(2, 3, 4, 5))
    assert logits.shape == (2, 3, 4, 5)
    assert not logits.requires_grad
