"""The classes of a network beside those of the data: evaluations, model files and runs."""

import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from seg_core import (
    BuildSpec,
    DatasetMetadata,
    ModelInfo,
    Preprocessing,
    load_model,
    resolve_metadata,
    save_model,
)
from seg_core.catalog import DatasetEntry
from seg_core.command import main
from seg_core.errors import ConfigError, InvalidArgumentError
from seg_core.progress import Progress
from seg_core.registry import DATASETS, MODELS, PREDICTORS
from seg_train import CrossEntropyLoss, Trainer, evaluate, load_config
from seg_train.run.classes import classes_of

OTHERS = DatasetMetadata("Others", ("dark", "light", "nowhere"))


class Recorder(Progress):
    def __init__(self):
        super().__init__()
        self.warnings = []

    def warn(self, text):
        self.warnings.append(text)


class Bare(nn.Module):
    """A network of which only the channels of its logits are known."""

    def __init__(self, num_classes, as_dict=True):
        super().__init__()
        self.head, self.as_dict = nn.Conv2d(3, num_classes, 1), as_dict
        with torch.no_grad():
            self.head.bias[0] += 100  # always class 0

    def forward(self, images):
        logits = self.head(images)
        return {"out": logits} if self.as_dict else logits


def info_of(network, metadata):
    return ModelInfo(network.build_spec, metadata, Preprocessing())


def tiny(num_classes=3, metadata=None):
    network = MODELS.get("tiny_net")(num_classes=num_classes)
    if metadata is not None:
        network.model_info = info_of(network, metadata)
    return network


# ---- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_warns_of_other_names_than_those_of_the_weights(stripes):
    with pytest.warns(UserWarning) as caught:
        evaluate(tiny(metadata=OTHERS), stripes(length=1))
    (warning,) = caught
    assert str(warning.message) == (
        "the network (Others) and the dataset (Stripes) have 3 classes each, but class 1 is 'light' for the network "
        "and 'bright' in the dataset; they are compared by index. Take a dataset with the classes that the network was "
        "trained on"
    )
    assert warning.filename == __file__


def test_evaluate_warns_of_another_number_of_classes_and_says_how_to_build_the_network(stripes):
    network = tiny(2)
    with pytest.warns(UserWarning, match=r"the network has 2 classes but the dataset 3 \(Stripes\); they are compared"):
        evaluate(network, stripes(length=1))
    compiled = torch.compile(network, backend="eager")
    assert classes_of(compiled) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(tiny(3), stripes(length=1))  # as advised


def test_evaluate_advises_a_conversion_if_one_is_known(stripes):
    class Streets(stripes):
        metadata = resolve_metadata("CityscapesClass")

    network = tiny(7, resolve_metadata("CityscapesCategory"))
    with pytest.warns(UserWarning, match='Open the dataset with label_set="CityscapesCategory", which converts its'):
        evaluate(network, Streets(length=1))
    network = tiny(34, resolve_metadata("Cityscapes"))
    with torch.no_grad():
        network.head.bias[0] += 100
    with pytest.warns(UserWarning, match="Take a dataset with the classes of Cityscapes, on which the network was"):
        evaluate(network, Streets(length=1))
    network.model_info = None
    with pytest.warns(UserWarning, match="Cityscapes has 34, and class 0 is 'unlabeled' in Cityscapes and 'road' in"):
        evaluate(network, Streets(length=1))


@pytest.mark.parametrize("as_dict", [True, False])
def test_evaluate_counts_the_channels_of_a_network_of_which_nothing_is_known(stripes, as_dict):
    network = Bare(5, as_dict)
    predict = "whole" if as_dict else "plain_logits"
    if not as_dict:
        PREDICTORS.register("plain_logits", lambda model, images: model(images))
    with pytest.warns(UserWarning, match=r"the network has 5 classes but the dataset 3 \(Stripes\)") as caught:
        evaluate(network, stripes(), predictor=predict)
    assert len(caught) == 1
    assert not network._forward_hooks
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(Bare(3, as_dict), stripes(length=1), predictor=predict)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace:FutureWarning")
@pytest.mark.parametrize("kind", ["scripted", "compiled", "exported"])
def test_evaluate_counts_the_channels_of_converted_networks(stripes, kind):
    network = Bare(5, as_dict=False)
    if kind == "scripted":
        converted = torch.jit.trace(network, torch.zeros(1, 3, 32, 24))
    elif kind == "compiled":
        converted = torch.compile(network, backend="eager")
    else:
        converted = torch.export.export(network.eval(), (torch.zeros(1, 3, 32, 24),)).module()
        converted.eval = converted.train = lambda *_: converted  # which torch does not support for exported programs
    PREDICTORS.register("plain_logits", lambda model, images: model(images))
    with pytest.warns(UserWarning, match=r"the network has 5 classes but the dataset 3 \(Stripes\)"):
        evaluate(converted, stripes(length=1), predictor="plain_logits")


