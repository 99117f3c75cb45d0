"""What a `Prediction` answers about classes and pixels, how it is compared, and how notebooks show it."""

import base64
import copy
import dataclasses
import io
import json
import pickle
import re
import sys
import types

import numpy as np
import pytest
from PIL import Image

from seg_core.errors import InvalidArgumentError, MissingDependencyError, UnknownNameError
from seg_core.labels.metadata import DatasetMetadata
from seg_models import Prediction, Predictor

METADATA = DatasetMetadata(
    "four", ("road", "sky", "a <b>tree</b>", "car"), ((9, 8, 7), (0, 0, 255), (0, 255, 0), (1, 1, 1))
)


def prediction(**changes):
    """A prediction of 10x20 pixels: road above sky, one pixel each of a tree, a car, and ignored."""
    labels = np.zeros((10, 20), np.uint8)
    labels[6:] = 1
    labels[0, 0], labels[0, 1], labels[0, 2] = 2, 3, 255
    image = np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8)
    return dataclasses.replace(Prediction(labels, METADATA, image, source="images/street.jpg"), **changes)


# ---- classes and pixels ----------------------------------------------------------------------------------------------


def test_mask_of_a_name_or_an_id_is_where_the_class_is():
    mask = prediction().mask("sky")
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, prediction().labels == 1)
    np.testing.assert_array_equal(prediction().mask(1), mask)
    with pytest.raises(UnknownNameError, match=r"unknown class 'skye' of four. Did you mean 'sky'"):
        prediction().mask("skye")
    with pytest.raises(InvalidArgumentError, match="a class must be a name or an id from 0 to 3 of four, got 255"):
        prediction().mask(255)


def test_probability_is_the_softmax_and_that_of_the_scores(shades):
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    result = Predictor(shades, scores=True, logits=True)(image)
    maps = [result.probability(name) for name in ("dark", "middle", "bright")]
    assert all(m.dtype == np.float32 and m.shape == (6, 8) for m in maps)
    np.testing.assert_allclose(sum(maps), 1, rtol=1e-6)
    np.testing.assert_allclose(np.max(maps, axis=0), result.scores, rtol=1e-5)
    np.testing.assert_array_equal(result.probability(2), maps[2])


def test_probability_of_huge_logits_stays_finite():
    logits = np.array([1000, -1000, 0, 999], np.float32)[:, None, None] * np.ones((4, 10, 20), np.float32)
    result = prediction(logits=logits)
    assert result.probability("road").max() == pytest.approx(1 / (1 + np.exp(-1)))
    assert result.probability("sky").max() == 0


def test_probability_without_logits_says_what_to_pass():
    with pytest.raises(InvalidArgumentError, match="create the predictor with logits=True"):
        prediction().probability("road")
    with pytest.raises(UnknownNameError, match="unknown class 'rod'"):
        prediction().probability("rod")


def test_polygons_are_the_regions_of_one_class_or_of_all():
    pytest.importorskip("rasterio")
    (sky,) = prediction().polygons("sky")
    assert sky["type"] == "Feature"
    assert sky["properties"] == {"class_id": 1, "class": "sky", "pixels": 80}
    assert sorted(set(sky["geometry"]["coordinates"][0])) == [(0.0, 6.0), (0.0, 10.0), (20.0, 6.0), (20.0, 10.0)]
    assert prediction().polygons(1) == [sky]
    assert sorted(f["properties"]["class"] for f in prediction().polygons()) == sorted(METADATA.labels)
    assert prediction(labels=np.zeros((10, 20), np.uint8)).polygons("sky") == []
    with pytest.raises(UnknownNameError, match="unknown class 'tree'"):
        prediction().polygons("tree")


def test_polygons_without_rasterio_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'seg-core\[geo\]'"):
        prediction().polygons("sky")


def test_name_at_is_row_then_column():
    assert prediction().name_at(9, 19) == "sky"
    assert prediction().name_at(np.int64(0), 1) == "car"
    assert prediction().name_at(0, 2) is None


@pytest.mark.parametrize(
    ("y", "x", "words"),
    [
        (10, 0, "y must be an integer from 0 to 9 for an image of 10x20 (height x width), got 10"),
        (-1, 0, "y must be an integer from 0 to 9"),
        (0, 20, "x must be an integer from 0 to 19"),
        (0, 1.0, "x must be an integer from 0 to 19"),
        (True, 0, "y must be an integer"),
    ],
)
def test_name_at_outside_of_the_image_raises(y, x, words):
    with pytest.raises(InvalidArgumentError, match=re.escape(words)):
        prediction().name_at(y, x)


# ---- as a value ------------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_repr_is_one_short_line():
    assert repr(prediction()) == "Prediction(street.jpg: 10x20, road 58 %, sky 40 %, +2)"
    ignored = prediction(labels=np.full((10, 20), 255, np.uint8), source=None)
    assert repr(ignored) == "Prediction(10x20, all ignored)"
    rare = np.zeros((300, 300), np.uint8)
    rare[0, 0] = 1
    assert repr(prediction(labels=rare, source=None)) == "Prediction(300x300, road >99 %, sky <1 %)"


def test_predictions_compare_by_value():
    one, same = prediction(), prediction()
    assert one == same
    assert hash(one) == hash(same)
    others = [
        prediction(labels=np.zeros((10, 20), np.uint8)),
        prediction(image=np.zeros((10, 20, 3), np.uint8)),
        prediction(scores=np.zeros((10, 20), np.float32)),
        prediction(source=None),
        prediction(metadata=dataclasses.replace(METADATA, name="other")),
    ]
    assert one not in others
    assert [*others, same].index(one) == len(others)
    assert len({one, same, *others}) == 6
    assert one != "street.jpg"
    undefined = np.full((4, 10, 20), np.nan, np.float32)
    assert prediction(logits=undefined) == prediction(logits=undefined.copy())
    assert prediction(logits=undefined) != one


