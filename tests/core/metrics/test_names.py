import torch

from seg_core.metrics.names import PER_CLASS, SCORE_NAMES, SCORE_TITLES
from seg_core.metrics.scores import scores_from_confusion


def test_names_are_those_of_the_scores_of_a_confusion_matrix():
    scores = scores_from_confusion(torch.eye(2))
    assert set(scores) == {*SCORE_NAMES, *PER_CLASS, "absent"}


def test_every_score_and_the_loss_have_a_title():
    assert list(SCORE_TITLES) == [*SCORE_NAMES, "loss"]
