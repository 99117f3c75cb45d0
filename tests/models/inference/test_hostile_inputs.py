"""Large, damaged and misleading images and videos, as `Predictor` and `seg predict` get them."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageFile

from seg_core import ImageChannels
from seg_core.errors import CorruptFileError, ImageTooLargeError, InvalidArgumentError
from seg_core.transforms.image_tensors import as_image_tensor
from seg_models import Predictor
from seg_models.inference import inputs, preparation, reading
from tests.models.commands.predict_helpers import seg

RNG = np.random.default_rng(4)


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file whose pixels are more than are predicted at once."""
    monkeypatch.setattr(preparation, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(inputs, "WHOLE_PIXELS", 1000)
    monkeypatch.setattr(reading, "WHOLE_PIXELS", 1000)
    Image.fromarray(RNG.integers(0, 256, (40, 50, 3)).astype(np.uint8)).save(tmp_path / "large.png")
    return tmp_path / "large.png"


def test_images_of_many_pixels_are_predicted_in_tiles(shades, large, monkeypatch):
    advice = r"more than max_pixels=1000; .*--max-pixels 2000 of seg predict; or predict it in tiles: tile=1024 of"
    for source in (large, large.read_bytes()):
        with pytest.raises(ImageTooLargeError, match=advice):
            Predictor(shades)(source)
    with Image.open(large) as image, pytest.raises(ImageTooLargeError, match=advice):
        Predictor(shades)(image)
    with Image.open(large) as image:
        image.load()  # it is in memory
        assert Predictor(shades)(image).labels.shape == (40, 50)
    whole = Predictor(shades, max_pixels=2000)(large)
    assert whole.labels.shape == (40, 50)
    shapes, prepare = [], Predictor._prepare
    monkeypatch.setattr(Predictor, "_prepare", lambda self, x: shapes.append(tuple(x.shape)) or prepare(self, x))
    options = {"tile": 16, "overlap": 0.5, "scores": True, "batch_size": 3}
    by_tiles = Predictor(shades, **options)(large)
    assert max(height * width for *_, height, width in shapes) == 16 * 16, "each tile is prepared by itself"
    monkeypatch.setattr(preparation, "WHOLE_PIXELS", 2**26)
    at_once = Predictor(shades, **options)(large)
    np.testing.assert_array_equal(by_tiles.labels, at_once.labels)
    np.testing.assert_allclose(by_tiles.scores, at_once.scores, atol=1e-6)
    np.testing.assert_array_equal(by_tiles.labels, whole.labels)  # this network looks at one pixel


def test_a_predictor_with_tiles_keeps_the_limit_of_files(shades):
    assert Predictor(shades).max_pixels == 2**26
    assert Predictor(shades, tile=512).max_pixels == 178_000_000
    assert Predictor(shades, tile=512, max_pixels=7).max_pixels == 7


def test_a_mosaic_needs_consent_and_comes_from_no_url(shades, tmp_path, monkeypatch):
    pytest.importorskip("rasterio")
    Image.fromarray(np.full((16, 16, 3), 100, np.uint8)).save(tmp_path / "a.png")
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{band}"><SimpleSource><SourceFilename relativeToVRT="1">a.png'
        f"</SourceFilename><SourceBand>{band}</SourceBand></SimpleSource></VRTRasterBand>"
        for band in (1, 2, 3)
    )
    path = tmp_path / "m.vrt"
    path.write_text(f'<VRTDataset rasterXSize="16" rasterYSize="16">{bands}</VRTDataset>')
    with pytest.raises(CorruptFileError, match=r"m.vrt is a VRT.*--allow-vrt of seg predict, allow_vrt=True in Python"):
        Predictor(shades)(path)
    assert (Predictor(shades, allow_vrt=True)(path).labels == 1).all()
    (prediction,) = Predictor(shades, allow_vrt=True).stream([path])
    assert (prediction.labels == 1).all()
    with pytest.raises(CorruptFileError):  # without its name it is none
        Predictor(shades, allow_vrt=True)(path.read_bytes())

    def fetch(url, target, noun, most):
        target.write_bytes(path.read_bytes())

    monkeypatch.setattr("seg_models.inference.downloads.fetch_once", fetch)
    with pytest.raises(CorruptFileError):
        Predictor(shades, allow_vrt=True)("https://example.org/m.vrt")


