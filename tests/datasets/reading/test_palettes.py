"""Palette masks in another order than the ids: the warning, and the accidents that are none."""

import pickle
import warnings

import numpy as np
import pytest
from PIL import Image

from seg_core import IGNORE, DatasetMetadata, LabelMap, resolve_metadata
from seg_core.labels.palette import default_palette
from seg_core.registry import DATASETS
from seg_datasets import FolderDataset
from seg_datasets.doctor.fake import fake
from seg_datasets.reading.color_masks import ColorReader
from seg_datasets.reading.palettes import PaletteCheck, PaletteOrder
from seg_datasets.reading.samples import Reading, read_mask
from tests.datasets.official.test_official import editions

VOC = resolve_metadata("VOC")
PERSON, VOID = VOC.colors[15], VOC.ignore_color
RED, GREEN, BLUE, BLACK, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0), (255, 255, 255)
TRAFFIC = DatasetMetadata("traffic", ("road", "car", "tree"), (RED, GREEN, BLUE))


def palette_mask(path, ids, palette, **options):
    """Writes a palette PNG; the entries after those given are black."""
    image = Image.fromarray(np.asarray(ids, np.uint8)).convert("P")
    image.putpalette([value for color in palette for value in color])
    image.save(path, "PNG", **options)
    return path


