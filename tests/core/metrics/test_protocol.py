import json
import unicodedata

import pytest
import torch

from seg_core import EvaluationProtocol, resolve_metadata
from seg_core.errors import InvalidArgumentError
from seg_core.metrics.protocol import digest_of_dataset, digest_of_files

PLAIN = EvaluationProtocol("Shapes", "val", "ab12", 3, ("a", "b"))


def test_dict_and_back_is_the_same_protocol_and_json():
    protocol = EvaluationProtocol(
        "CamVid",
        "val",
        "ab12",
        101,
        ("sky", "road"),
        resize={"size": (512, 1024)},
        tile=(256, 512),
        overlap=0.25,
        scales=(0.5, 1.0),
        hflip=True,
        absent="zero",
        precision="bf16",
        predictor="tiled",
        predictor_params={"blend": "constant", "nested": {"a": (1, 2)}},
    )
    values = json.loads(json.dumps(protocol.to_dict()))
    assert EvaluationProtocol.from_dict(values).to_dict() == protocol.to_dict()
    assert values["tile"] == [256, 512]
    assert values["resize"] == {"size": [512, 1024]}


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({}, "val split of Shapes (3 images), each image at its own size, predictor whole, fp32, absent=skip"),
        ({"resize": {"scale": 0.5}}, "images resized by 0.5, scored at the size of the masks"),
        ({"resize": {"shorter_side": 512}}, "a shorter side of 512 pixels"),
        ({"resize": {"longer_side": 99}}, "a longer side of 99 pixels"),
        ({"resize": {"size": [4, 8]}}, "images resized to 4x8 pixels"),
        ({"tile": (64, 32), "overlap": 0.5}, "tiles of 64x32 pixels with overlap 0.5"),
        ({"scales": (0.5, 1.0), "hflip": True}, "scales 0.5, 1 and horizontal flips"),
        ({"hflip": True}, "scales 1 and horizontal flips"),
        ({"predictor": "mine", "predictor_params": {"steps": 2}}, "predictor mine(steps=2)"),
        ({"num_images": 1}, "(1 image)"),
        ({"level": "image"}, "averaged per image"),
    ],
)
def test_sentence_says_what_was_done(changes, part):
    assert part in str(EvaluationProtocol.from_dict({**PLAIN.to_dict(), **changes}))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"datset": "x"}, "unknown key 'datset' of a protocol. Did you mean 'dataset'"),
        ({"dataset": "x"}, "needs the keys split, digest, num_images, classes"),
        ({**PLAIN.to_dict(), "num_images": True}, "num_images of a protocol must be an integer, got True"),
        ({**PLAIN.to_dict(), "classes": "ab"}, "classes of a protocol must be a list of names"),
        ({**PLAIN.to_dict(), "hflip": 1}, "hflip of a protocol must be True or False, got 1"),
    ],
)
def test_wrong_dict_is_refused(values, message):
    with pytest.raises(InvalidArgumentError, match=message):
        EvaluationProtocol.from_dict(values)


def test_digest_of_files_depends_on_relative_names_alone(tmp_path):
    here, there = tmp_path / "a", tmp_path / "b" / "c"
    names = ["images/2.png", "images/1.png", "x/é.png"]
    first = digest_of_files([here / name for name in names], here)
    assert first == digest_of_files([there / name for name in reversed(names)], there)
    assert first == digest_of_files([here / unicodedata.normalize("NFD", name) for name in names], here)
    assert first != digest_of_files([here / name for name in names[:2]], here)
    assert first != digest_of_files([here / name for name in names], tmp_path)
    # the documented value, so that digests of old files stay comparable
    assert digest_of_files([here / "b.png", here / "a.png"], here) == (
        "1baca9d47fd86b4a995bb3508dea720d384b601ee539a4961303e841d4b856ac"
    )


def test_digest_of_files_of_a_second_folder_depends_on_neither_place(tmp_path):
    own, other = "images/1.png", ["x/2.png", "y/3.png"]

    def digest(root, second):
        return digest_of_files([root / own, *(second / name for name in other)], root)

    assert digest(tmp_path / "a", tmp_path / "b") == digest(tmp_path / "c", tmp_path / "d" / "e")


class _Files:
    metadata = resolve_metadata({"name": "mine", "labels": ["a", "b"]})

    def __init__(self, names, root=None):
        self.names = names
        if root is not None:
            self.root = root

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return torch.zeros(3, 1, 1), None

    def file_names(self, index):
        return self.names[index] if isinstance(self.names[index], tuple) else (self.names[index],)


def test_digest_of_a_dataset_takes_the_images_below_its_root(tmp_path):
    images = [str(tmp_path / "images" / name) for name in ("1.png", "2.png")]
    digest = digest_of_dataset(_Files([(image, image + ".mask") for image in images], tmp_path))
    assert digest == digest_of_files(images, tmp_path)
    assert digest_of_dataset(_Files(images)) == digest_of_files(images, tmp_path / "images")


def test_digest_without_files_is_of_name_params_and_length():
    first = _Files(["Mine[0]", "Mine[1]"])
    assert digest_of_dataset(first) == digest_of_dataset(_Files(["Other[0]", "Other[1]"]))
    assert digest_of_dataset(first) != digest_of_dataset(_Files(["Mine[0]"]))
    other = _Files(["Mine[0]", "Mine[1]"])
    other.params = {"seed": 1}
    assert digest_of_dataset(first) != digest_of_dataset(other)
