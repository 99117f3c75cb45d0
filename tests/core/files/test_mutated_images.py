"""Damaged images of every format are errors of ours, at every way to read them; more: tests/image_mutations.py."""

import itertools
import warnings

import pytest

from seg_core.errors import UserError
from tests.fuzz.mutations import damaged
from tests.image_mutations import doors, inputs, seeds


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("door", ["image", "bytes", "mask", "header", "pages", "file", "channels", "parts"])
def test_damaged_files_are_read_or_refused_in_one_sentence(door, tmp_path):
    if door in ("parts", "channels", "file"):
        pytest.importorskip("rasterio")
    if door in ("bytes", "file"):
        pytest.importorskip("seg_models")
    read, refused = doors()[door], 0
    for number, name, content in itertools.islice(inputs(seed=3), 160):
        path = tmp_path / f"{number}-{name}"
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                read(path)
            except UserError as error:
                refused += 1
                assert "Traceback" not in str(error)
                assert name in str(error) or door == "bytes"
    assert 40 < refused < 160


def test_seeds_are_valid_and_mutations_are_repeatable():
    import random

    from PIL import Image

    for name, content in seeds().items():
        assert damaged(content, random.Random(4)) == damaged(content, random.Random(4)) != content
        assert content
        assert name.endswith(".npy") or Image.registered_extensions().get("." + name.split(".")[-1])
