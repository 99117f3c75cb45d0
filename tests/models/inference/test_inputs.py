"""Images from files, folders, glob patterns, URLs and memory, as `Predictor` reads them."""

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import CorruptFileError, ImageNotFoundError, InvalidArgumentError
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor

ROW = np.array([0, 100, 250, 10], np.uint8)
LABELS = np.array([0, 1, 2, 0], np.uint8)


def stripes(height=6):
    """uint8 (height, 8, 3): four gray stripes of two columns."""
    return np.repeat(np.broadcast_to(np.repeat(ROW, 2)[None, :, None], (height, 8, 3)), 1, axis=0).copy()


def test_every_kind_of_image_gives_the_same_labels(shades, tmp_path):
    Image.fromarray(stripes()).save(tmp_path / "stripes.png")
    predictor = Predictor(shades)
    for image in (
        stripes(),
        Image.fromarray(stripes()),
        torch.from_numpy(stripes()).permute(2, 0, 1),
        torch.from_numpy(stripes()).permute(2, 0, 1) / 255,
        tmp_path / "stripes.png",
        str(tmp_path / "stripes.png"),
        Image.fromarray(stripes()).convert("L"),
    ):
        prediction = predictor(image)
        assert prediction.labels.dtype == np.uint8
        np.testing.assert_array_equal(prediction.labels, np.tile(np.repeat(LABELS, 2), (6, 1)))
        np.testing.assert_array_equal(prediction.image, stripes())
        assert prediction.metadata.labels == ("dark", "middle", "bright")


def test_image_with_exif_orientation_is_turned_upright(shades, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise
    Image.fromarray(stripes()).save(tmp_path / "turned.png", exif=exif)
    expected = np.tile(np.repeat(LABELS, 2)[:, None], (1, 6))
    np.testing.assert_array_equal(Predictor(shades)(tmp_path / "turned.png").labels, expected)
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(Predictor(shades)(image).labels, expected)


def test_corrupt_or_missing_image_is_named(shades, tmp_path):
    predictor = Predictor(shades)
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:4000])
    for name in ("text.png", "cut.png"):
        with pytest.raises(CorruptFileError, match=f"{name} cannot be read: .*; replace the file or remove it"):
            predictor(tmp_path / name)
    with pytest.raises(ImageNotFoundError, match=r"there is no image .*gone.png; check the path"):
        predictor(tmp_path / "gone.png")


def test_several_images_are_predicted_in_order(shades, tmp_path):
    for name, height in (("b.png", 6), ("a.png", 4), ("c.png", 6)):
        Image.fromarray(stripes(height)).save(tmp_path / name)
    (tmp_path / "Thumbs.db").write_text("no image")
    predictor = Predictor(shades, batch_size=2)
    sources = {
        "folder": tmp_path,
        "pattern": str(tmp_path / "*.png"),
        "list": [tmp_path / "a.png", str(tmp_path / "b.png"), Image.open(tmp_path / "c.png")],
        "generator": (path for path in sorted(tmp_path.glob("*.png"))),
        "list of folders": [tmp_path],
    }
    for kind, source in sources.items():
        predictions = list(predictor(source))
        assert [p.labels.shape[0] for p in predictions] == [4, 6, 6], kind
        assert [p.source for p in predictions] == [str(tmp_path / f"{n}.png") for n in "abc"], kind
        for prediction in predictions:
            np.testing.assert_array_equal(prediction.labels[0], np.repeat(LABELS, 2))
    batch = torch.from_numpy(np.stack([stripes(), 255 - stripes()])).permute(0, 3, 1, 2)
    first, second = predictor(batch)
    np.testing.assert_array_equal(first.image, stripes())
    np.testing.assert_array_equal(second.image, 255 - stripes())
    assert (first.source, second.source) == (None, None)


def test_stream_reads_only_a_few_images_ahead(shades):
    read = []

    def camera():
        for number in range(1000):
            read.append(number)
            yield stripes()

    predictions = Predictor(shades)(camera())
    for _ in range(3):
        next(predictions)
    assert len(read) < 10
    predictions.close()


