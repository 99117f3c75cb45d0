"""Options of `seg predict`: they are those of `Predictor`, and wrong ones are named before a model is loaded."""

import argparse
import os

import numpy as np
import pytest

from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor
from seg_models.commands.predict.arguments import add_arguments
from seg_models.commands.predict.options import parse_options
from tests.models.commands.predict_helpers import ids, seg


@pytest.mark.parametrize(
    ("options", "keywords"),
    [
        ([], {}),
        (["--batch-size", "3"], {"batch_size": 3}),
        (["--tile", "16"], {"tile": 16}),
        (["--tile", "16x24", "--overlap", "0.25"], {"tile": (16, 24), "overlap": 0.25}),
        (["--tta"], {"tta": True}),
        (["--tta", "1,0.5,vflip"], {"tta": {"scales": (1, 0.5), "hflip": False, "vflip": True}}),
        (["--tta", "hflip,turns"], {"tta": {"scales": [1], "hflip": True, "quarter_turns": True}}),
        (["--scale", "1"], {"preprocessing": Preprocessing(scale=1.0)}),
        (["--dtype", "bf16"], {"dtype": "bf16"}),
        (["--threshold", "0.503"], {"threshold": 0.503}),
    ],
)
def test_options_equal_those_of_predictor(options, keywords, images, model_file, tmp_path):
    out = tmp_path / "out"
    for number in (3, 4):
        (images / f"{number}.png").unlink()
    assert seg("predict", images, "--model", model_file, "--out", out, "--device", "cpu", *options) == 0
    predictor = Predictor(model_file, device="cpu", **keywords)
    for prediction in predictor(images):
        np.testing.assert_array_equal(ids(out / os.path.basename(prediction.source)), prediction.labels)
    if options and options[0] != "--batch-size":
        plain = [p.labels for p in Predictor(model_file)(images)]
        assert not all(np.array_equal(ids(out / f"{n}.png"), labels) for n, labels in enumerate(plain))


def test_auto_is_a_dtype():
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    parsed = parser.parse_args(["a.jpg", "--model", "m.pt", "--dtype", "auto"])
    assert parse_options(parsed)["dtype"] == "auto"


def test_help_has_the_arguments_in_groups(capsys):
    assert seg("predict", "--help") == 0
    text = capsys.readouterr().out
    groups = ["images:", "model:", "output:", "overlays (each of these implies --overlay):", "prediction:", "speed:"]
    places = [text.index(f"\n{group}\n") for group in groups]
    assert places == sorted(places)
    assert text.index("\nexamples:\n") > places[-1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tile", "big"], "--tile big must be pixels, such as 512, or height x width"),
        (["--tta", "1,sideways"], "'sideways' is neither a scale above 0 nor one of hflip, vflip, turns"),
        (["--tile", "0"], "--tile 0 must be pixels"),
        (["--overlap", "1"], "--overlap 1.0 must be a fraction from 0 to below 1"),
        (["--threshold", "2"], "--threshold 2.0 must be a probability from 0 to 1"),
        (["--batch-size", "0"], "--batch-size 0 must be an integer >= 1"),
        (["--min-region", "0"], "--min-region 0 must be an integer >= 1"),
        (["--scale", "inf"], "--scale inf must be a factor above 0"),
        (["--tta", "nan"], "'nan' is neither a scale above 0 nor one of"),
        (["--tta", "1,-2"], "'-2' is neither a scale above 0 nor one of"),
        (["--scale", "0"], "--scale 0.0 must be a factor above 0"),
        (["--shard", "0/3"], "--shard 0/3 must be I/N with I from 1 to N"),
        (["--shard", "4/3"], "--shard 4/3 must be I/N"),
    ],
)
def test_wrong_option_is_named_before_anything_is_loaded(options, words, images, tmp_path, capsys):
    assert seg("predict", images, "--model", "gone.pt", "--out", tmp_path / "out", *options) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