def test_predictions_can_be_copied_and_pickled():
    one = prediction(scores=np.ones((10, 20), np.float32))
    assert one.areas["sky"] == 80
    for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert again == one
        assert again.areas == one.areas


def test_asarray_gives_the_labels():
    one = prediction()
    assert np.asarray(one) is one.labels or np.shares_memory(np.asarray(one), one.labels)
    assert np.asarray(one, dtype=np.int64).dtype == np.int64
    copied = np.array(one)
    assert not np.shares_memory(copied, one.labels)
    np.testing.assert_array_equal(copied, one.labels)


# ---- overlays --------------------------------------------------------------------------------------------------------


def test_overlay_and_its_file_take_contours_and_a_legend(tmp_path):
    one = prediction()
    options = {"alpha": 0.25, "contours": True, "legend": ["sky", "car"]}
    shown = one.overlay(**options)
    assert shown.shape[0] > 10
    np.testing.assert_array_equal(shown[:10, :20], one.overlay(0.25, contours=True))
    assert not np.array_equal(one.overlay(contours=True), one.overlay())
    one.save_overlay(tmp_path / "over.png", **options)
    with Image.open(tmp_path / "over.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), shown)


def test_save_overlay_in_a_format_that_pillow_only_reads_raises(tmp_path):
    for name in ("over.psd", "over.fits", "over.xyz", "over"):
        with pytest.raises(InvalidArgumentError, match=r"path must end in .png, .jpg or another image format"):
            prediction().save_overlay(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


# ---- notebooks and windows -------------------------------------------------------------------------------------------


def image_in(page):
    kind, data = re.search(r'src="data:image/(\w+);base64,([^"]+)"', page).groups()
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format.lower() == kind
    return image


def test_html_shows_the_overlay_and_the_classes_with_colors_and_areas():
    one = prediction(source="<script>.jpg")
    page = one._repr_html_()
    np.testing.assert_array_equal(np.asarray(image_in(page)), one.overlay())
    text = re.sub(r"<[^>]*>", "", page)
    for words in (
        "&lt;script&gt;.jpg: 10x20",
        "road 58 %",
        "sky 40 %",
        "a &lt;b&gt;tree&lt;/b&gt; &lt;1 %",
        "(ignored)",
    ):
        assert words in text
    assert "<script" not in page and "<b>" not in page and "http" not in page
    assert "background:#0000ff" in page
    assert "width:240px" in page  # enlarged


def test_html_of_a_large_image_is_made_smaller():
    labels = np.zeros((1500, 3000), np.uint8)
    labels[:, 1500:] = 1
    page = prediction(labels=labels, image=np.zeros((1500, 3000, 3), np.uint8))._repr_html_()
    image = image_in(page)
    assert image.size == (800, 400)
    blue = np.asarray(image)[..., 2] > 60
    assert not blue[:, :395].any() and blue[:, 405:].all()
    assert len(page) < 100_000


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
def test_html_of_any_shape_is_made(shape):
    page = prediction(labels=np.zeros(shape, np.uint8), image=np.zeros((*shape, 3), np.uint8))._repr_html_()
    assert max(image_in(page).size) <= 800


@pytest.fixture
def notebook(monkeypatch):
    """A running notebook: what it was told to show, as HTML."""
    shown = []
    package, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    package.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display.HTML, display.display = lambda text: text, shown.append
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_show_in_a_notebook_is_below_the_cell(notebook, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    prediction().show(alpha=1, contours=True)
    (page,) = notebook
    np.testing.assert_array_equal(np.asarray(image_in(page)), prediction().overlay(1, contours=True))


def test_show_elsewhere_is_a_window(monkeypatch):
    pytest.importorskip("matplotlib")
    from seg_models.inference import prediction as module

    shown = []
    monkeypatch.setattr(module, "exhibit_figure", lambda figure, show: shown.append((figure, show)))
    prediction().show(0.25)
    ((figure, show),) = shown
    assert show is True
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), prediction().overlay(0.25))


def test_show_without_matplotlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"figures need matplotlib: pip install 'seg-core\[plot\]'"):
        prediction().show()


HOSTILE = ("a\x1b[2J\x9b\u202e\r\nb", r"a\x1b[2J\x9b\u202e\x0d\x0ab")


def test_html_shows_control_characters_of_names_readably():
    metadata = DatasetMetadata("four", (HOSTILE[0], "sky", "tree", "car"))
    text = re.sub(r"<[^>]*>", "", prediction(metadata=metadata, source=f"{HOSTILE[0]}.jpg")._repr_html_())
    assert text.count(HOSTILE[1]) >= 2
    assert not set(text) & set("\x1b\x9b\u202e\r")


def test_geojson_has_control_characters_of_names_as_escapes_of_json(tmp_path):
    pytest.importorskip("rasterio")
    metadata = DatasetMetadata("four", (HOSTILE[0], "sky", "tree", "car"))
    prediction(metadata=metadata, source=None).save(tmp_path / "a.geojson")
    text = (tmp_path / "a.geojson").read_text(encoding="ascii")
    assert not set(text) & set("\x1b\x7f\r")
    features = json.loads(text)["features"]
    assert HOSTILE[0] in {value for feature in features for value in feature["properties"].values()}
