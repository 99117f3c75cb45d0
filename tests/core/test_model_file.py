import errno

import pytest
import torch
from torch import nn

from seg_core import BuildSpec, DatasetMetadata, Preprocessing, load_model, read_model_info, save_model
from seg_core.errors import CorruptFileError, InvalidArgumentError, UnknownNameError, WriteError
from seg_core.registry import MODELS

METADATA = DatasetMetadata(name="two", labels=("left", "right"), colors=((1, 2, 3), (4, 5, 6)))
PREPROCESSING = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), scale=0.5)


class Tiny(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, width)

    def forward(self, images):
        return {"out": self.conv(images)}


def tiny(*, num_classes=2, form=None, width=1):
    model = Tiny(num_classes, width)
    model.build_spec = BuildSpec("tiny", form or "paper", {"num_classes": num_classes, "width": width})
    return model


@pytest.fixture(autouse=True)
def registered():
    MODELS.register("tiny", tiny)


def save(path, model=None, **options):
    save_model(model or tiny(width=3), path, metadata=METADATA, preprocessing=PREPROCESSING, **options)
    return path


@pytest.mark.smoke
def test_load_model_gives_the_same_network_and_what_the_file_says(tmp_path):
    model = tiny(width=3).eval()
    path = save(tmp_path / "model.pt", model, metrics={"miou": 0.5}, protocol="val, single scale")
    loaded = load_model(path)
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded(images)["out"], model(images)["out"])
    assert not loaded.training
    info = loaded.model_info
    assert info == read_model_info(path)
    assert info.spec == BuildSpec("tiny", "paper", {"num_classes": 2, "width": 3})
    assert info.metadata == METADATA
    assert info.preprocessing == PREPROCESSING
    assert (info.metrics, info.protocol) == ({"miou": 0.5}, "val, single scale")
    assert {"torch", "seg-core"} <= set(info.versions)


def test_model_file_loads_with_weights_only(tmp_path):
    content = torch.load(save(tmp_path / "model.pt"), weights_only=True)
    assert content["format"] == "seg-model"


def test_save_model_without_build_spec_says_what_to_do(tmp_path):
    with pytest.raises(InvalidArgumentError, match="Conv2d carries no build_spec.*make it with a registered builder"):
        save(tmp_path / "model.pt", nn.Conv2d(1, 1, 1))
    assert not list(tmp_path.iterdir())


def test_save_model_other_number_of_classes_raises(tmp_path):
    with pytest.raises(InvalidArgumentError, match="metadata 'two' has 2 classes but .* num_classes=5"):
        save(tmp_path / "model.pt", tiny(num_classes=5))


def test_save_model_full_disk_is_a_write_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = save(tmp_path / "model.pt")
    before = path.read_bytes()

    def full(content, target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WriteError, match="No space left on device; check the folder's permissions and free space"):
        save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_load_model_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no model file .*none.pt; give the path of one"):
        load_model(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 10, 500, -20])
def test_load_model_truncated_file_is_corrupt(tmp_path, keep):
    path = save(tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptFileError, match=r"model.pt cannot be read: it is truncated or no model file"):
        load_model(path)


def test_load_model_plain_state_dict_is_refused(tmp_path):
    torch.save(tiny().state_dict(), tmp_path / "state.pt")
    with pytest.raises(CorruptFileError, match="is a PyTorch file but not a model file of this toolkit"):
        load_model(tmp_path / "state.pt")


def test_load_model_arbitrary_pickle_is_not_run(tmp_path):
    torch.save({"format": "seg-model", "harm": print}, tmp_path / "model.pt")
    with pytest.raises(CorruptFileError, match="cannot be read"):
        load_model(tmp_path / "model.pt")


def edit(path, **changes):
    content = torch.load(path, weights_only=True)
    content.update(changes)
    torch.save({k: v for k, v in content.items() if v is not None}, path)


def test_load_model_newer_format_asks_for_an_upgrade(tmp_path):
    path = save(tmp_path / "model.pt")
    edit(path, format_version=99)
    with pytest.raises(CorruptFileError, match="format version 99.*upgrade seg-core"):
        load_model(path)


def test_load_model_missing_part_is_damaged(tmp_path):
    path = save(tmp_path / "model.pt")
    edit(path, preprocessing=None)
    with pytest.raises(CorruptFileError, match="is a damaged model file: 'preprocessing'"):
        load_model(path)


def test_load_model_unknown_builder_is_named(tmp_path):
    path = save(tmp_path / "model.pt")
    edit(path, builder="tinny")
    with pytest.raises(UnknownNameError, match=r"unknown model 'tinny'. Did you mean 'tiny'"):
        load_model(path)


def test_load_model_other_shapes_do_not_fit(tmp_path):
    path = save(tmp_path / "model.pt")
    edit(path, arguments={"num_classes": 2, "width": 1})
    with pytest.raises(CorruptFileError, match="does not fit tiny as built by the installed packages"):
        load_model(path)