def test_evaluate_removes_its_hook_after_an_error(stripes):
    network = Bare(3)
    with pytest.raises(ValueError):
        evaluate(network, stripes(broken=0))
    assert not network._forward_hooks


@pytest.mark.parametrize("metadata", [None, DatasetMetadata("again", ("dark", "bright", "never"))])
def test_evaluate_does_not_warn_of_equal_or_unknown_names(stripes, metadata):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluate(tiny(metadata=metadata), stripes(length=1), criterion=CrossEntropyLoss())


def one_class(stripes):
    class Roads(stripes):
        metadata = DatasetMetadata("Roads", ("road",))

        def __getitem__(self, index):
            image, mask = super().__getitem__(index)
            return image, mask * 0

    DATASETS.register("Roads", DatasetEntry(f"{__name__}:Roads", label_set=None, splits=(), needs_root=False))
    DATASETS._objects["Roads"] = Roads
    return Roads


def test_evaluate_on_one_class_is_an_error(stripes):
    with pytest.raises(InvalidArgumentError, match="Roads has one class, 'road', but at least two are needed"):
        evaluate(tiny(1), one_class(stripes)(length=1))


# ---- model files -----------------------------------------------------------------------------------------------------


def test_save_model_warns_of_other_names_than_those_of_the_weights(tmp_path, stripes):
    network = tiny(metadata=OTHERS)
    options = {"metadata": stripes.metadata, "preprocessing": Preprocessing()}
    with pytest.warns(UserWarning) as caught:
        save_model(network, tmp_path / "model.pt", **options)
    assert (
        "but class 1 is 'light' for the network and 'bright' in the metadata; the file will name the classes as the"
        in (str(caught[0].message))
    )
    assert caught[0].filename == __file__
    assert load_model(tmp_path / "model.pt").model_info.metadata == stripes.metadata
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_model(network, tmp_path / "model.pt", **options | {"metadata": network.model_info.metadata})  # as advised
        network.model_info = None
        save_model(network, tmp_path / "model.pt", **options)