def test_the_command_reads_a_mosaic_if_it_is_told_to(shades, tmp_path, capsys):
    pytest.importorskip("rasterio")
    import seg_models
    from seg_core import DatasetMetadata
    from seg_core.transforms.preprocessing import Preprocessing

    network = seg_models.enet(num_classes=2)
    model = tmp_path / "model.pt"
    seg_models.save_model(network, model, metadata=DatasetMetadata("two", ("a", "b")), preprocessing=Preprocessing())
    Image.fromarray(np.full((32, 32), 100, np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "m.vrt").write_text(
        '<VRTDataset rasterXSize="32" rasterYSize="32"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        '<SourceFilename relativeToVRT="1">a.png</SourceFilename><SourceBand>1</SourceBand></SimpleSource>'
        "</VRTRasterBand></VRTDataset>"
    )
    options = ["--model", model, "--out", tmp_path / "out", "--device", "cpu"]
    assert seg("predict", tmp_path / "m.vrt", *options) == 1
    assert "--allow-vrt of seg predict" in capsys.readouterr().err
    assert seg("predict", tmp_path / "m.vrt", *options, "--allow-vrt") == 0
    assert (tmp_path / "out" / "m.png").exists()


@pytest.mark.parametrize("error", [RuntimeError, SyntaxError, OverflowError, IndexError, Image.DecompressionBombError])
def test_whatever_a_decoder_of_pil_raises_is_an_error_of_ours(error, shades, tmp_path, monkeypatch):
    """Such as the RuntimeError of the decoder of AVIF, which PIL imports on demand."""
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "a.png")

    def load(self):
        raise error("broken")

    gray = ImageChannels(("gray",), range=(0, 255))
    for read in (
        lambda: Predictor(shades)(tmp_path / "a.png"),
        lambda: Predictor(shades)(image),
        lambda: as_image_tensor(image),
        lambda: as_image_tensor(image, gray),
    ):
        with Image.open(tmp_path / "a.png") as image, monkeypatch.context() as patch:
            patch.setattr(ImageFile.ImageFile, "load", load)
            with pytest.raises(CorruptFileError, match=r"a\.png"):
                read()


def test_geojson_is_valid_whatever_labels_and_places_hold(tmp_path):
    pytest.importorskip("rasterio")
    from seg_core import DatasetMetadata
    from seg_core.files.geo_reference import GeoReference
    from seg_models.inference.prediction import Prediction
    from seg_models.inference.regions import polygons

    label = 'a"\\ \n\t\u2028\u202e\x1b[31m\x7f\x85'
    metadata = DatasetMetadata("two", (label, "b"))
    labels = np.array([[0, 0, 1, 1]] * 4, np.uint8)
    Prediction(labels, metadata, np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.geojson")
    content = (tmp_path / "a.geojson").read_bytes()
    assert all(byte >= 32 or byte == 10 for byte in content), "control characters are escaped"
    features = json.loads(content)["features"]
    assert [feature["properties"]["class"] for feature in features] == [label, "b"]
    import rasterio

    nowhere = GeoReference(transform=rasterio.Affine(float("inf"), 0, 0, 0, 1, 0))
    with pytest.raises(InvalidArgumentError, match="numbers that are not finite"):
        list(polygons(labels, metadata, nowhere))


def test_damaged_avif_files_are_errors_of_ours(shades, tmp_path):
    from PIL import features

    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    file = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (16, 16, 3)).astype(np.uint8)).save(file, "AVIF")
    content, refused = file.getvalue(), 0
    for place in range(0, len(content), 23):
        damaged = content[:place] + b"\xff" * 4 + content[place + 4 :]
        with pytest.raises(CorruptFileError):
            Predictor(shades)(damaged)
        try:
            image = Image.open(io.BytesIO(damaged))
        except Exception:  # of the user's own call
            continue
        try:
            Predictor(shades)(image)
        except CorruptFileError:
            refused += 1
    assert refused


def test_videos_lead_to_no_other_file_and_have_a_limit(shades, tmp_path):
    pytest.importorskip("av")
    from fractions import Fraction

    from seg_models.inference.video import VideoWriter, read_frames

    with VideoWriter(tmp_path / "real.mp4", Fraction(5)) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    concat = "ffconcat version 1.0\nfile {}\n"
    for text in (playlist, concat):
        (tmp_path / "list.mp4").write_text(text.format(tmp_path / "real.mp4"))
        with pytest.raises(CorruptFileError, match=r"list\.mp4 cannot be read as a video"):
            list(Predictor(shades)(tmp_path / "list.mp4"))
    with pytest.raises(ImageTooLargeError, match=r"real.mp4 have 64x48 = 3072 pixels .* --max-pixels 3072 of seg"):
        list(Predictor(shades, max_pixels=3071)(tmp_path / "real.mp4"))
    assert len(list(Predictor(shades, max_pixels=3072)(tmp_path / "real.mp4"))) == 1
    assert len(list(read_frames(tmp_path / "real.mp4"))) == 1
