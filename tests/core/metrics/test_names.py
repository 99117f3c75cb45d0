import torch

from seg_core.labels.tasks import TASKS
from seg_core.metrics.names import AVERAGE_PRECISION, PER_CLASS, SCORE_NAMES, SCORE_TITLES, per_class_names, score_names
from seg_core.metrics.scores import scores_from_confusion


def test_names_are_those_of_the_scores_of_a_confusion_matrix():
    scores = scores_from_confusion(torch.eye(2))
    assert set(scores) == {*SCORE_NAMES, *PER_CLASS, "absent"}


def test_every_score_and_the_loss_have_a_title():
    assert list(SCORE_TITLES)[: len(SCORE_NAMES)] == list(SCORE_NAMES) and list(SCORE_TITLES)[-1] == "loss"
    assert set(SCORE_TITLES) == {name for task in TASKS for name in score_names(task)} | {AVERAGE_PRECISION, "loss"}


def test_names_of_other_tasks_are_those_of_their_counts():
    scores = scores_from_confusion(torch.ones(3, 2, 2))
    assert set(scores) == {*score_names("multilabel"), *per_class_names("multilabel"), "absent"}