def test_stream_reports_bad_images_and_skips_them(shades, tmp_path):
    Image.fromarray(stripes()).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_text("no image")
    errors = []
    sources = [tmp_path / "a.png", tmp_path / "b.png", np.zeros((4, 4, 7), np.uint8), stripes()]
    predictor = Predictor(shades)
    predictions = list(predictor.stream(sources, on_error=lambda name, error: errors.append((name, type(error)))))
    assert len(predictions) == 2
    assert errors == [(str(tmp_path / "b.png"), CorruptFileError), (None, InvalidArgumentError)]
    with pytest.raises(CorruptFileError, match="b.png cannot be read"):
        list(predictor.stream(sources))


@pytest.mark.parametrize("source", [[3], 3, {"a": None}])
def test_source_that_is_no_image_is_an_error(source, shades):
    with pytest.raises((InvalidArgumentError, FileNotFoundError), match="a source of images must be|no image a"):
        list(Predictor(shades)(source))


def test_folder_or_pattern_without_images_is_an_error(shades, tmp_path):
    for source, words in ((tmp_path, "has no images"), (str(tmp_path / "*.png"), "no file matches")):
        with pytest.raises(FileNotFoundError, match=words):
            list(Predictor(shades)(source))


def test_every_8_bit_image_mode_is_read(shades, tmp_path):
    image = Image.fromarray(stripes())
    for mode, name in (("L", "l.png"), ("RGBA", "rgba.png"), ("LA", "la.png"), ("P", "p.png"), ("CMYK", "cmyk.jpg")):
        image.convert(mode).save(tmp_path / name, **({"quality": 100} if mode == "CMYK" else {}))
        labels = Predictor(shades)(tmp_path / name).labels
        np.testing.assert_array_equal(labels, np.tile(np.repeat(LABELS, 2), (6, 1)), err_msg=mode)


def test_16_bit_image_is_an_error_with_a_remedy(shades, tmp_path):
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(CorruptFileError, match=r"image .*deep.png has 16 bits per channel; .*reduce it to 8 bits"):
        Predictor(shades)(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image, pytest.raises(InvalidArgumentError, match="has 16 bits per"):
        Predictor(shades)(image)
    with pytest.raises(InvalidArgumentError, match="has 16 bits per channel"):
        Predictor(shades)(Image.fromarray(np.full((4, 4), 1000, np.uint16)))


def test_empty_file_is_an_error(shades, tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(CorruptFileError, match="empty.jpg cannot be read: it is empty"):
        Predictor(shades)(tmp_path / "empty.jpg")


def test_image_above_max_pixels_says_how_to_predict_it(shades, tmp_path, monkeypatch):
    for name in ("large.png", "large.jpg"):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # set by other code in the process
    pattern = "large.png has 40x40 = 1600 pixels .* max_pixels=1600 of .* predict it tile by tile: .*predict_to_file"
    with pytest.raises(CorruptFileError, match=pattern):
        Predictor(shades, max_pixels=1599)(tmp_path / "large.png")
    with pytest.raises(CorruptFileError, match="large.jpg has 40x40 = 1600 pixels") as raised:
        Predictor(shades, max_pixels=1599)(tmp_path / "large.jpg")
    assert "predict_to_file" not in str(raised.value)  # its tiles would have other pixels
    for predictor in (Predictor(shades, max_pixels=1600), Predictor(shades)):
        assert predictor(tmp_path / "large.png").labels.shape == (40, 40)
        (prediction,) = predictor.stream([tmp_path / "large.png"])
        assert prediction.labels.shape == (40, 40)
    with pytest.raises(CorruptFileError, match="max_pixels=1599"):
        list(Predictor(shades, max_pixels=1599).stream([tmp_path / "large.png"]))
    with pytest.raises(InvalidArgumentError, match="max_pixels must be an integer >= 1"):
        Predictor(shades, max_pixels=0)


def test_strip_that_the_preprocessing_would_enlarge_too_much_is_an_error(shades):
    predictor = Predictor(shades, preprocessing=Preprocessing(shorter_side=520))
    with pytest.raises(InvalidArgumentError, match=r"enlarge an image of 10x100000 pixels .* to 520x5200000; choose"):
        predictor(np.zeros((10, 100_000, 3), np.uint8))
