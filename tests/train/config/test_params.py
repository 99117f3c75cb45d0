"""Required params that a config lacks, targets that the trainer cannot call, and what a dataset says of its options."""

import pytest
import torch

from seg_core.errors import ConfigError, DatasetNotFoundError
from seg_core.registry import DATASETS, LOGGERS, LOSSES, MODELS, OPTIMIZERS, PREDICTORS, SCHEDULERS
from seg_train import Logger, load_config
from tests.train.config.test_load import problems_of


def fine(tables, *overrides):
    return load_config(tables, overrides)


# ---- required params -------------------------------------------------------------------------------------------------


class NeedsFile:
    """Its first argument is the root, under another name."""

    def __init__(self, folder, annotations, split="train", *, transforms=None):
        raise AssertionError("nothing is built")


class NeedsProject(Logger):
    def __init__(self, folder, project):
        raise AssertionError("nothing is built")


class NeedsFactor(torch.nn.Module):
    def __init__(self, factor, ignore_index):
        super().__init__()


def needs_width(*, weights, num_classes, aux_loss, weights_backbone, variant, width):
    raise AssertionError("nothing is built")


def needs_beams(network, batch, beams, *, size, output):
    raise AssertionError("nothing is built")


class NeedsRho(torch.optim.SGD):
    def __init__(self, weights, rho, lr=0.1):
        super().__init__(weights, lr)


class NeedsTau(torch.optim.lr_scheduler.ConstantLR):
    def __init__(self, optimizer, tau):
        super().__init__(optimizer)


REQUIRED = [
    (DATASETS, NeedsFile, "data.dataset", "params", "annotations"),
    (MODELS, needs_width, "model", "params", "width"),
    (LOSSES, NeedsFactor, "criterion", "params", "factor"),
    (OPTIMIZERS, NeedsRho, "optimizer", "params", "rho"),
    (SCHEDULERS, NeedsTau, "lr_scheduler", "params", "tau"),
]


@pytest.mark.parametrize(("registry", "target", "section", "params", "parameter"), REQUIRED)
def test_config_without_a_required_param_names_its_key_and_is_fine_with_it(
    tables, registry, target, section, params, parameter
):
    registry.register("Mine", target)
    overrides = [f"{section}.name=Mine"]
    overrides += ["data.dataset.root=/data"] if registry is DATASETS else []
    assert f"{section}.{params}.{parameter} is missing: Mine has no default for it" in problems_of(tables, overrides)
    fine(tables, *overrides, f"{section}.{params}.{parameter}=1")


def test_config_without_a_required_param_of_a_logger_or_predictor_names_its_key(tables):
    LOGGERS.register("mine", NeedsProject)
    assert "log.mine.project is missing: mine has no default for it" in problems_of(tables, ["log.mine={}"])
    fine(tables, "log.mine.project=a")
    PREDICTORS.register("beams", needs_beams)
    text = problems_of(tables, ["evaluation.predictor=beams"])
    assert "evaluation.params.beams is missing: beams has no default for it" in text
    fine(tables, "evaluation.predictor=beams", "evaluation.params.beams=3")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.dataset.name=Unified"], "data.dataset.params.label_set is missing: Unified has no default for it"),
        (["data.dataset.name=Unified"], "data.dataset.params.members is missing: Unified has no default for it"),
        (["lr_scheduler.name=CosineAnnealingWarmRestarts"], "lr_scheduler.params.T_0 is missing"),
        (["criterion.name=CombinedLoss"], "criterion.params.losses is missing: CombinedLoss has no default for it"),
    ],
)
def test_our_own_targets_without_a_required_param_name_it(tables, overrides, words):
    assert words in problems_of(tables, overrides)


@pytest.mark.parametrize("name", ["CosineAnnealingLR", "OneCycleLR", "PolynomialLR"])
def test_lengths_that_the_trainer_fills_in_are_not_missing(tables, name):
    tables["lr_scheduler"] = {"name": name}
    fine(tables)


def test_root_under_another_name_must_not_be_a_param(tables):
    DATASETS.register("Mine", NeedsFile)
    text = problems_of(tables, ["data.dataset.name=Mine", "data.dataset.params={folder='a', annotations='b'}"])
    assert "data.dataset.params.folder = a: not set here; set data.dataset.root" in text


# ---- targets that the trainer cannot call ----------------------------------------------------------------------------


def test_builder_that_lacks_what_the_trainer_passes_is_told(tables):
    MODELS.register("bare", lambda num_classes, weights=None: None)
    text = problems_of(tables, ["model.name=bare"])
    assert "model: bare must take 'aux_loss', 'weights_backbone', 'variant', which the trainer passes; add them" in text
    MODELS.register("bare_with_any", lambda num_classes, **options: None)
    fine(tables, "model.name=bare_with_any")


def test_dataset_that_lacks_split_or_needs_transforms_is_told(tables):
    DATASETS.register("NoSplit", lambda root, transforms: None)
    text = problems_of(tables, ["data.dataset.name=NoSplit"])
    assert "data.dataset: NoSplit must take 'split', which the trainer passes; add it, or **kwargs" in text
    assert "data.dataset: NoSplit has no default for 'transforms', which the trainer does not pass; give it one" in text


def test_loss_that_needs_the_reduction_is_told(tables):
    LOSSES.register("Reduced", lambda reduction: torch.nn.Identity())
    text = problems_of(tables, ["criterion.name=Reduced"])
    assert "criterion: Reduced has no default for 'reduction', which the trainer does not pass" in text


# ---- what a dataset says about its options ---------------------------------------------------------------------------


class Particular:
    """A dataset whose options need each other."""

    def __init__(self, root, split="train", *, folds=None, fold=None):
        raise AssertionError("nothing is built")

    @classmethod
    def option_problems(cls, root, params):
        if root == "/none":
            raise DatasetNotFoundError("root /none does not exist")
        found = [] if root else ["root is missing"]
        return found + (
            ["params.fold is missing: folds needs it"] if "folds" in params and "fold" not in params else []
        )


@pytest.fixture
def particular(tables):
    DATASETS.register("Particular", Particular)
    tables["data"]["dataset"] = {"name": "Particular", "root": "/data"}
    return tables


def test_dataset_reports_problems_of_its_options_with_the_key(particular):
    fine(particular)
    fine(particular, "data.dataset.params={folds=5, fold=0}")
    assert "data.dataset: params.fold is missing: folds needs it" in problems_of(
        particular, ["data.dataset.params.folds=5"]
    )


def test_dataset_reports_several_problems_and_an_error_is_one(particular):
    del particular["data"]["dataset"]["root"]
    text = problems_of(particular, ["data.dataset.params.folds=5"])
    assert "data.dataset: root is missing" in text
    assert "data.dataset: params.fold is missing" in text
    assert "data.dataset: root /none does not exist" in problems_of(particular, ["data.dataset.root=/none"])


def test_dataset_is_not_asked_about_params_that_it_does_not_have(particular):
    with pytest.raises(ConfigError) as caught:
        fine(particular, "data.dataset.params={fields=1, folds=5}")
    assert "Particular has no such parameter" in str(caught.value)
    assert "folds needs it" not in str(caught.value)
