"""Predictors and predictions used as those of other libraries say what to write here."""

import copy
import pickle

import numpy as np
import pytest

from seg_core.errors import ImageNotFoundError, InvalidArgumentError
from seg_core.spec import parameters_of
from seg_models import Predictor
from seg_models.inference.other_names import CALL, PREDICTION, PREDICTOR

IMAGE = np.zeros((8, 8, 3), np.uint8)


def test_attributes_of_other_libraries_are_told_and_missing(shades):
    predictor = Predictor(shades)
    prediction = predictor(IMAGE)
    for owner, table in ((prediction, PREDICTION), (predictor, PREDICTOR)):
        for name, advice in table.items():
            assert not hasattr(owner, name)
            with pytest.raises(AttributeError) as error:
                getattr(owner, name)
            assert str(error.value).endswith(f"has no attribute {name!r}; {advice}")
        with pytest.raises(AttributeError, match="has no attribute 'nothing'$"):
            owner.nothing  # noqa: B018 - the access is what is tested
    assert pickle.loads(pickle.dumps(prediction)) == copy.deepcopy(prediction) == prediction


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"save": True}, r"predictor\(\) does not take save= \(save what the call returns"),
        ({"stream": True}, r"predictor.stream\(source\)"),
        ({"conf": 0.5}, "use threshold=0.5"),
        ({"imgsz": 64}, "preprocessing=|tile=64"),
        ({"device": "cpu"}, r"Predictor\(model, device='cpu'\)"),
    ],
)
def test_options_of_a_call_are_told_the_constructor_or_the_method(shades, options, words):
    with pytest.raises(TypeError, match=words):
        Predictor(shades)(IMAGE, **options)


def test_options_of_the_constructor(shades):
    assert set(parameters_of(Predictor)) - {"model"} <= set(CALL)
    with pytest.raises(TypeError, match="use threshold=0.5"):
        Predictor(shades, conf=0.5)


class Camera:
    def isOpened(self):
        return True

    def read(self):
        return True, IMAGE


@pytest.mark.parametrize("source", [0, "0", "webcam", Camera()])
def test_cameras_are_told_a_generator_of_rgb_frames(shades, source):
    with pytest.raises((InvalidArgumentError, ImageNotFoundError), match=r"generator .*frame\[\.\.\., ::-1\]"):
        Predictor(shades)(source)