def messages(path, metadata, label_map=None, **options):
    """The warnings of reading a mask by index."""
    label_map = label_map or LabelMap.identity(metadata.num_classes, 255)
    reading = Reading(palette=PaletteCheck(metadata, label_map, "what to do"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read_mask(path, reading, **options)
    return [str(warning.message) for warning in caught]


def test_read_mask_with_reordered_palette_names_file_index_both_classes_and_what_to_do(tmp_path):
    path = palette_mask(tmp_path / "a.png", [[0, 1], [2, 1]], [BLACK, PERSON, VOID])
    (message,) = messages(path, VOC)
    assert message == (
        f"mask {path}: palette index 1 has the color rgb 192,128,128 of class 15 'person', but is read as class 1 "
        "'aeroplane'. Masks are read by index, and a program that saved the file again may have reordered its palette: "
        "what to do. Other such masks are not reported"
    )


def test_read_mask_reordered_by_pillow_itself_is_found(tmp_path):
    """Saving with `optimize` or through RGB and back are ways in which palettes are reordered."""
    ids = np.array([[0, 15, 15], [7, 255, 0]])
    palette = [VOC.colors[i] if i < 21 else VOID for i in range(256)]
    path = palette_mask(tmp_path / "a.png", ids, palette)
    assert messages(path, VOC) == []
    with Image.open(path) as image:
        image.convert("RGB").quantize(8).save(tmp_path / "b.png")
    assert "palette index" in messages(tmp_path / "b.png", VOC)[0]


def test_read_mask_where_a_class_sits_at_an_ignored_index_is_found(tmp_path):
    label_map = LabelMap({0: IGNORE, 1: 0, 2: 1, 3: 2})
    assert (
        messages(palette_mask(tmp_path / "a.png", [[1, 2, 3, 0]], [BLACK, RED, GREEN, BLUE]), TRAFFIC, label_map) == []
    )
    (message,) = messages(palette_mask(tmp_path / "b.png", [[0, 1]], [RED, GREEN]), TRAFFIC, label_map)
    assert "palette index 0 has the color rgb 255,0,0 of class 0 'road', but is read as ignored" in message


ACCIDENTS = {
    "in_order": ([[0, 1, 2]], [RED, GREEN, BLUE], TRAFFIC),
    "gray_ramp": ([[0, 1]], [(i, i, i) for i in range(256)], DatasetMetadata("g", ("a", "b"), ((1, 1, 1), BLACK))),
    "gray_ramp_spread": ([[0, 1]], [BLACK, WHITE], DatasetMetadata("g", ("a", "b"), (WHITE, BLACK))),
    "black_is_ignored": ([[0, 1]], [BLACK, GREEN], TRAFFIC),
    "black_is_another_class": (
        [[0, 1]],
        [BLACK, GREEN],
        DatasetMetadata("g", ("a", "b", "c"), (RED, GREEN, BLACK), ignore_color=(1, 2, 3)),
    ),
    "single_index": ([[0, 0]], [GREEN, RED], TRAFFIC),
    "unrelated": ([[0, 1, 2]], [(9, 9, 200), RED, (7, 0, 99)], TRAFFIC),
    "unused_entries": ([[0, 1]], [RED, GREEN, RED], TRAFFIC),
    "unused_wrong": ([[0, 1]], [RED, GREEN, (5, 5, 5), BLUE], TRAFFIC),
    "all_entries_equal": ([[0, 1, 2]], [RED] * 256, TRAFFIC),
    "shared_color": ([[0, 1, 2]], [RED, RED, BLUE], DatasetMetadata("s", ("a", "b", "c"), (RED, RED, BLUE))),
    "void_of_voc": ([[0, 15, 255]], [*VOC.colors, *[BLACK] * 234, VOID], VOC),
    "default_colors": ([[0, 1]], default_palette(3)[1:], DatasetMetadata("d", ("a", "b", "c"))),
}


@pytest.mark.parametrize("name", ACCIDENTS)
def test_read_mask_with_a_palette_that_is_no_reordering_gives_no_warning(tmp_path, name):
    ids, palette, metadata = ACCIDENTS[name]
    assert messages(palette_mask(tmp_path / "a.png", ids, palette), metadata) == []


def test_read_mask_with_a_transparent_wrong_entry_gives_no_warning(tmp_path):
    ids, palette = [[0, 1, 2]], [RED, GREEN, GREEN]
    clear = palette_mask(tmp_path / "a.png", [[0, 2, 3]], [RED, BLUE, GREEN], transparency=bytes([255, 255, 0]))
    assert messages(clear, TRAFFIC) == []
    assert messages(palette_mask(tmp_path / "b.png", [[0, 2]], [RED, BLUE, GREEN]), TRAFFIC)
    assert messages(palette_mask(tmp_path / "c.png", ids, palette, transparency=2), TRAFFIC) == []


def test_folder_dataset_warns_once_and_the_ids_stay(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / "train" / folder).mkdir(parents=True)
    for name in "ab":
        Image.new("RGB", (2, 1)).save(tmp_path / "train" / "images" / f"{name}.png")
        palette_mask(tmp_path / "train" / "masks" / f"{name}.png", [[0, 1]], [GREEN, RED])
    dataset = pickle.loads(pickle.dumps(FolderDataset(tmp_path, TRAFFIC)))
    with pytest.warns(UserWarning, match="a.png: palette index 0 .* class 1 'car', .*colors=True") as caught:
        masks = [dataset[index][1].tolist() for index in (0, 1)]
    assert len(caught) == 1
    assert masks == [[[0, 1]]] * 2


@pytest.mark.parametrize(("name", "edition"), [(n, e) for n in ("VOC", "MapillaryVistas") for e in editions(n)])
def test_official_masks_give_no_warning_and_reordered_ones_do(tmp_path, name, edition):
    root = fake(name, tmp_path / "data", edition=edition or None)
    options = {"version": edition} if edition else {}
    dataset = DATASETS.get(name)(root, "train", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset[0], dataset[1]
    path = dataset.file_names(0)[1]
    with Image.open(path) as image:
        palette = np.reshape(image.getpalette(), (-1, 3)).tolist()
        ids = np.array(image)
    raw = [raw for raw, train in dataset.label_map.mapping.items() if isinstance(train, int)][:3]
    palette_mask(path, np.resize([0, 1], ids.shape), [palette[raw[2]], palette[raw[0]]])
    with pytest.warns(UserWarning, match="palette index 0 has the color .* unpack the archive again"):
        dataset[0]


def test_official_dataset_with_another_label_set_compares_its_own_colors(tmp_path):
    dataset = DATASETS.get("MapillaryVistas")(fake("MapillaryVistas", tmp_path / "data"), "train", label_set="Street")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset[0]


@pytest.mark.parametrize("name", ["Potsdam", "Vaihingen", "iSAID"])
def test_color_reader_decodes_what_would_be_a_warning_by_index(tmp_path, name):
    metadata = resolve_metadata(name)
    colors = dict(enumerate(metadata.colors))
    palette = [metadata.colors[3], metadata.colors[1], metadata.colors[2], (9, 200, 7)]
    path = palette_mask(tmp_path / "a.png", [[0, 1], [2, 3]], palette)
    assert messages(path, metadata)
    with pytest.warns(UserWarning, match=r"rgb 9,200,7 \(1 pixel\)"):
        assert ColorReader(colors)(path).tolist() == [[3, 1], [2, 254]]
    ordered = palette_mask(tmp_path / "b.png", [[0, 1], [2, 3]], [*metadata.colors[:3], (9, 200, 7)])
    assert messages(ordered, metadata) == []
    assert ColorReader(colors)(ordered).tolist() == [[0, 1], [2, 3]]


def test_order_looks_at_the_pixels_of_a_good_palette_never(monkeypatch):
    image = Image.new("P", (4, 4))
    image.putpalette([*RED, *GREEN, *BLUE])
    monkeypatch.setattr(Image.Image, "histogram", lambda self: pytest.fail("pixels were counted"))
    assert PaletteOrder(dict(enumerate(TRAFFIC.colors))).first_misplaced(image) is None