def test_save_model_of_a_loaded_model_does_not_warn_of_its_own_classes(tmp_path, stripes):
    save_model(tiny(), tmp_path / "model.pt", metadata=stripes.metadata, preprocessing=Preprocessing())
    network = load_model(tmp_path / "model.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metadata = replace(stripes.metadata, name="renamed")
        save_model(network, tmp_path / "again.pt", metadata=metadata, preprocessing=Preprocessing())


# ---- runs ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def pretrained():
    """Registers a network whose weights have classes of their own: those given as the name of the weights."""

    def build(*, weights=None, num_classes=3, class_names=None, **options):
        network = MODELS.get("tiny_net")(num_classes=num_classes, **options)
        labels = tuple((weights or "").split("_"))
        if class_names is not None:
            labels = tuple(class_names)
        if weights is not None and len(labels) == num_classes:
            network.model_info = info_of(network, DatasetMetadata("Others", labels))
        return network

    MODELS.register("pretrained_net", build)


def warnings_of_run(tables, *overrides, resume=False):
    recorder = Recorder()
    Trainer(load_config(tables, overrides), resume=resume, progress=recorder).run()
    return recorder.warnings


def test_run_from_weights_of_other_classes_warns_once_and_names_the_first(tables, pretrained):
    tables["model"] = {"name": "pretrained_net", "weights": "dark_light_nowhere"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # none of the model files that the run writes is a warning
        (found,) = warnings_of_run(tables)
    assert found.startswith(
        "model.weights: the network (Others) and the dataset (Stripes) have 3 classes each, but class 1 is 'light' for "
        "the network and 'bright' in the dataset. The layer that predicts the classes is kept"
    )
    assert found.endswith('set model.params.class_names = ["dark", "bright", "never"]')
    tables["model"]["params"] = {"class_names": ["dark", "bright", "never"]}  # as advised
    assert not warnings_of_run(tables, "paths.run=second")


@pytest.mark.parametrize("weights", ["dark_bright_never", "a_b", "a_b_c_d"])
def test_run_from_weights_of_its_classes_or_of_another_number_does_not_warn(tables, pretrained, weights):
    tables["model"] = {"name": "pretrained_net", "weights": weights}
    assert not warnings_of_run(tables)


def test_resumed_run_does_not_warn_again(tables, pretrained):
    tables["model"] = {"name": "pretrained_net", "weights": "dark_light_nowhere"}
    assert len(warnings_of_run(tables)) == 1
    assert not warnings_of_run(tables, "trainer.epochs=3", resume=True)


def test_builder_that_builds_another_number_of_classes_is_an_error_before_the_run(tables, tmp_path):
    def stubborn(*, num_classes, **options):
        return MODELS.get("tiny_net")(num_classes=7, **options)

    MODELS.register("stubborn", stubborn)
    tables["model"] = {"name": "stubborn"}
    with pytest.raises(
        ConfigError, match=r"model.name: the network has 7 classes but the dataset 3 \(Stripes\), although"
    ):
        Trainer(load_config(tables))
    assert not (tmp_path / "runs").exists()


def test_builder_that_does_not_say_its_number_of_classes_can_train(tables):
    def silent(**options):
        network = MODELS.get("tiny_net")(**options)
        network.build_spec = BuildSpec("silent", "paper", {})
        return network

    MODELS.register("silent", silent)
    tables["model"] = {"name": "silent"}
    assert Trainer(load_config(tables))


def test_run_on_one_class_is_an_error_before_anything_is_written(tables, tmp_path, stripes, capsys):
    one_class(stripes)
    tables["data"]["dataset"] = {"name": "Roads"}
    with pytest.raises(ConfigError) as caught:
        Trainer(load_config(tables))
    assert "data.dataset: Roads has one class, 'road', but at least two are needed" in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_eval_on_one_class_is_an_error(tables, stripes, capsys, tmp_path):
    one_class(stripes)
    save_model(tiny(), tmp_path / "model.pt", metadata=stripes.metadata, preprocessing=Preprocessing())
    assert main(["eval", str(tmp_path / "model.pt"), "Roads"]) != 0
    assert "Roads has one class, 'road'" in capsys.readouterr().err


# ---- datasets and networks that do not fit ---------------------------------------------------------------------------


def test_train_and_val_with_different_classes_are_an_error(tables, stripes, monkeypatch):
    own = stripes.metadata
    other = DatasetMetadata("Stripes", ("dark", "light", "never"))
    monkeypatch.setattr(stripes, "metadata", property(lambda self: other if self.split == "val" else own))
    words = r"train and val have different classes: .*class 1 is 'light' for val and 'bright' in the train split"
    with pytest.raises(ConfigError, match=words):
        Trainer(load_config(tables))
    other = DatasetMetadata("Stripes", own.labels, ignore_index=99)
    with pytest.raises(ConfigError, match="train ignores the value 255 and val 99; give both the same ignore_index"):
        Trainer(load_config(tables))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("metadata", "needs the attribute `metadata`"),
        ("file_names", r"has no file_names; a dataset needs .*file_names\("),
    ],
)
def test_dataset_that_lacks_something_is_an_error_that_says_what(tables, stripes, monkeypatch, name, words):
    monkeypatch.delattr(stripes, name)
    with pytest.raises(ConfigError, match=rf"data.dataset.name = 'Stripes': its train split {words}"):
        Trainer(load_config(tables))


def test_network_with_other_outputs_than_it_says_is_an_error_at_the_first_step(tables, tmp_path):
    def four(*, num_classes, **options):
        model = MODELS.get("tiny_net")(num_classes=4)
        model.build_spec = BuildSpec("four", "paper", {"num_classes": num_classes})
        return model

    MODELS.register("four", four)
    tables["model"]["name"] = "four"
    with pytest.raises(ConfigError, match="returns logits of 4 classes, but the dataset has 3"):
        Trainer(load_config(tables)).run()
