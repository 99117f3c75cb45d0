import dataclasses
import http.server
import io
import tempfile
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import seg_models
from seg_core.errors import CorruptFileError, ImageNotFoundError, InvalidArgumentError, NotEnoughMemoryError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.registry import MODELS
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Prediction, Predictor, predict_whole

ROW = np.array([0, 100, 250, 10], np.uint8)
LABELS = np.array([0, 1, 2, 0], np.uint8)


def stripes(height=6):
    """uint8 (height, 8, 3): four gray stripes of two columns."""
    return np.repeat(np.broadcast_to(np.repeat(ROW, 2)[None, :, None], (height, 8, 3)), 1, axis=0).copy()


def test_prediction_has_the_labels_of_the_image_whatever_its_kind(shades, tmp_path):
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


def test_prediction_is_upright_where_exif_says_so(shades, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(stripes()).save(tmp_path / "turned.png", exif=exif)
    expected = np.tile(np.repeat(LABELS, 2)[:, None], (1, 6))
    np.testing.assert_array_equal(Predictor(shades)(tmp_path / "turned.png").labels, expected)
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(Predictor(shades)(image).labels, expected)


@pytest.mark.parametrize("preprocessing", [Preprocessing(scale=0.5), Preprocessing(shorter_side=13)])
def test_prediction_has_the_images_own_size_where_the_network_sees_another(shades, preprocessing):
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    image = np.zeros((40, 64, 3), np.uint8)
    image[:, 32:] = 255
    labels = Predictor(shades, preprocessing=preprocessing)(image).labels
    assert seen == [preprocessing.size_of(40, 64)]
    assert labels.shape == (40, 64)
    assert (labels[:, :28] == 0).all()
    assert (labels[:, 36:] == 2).all()


def test_predictor_takes_a_model_file(tmp_path):
    model = seg_models.enet(num_classes=2)
    metadata = DatasetMetadata("two", ("sky", "ground"))
    seg_models.save_model(model, tmp_path / "model.pt", metadata=metadata, preprocessing=Preprocessing(scale=0.5))
    predictor = Predictor(tmp_path / "model.pt")
    assert predictor.metadata == metadata
    assert predictor.preprocessing.scale == 0.5
    image = np.random.default_rng(0).integers(0, 256, (35, 50, 3), np.uint8)
    prediction = predictor(image)
    assert prediction.labels.shape == (35, 50)
    model.eval()
    logits = torch.nn.functional.interpolate(
        predict_whole(model, predictor.preprocessing(image)), (35, 50), mode="bilinear", align_corners=False
    )
    np.testing.assert_array_equal(prediction.labels, logits.argmax(1)[0].numpy())


def test_predict_whole_gives_logits_without_a_graph(shades):
    logits = predict_whole(shades.eval(), torch.zeros(2, 3, 4, 5))
    assert logits.shape == (2, 3, 4, 5)
    assert not logits.requires_grad


def test_prediction_saved_holds_ids_and_shows_colors(shades, tmp_path):
    prediction = Predictor(shades)(stripes())
    prediction.save(tmp_path / "new" / "labels.png")
    with Image.open(tmp_path / "new" / "labels.png") as saved:
        assert saved.mode == "P"
        np.testing.assert_array_equal(np.asarray(saved), prediction.labels)
        np.testing.assert_array_equal(np.asarray(saved.convert("RGB")), prediction.colorize())
        assert saved.getpalette()[255 * 3 :] == [0, 0, 0]
    prediction.save_overlay(tmp_path / "over.png", alpha=1.0)
    with Image.open(tmp_path / "over.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), prediction.colorize())
    prediction.save_overlay(tmp_path / "over.jpg")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new", "over.jpg", "over.png"]
    for name in ("labels.jpg", "labels"):
        with pytest.raises(
            InvalidArgumentError, match=r"path must end in .png, .tif, .tiff, .geojson, which keep the class ids, got"
        ):
            prediction.save(tmp_path / name)
    with pytest.raises(InvalidArgumentError, match=r"path must end in .png, .jpg or the like"):
        prediction.save_overlay(tmp_path / "over.xyz")


def test_prediction_of_many_classes_is_saved_in_16_bits(tmp_path):
    metadata = DatasetMetadata("many", tuple(map(str, range(300))), ignore_index=65535)
    labels = np.arange(300, dtype=np.uint16).reshape(15, 20)
    Prediction(labels, metadata, np.zeros((15, 20, 3), np.uint8)).save(tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as saved:
        np.testing.assert_array_equal(np.asarray(saved), labels)


def test_prediction_areas_are_pixels_by_name_largest_first(shades):
    prediction = Predictor(shades)(stripes())
    assert list(prediction.areas.items()) == [("dark", 24), ("middle", 12), ("bright", 12)]


def test_predictor_without_metadata_says_what_to_do():
    with pytest.raises(
        InvalidArgumentError, match="the model does not say its metadata: pass metadata=, or use a model"
    ):
        Predictor(seg_models.enet(num_classes=2))
    with pytest.raises(InvalidArgumentError, match="the model does not say its preprocessing"):
        Predictor(seg_models.enet(num_classes=2), metadata=DatasetMetadata("two", ("sky", "ground")))


def test_predictor_with_metadata_of_other_classes_is_refused(shades):
    two = DatasetMetadata("two", ("sky", "ground"))
    with pytest.raises(
        InvalidArgumentError, match="metadata 'two' has 2 classes but the model was built with num_classes=3"
    ):
        Predictor(shades, metadata=two)


def test_predictor_with_a_model_of_other_channels_is_refused(shades):
    shades.build_spec = dataclasses.replace(shades.build_spec, arguments={"num_classes": 3, "in_channels": 4})
    with pytest.raises(InvalidArgumentError, match="the model takes 4 channels, and Predictor gives it RGB"):
        Predictor(shades)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_predictor_with_unusable_device_is_one_clear_error(shades, device):
    with pytest.raises(InvalidArgumentError, match=f"device '{device}' cannot be used: .*; 'cpu' always can"):
        Predictor(shades, device=device)


def test_image_that_is_corrupt_or_missing_is_named(shades, tmp_path):
    predictor = Predictor(shades)
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:4000])
    for name in ("text.png", "cut.png"):
        with pytest.raises(CorruptFileError, match=f"{name} cannot be read: .*; replace the file or leave it out"):
            predictor(tmp_path / name)
    with pytest.raises(ImageNotFoundError, match=r"there is no image .*gone.png; check the path"):
        predictor(tmp_path / "gone.png")


def test_several_images_are_predicted_one_after_the_other(shades, tmp_path):
    for name, height in (("b.png", 6), ("a.png", 4), ("c.png", 6)):
        Image.fromarray(stripes(height)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    predictor = Predictor(shades, batch_size=2)
    sources = {
        "folder": tmp_path,
        "pattern": str(tmp_path / "*.png"),
        "list": [tmp_path / "a.png", str(tmp_path / "b.png"), Image.open(tmp_path / "c.png")],
        "generator": (path for path in sorted(tmp_path.glob("*.png"))),
        "of folders": [tmp_path],
    }
    for what, source in sources.items():
        predictions = list(predictor(source))
        assert [p.labels.shape[0] for p in predictions] == [4, 6, 6], what
        assert [p.source for p in predictions] == [str(tmp_path / f"{n}.png") for n in "abc"], what
        for prediction in predictions:
            np.testing.assert_array_equal(prediction.labels[0], np.repeat(LABELS, 2))
    batch = torch.from_numpy(np.stack([stripes(), 255 - stripes()])).permute(0, 3, 1, 2)
    first, second = predictor(batch)
    np.testing.assert_array_equal(first.image, stripes())
    np.testing.assert_array_equal(second.image, 255 - stripes())
    assert (first.source, second.source) == (None, None)


def test_images_of_one_size_share_a_pass(shades):
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape)))
    images = [stripes(6), stripes(6), stripes(6), stripes(4), stripes(6)]
    assert len(list(Predictor(shades, batch_size=2)(images))) == 5
    assert seen == [(2, 3, 6, 8), (1, 3, 6, 8), (1, 3, 4, 8), (1, 3, 6, 8)]


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


def test_stream_reports_bad_images_and_goes_on(shades, tmp_path):
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
def test_source_of_no_images_is_refused(source, shades):
    with pytest.raises((InvalidArgumentError, FileNotFoundError), match="a source of images must be|no image a"):
        list(Predictor(shades)(source))


def test_folder_and_pattern_without_images_say_so(shades, tmp_path):
    for source, words in ((tmp_path, "holds no images"), (str(tmp_path / "*.png"), "no file matches")):
        with pytest.raises(FileNotFoundError, match=words):
            list(Predictor(shades)(source))


@pytest.mark.parametrize("tile", [None, 5])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_scores_are_the_probability_of_the_label_and_logits_those_of_all(shades, tile, scale):
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    preprocessing = Preprocessing((0.5,) * 3, (0.5,) * 3, scale=scale)
    predictor = Predictor(shades, preprocessing=preprocessing, scores=True, logits=True, tile=tile)
    prediction = predictor(image)
    inputs = preprocessing(image)
    expected = torch.nn.functional.interpolate(shades(inputs)["out"], (12, 20), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(prediction.logits, expected[0].numpy(), atol=1e-6)
    np.testing.assert_allclose(prediction.scores, expected.softmax(1).amax(1)[0].numpy(), atol=1e-6)
    np.testing.assert_array_equal(prediction.labels, prediction.logits.argmax(0))
    without = Predictor(shades, preprocessing=preprocessing, tile=tile)(image)
    assert (without.scores, without.logits) == (None, None)
    np.testing.assert_array_equal(without.labels, prediction.labels)


def test_threshold_leaves_unsure_pixels_without_a_class(shades):
    predictor = Predictor(shades, threshold=0.45, scores=True)
    prediction = predictor(np.arange(0, 256, 5, dtype=np.uint8).repeat(3).reshape(1, -1, 3))
    unsure = prediction.scores < 0.45
    assert 0 < unsure.sum() < unsure.size
    assert (prediction.labels[unsure] == 255).all()
    assert (prediction.labels[~unsure] < 3).all()
    assert sum(prediction.areas.values()) == (~unsure).sum()


def test_ids_take_16_bits_where_the_ignored_one_needs_them(shades):
    metadata = dataclasses.replace(shades.model_info.metadata, ignore_index=300)
    prediction = Predictor(shades, metadata=metadata, threshold=1.0)(stripes())
    assert prediction.labels.dtype == np.uint16
    assert (prediction.labels == 300).all()
    assert Predictor(shades, metadata=metadata)(stripes()).labels.dtype == np.uint8


def test_tta_is_that_of_predict_tta_and_swaps_left_and_right(shades):
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    predictor = Predictor(shades, tta={"scales": (0.5, 1.0), "hflip": True}, logits=True)
    expected = seg_models.predict_tta(shades, predictor.preprocessing(image), (0.5, 1.0), hflip=True)
    np.testing.assert_allclose(predictor(image).logits, expected[0].numpy(), atol=1e-6)
    assert not np.allclose(Predictor(shades, logits=True)(image).logits, expected[0].numpy(), atol=1e-3)

    pairs = dataclasses.replace(shades.model_info.metadata, left_right_pairs=((0, 2),))
    swapped = Predictor(shades, metadata=pairs, tta=[1.0], logits=True)(image).logits
    given = seg_models.predict_tta(shades, predictor.preprocessing(image), (1.0,), left_right_pairs=[(0, 2)])
    np.testing.assert_allclose(swapped, given[0].numpy(), atol=1e-6)


def test_tta_inside_tiles_sees_no_more_than_a_tile(shades):
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    predictor = Predictor(shades, tta=[1.0, 2.0], tile=(4, 6), logits=True)
    logits = predictor(stripes(20)).logits
    assert set(seen) == {(4, 6), (8, 12)}
    inputs = predictor.preprocessing(stripes(20))[0]
    blocks = seg_models.tiled_blocks(
        lambda windows: seg_models.predict_tta(shades, windows, [1.0, 2.0]),
        lambda top, left, height, width: inputs[:, top : top + height, left : left + width],
        (20, 8),
        (4, 6),
    )
    for top, left, block in blocks:
        part = logits[:, top : top + block.shape[1], left : left + block.shape[2]]
        np.testing.assert_allclose(part, block.numpy(), atol=1e-6)


def test_bf16_computes_in_it_on_a_copy():
    model = seg_models.enet(num_classes=2)
    metadata = DatasetMetadata("two", ("sky", "ground"))
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    options = {"metadata": metadata, "preprocessing": Preprocessing()}
    exact = Predictor(model, logits=True, **options)(image)
    half = Predictor(model, dtype="bf16", logits=True, **options)
    assert next(half.model.parameters()).dtype == torch.bfloat16
    assert next(model.parameters()).dtype == torch.float32
    rough = half(image)
    assert rough.logits.dtype == np.float32
    difference = np.abs(rough.logits - exact.logits).mean()
    assert 0 < difference < 0.05 * np.abs(exact.logits).mean()
    labels = Predictor(model, dtype=torch.bfloat16, tta=[1.0, 0.5], **options)(image).labels
    assert labels.shape == (64, 96)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size must be a number of images from 1 on, got 0"),
        ({"threshold": 1.5}, "threshold must be a probability, 0 to 1, or None, got 1.5"),
        ({"min_region": 0}, "min_region must be a number of pixels from 1 on, got 0"),
        ({"tile": 0}, "tile must be"),
        ({"tile": 8, "overlap": 1.0}, "overlap must be a share from 0 to below 1, got 1.0"),
        ({"tile": 8, "blend": "linear"}, "blend must be one of hann, constant, got 'linear'"),
        ({"tta": [0]}, "tta must have scales above 0"),
        ({"tta": {"flip": True}}, "tta has no option 'flip'; it has scales, hflip"),
        ({"dtype": "int8"}, "dtype must be one of fp32, bf16, fp16"),
        ({"dtype": "fp16", "device": "cpu"}, 'dtype "fp16" needs a GPU'),
        ({"weights": "DEFAULT"}, "weights='DEFAULT' cannot be used with a network"),
    ],
)
def test_predictor_names_the_argument_that_is_wrong(options, words, shades):
    with pytest.raises(InvalidArgumentError, match=words):
        Predictor(shades, **options)


def test_predictor_by_name_takes_the_default_weights_and_says_so(monkeypatch, caplog):
    asked = []

    def no_download(self, progress=True):
        asked.append(self.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(seg_models.FCN_ResNet50_Weights, "get_state_dict", no_download)
    with pytest.raises(KeyboardInterrupt):
        Predictor("fcn_resnet50")
    assert asked == ["COCO_WITH_VOC_LABELS_V1"]
    assert "no weights named, taking FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1" in caplog.text
    with pytest.raises(InvalidArgumentError, match="model 'regseg' has no published weights; give a model file"):
        Predictor("regseg")


def test_memory_that_does_not_suffice_is_told_with_what_to_do(shades):
    def fail(_module, _inputs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    shades.register_forward_pre_hook(fail)
    with pytest.raises(NotEnoughMemoryError, match="not enough memory for the image .*; predict in windows: tile=512"):
        Predictor(shades)(stripes())
    with pytest.raises(NotEnoughMemoryError, match=r"take a smaller tile \(now 4\), or lower batch_size \(now 2\)"):
        Predictor(shades, tile=4, batch_size=2)(stripes())


# ---- bad input -------------------------------------------------------------------------------------------------------


def test_image_modes_of_8_bits_are_all_read(shades, tmp_path):
    image = Image.fromarray(stripes())
    for mode, name in (("L", "l.png"), ("RGBA", "rgba.png"), ("LA", "la.png"), ("P", "p.png"), ("CMYK", "cmyk.jpg")):
        image.convert(mode).save(tmp_path / name, **({"quality": 100} if mode == "CMYK" else {}))
        labels = Predictor(shades)(tmp_path / name).labels
        np.testing.assert_array_equal(labels, np.tile(np.repeat(LABELS, 2), (6, 1)), err_msg=mode)


def test_image_of_16_bits_names_file_and_remedy(shades, tmp_path):
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(CorruptFileError, match=r"image .*deep.png has 16 bits per channel; .*reduce it to 8 bits"):
        Predictor(shades)(tmp_path / "deep.png")
    with Image.open(tmp_path / "deep.png") as image, pytest.raises(InvalidArgumentError, match="has 16 bits per"):
        Predictor(shades)(image)
    with pytest.raises(InvalidArgumentError, match="has 16 bits per channel"):
        Predictor(shades)(Image.fromarray(np.full((4, 4), 1000, np.uint16)))


def test_empty_file_is_told_as_such(shades, tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(CorruptFileError, match="empty.jpg cannot be read: it is empty"):
        Predictor(shades)(tmp_path / "empty.jpg")


def test_image_too_large_to_decode_says_how_to_predict_it(shades, tmp_path, monkeypatch):
    for name in ("large.png", "large.jpg"):
        Image.fromarray(np.zeros((40, 40, 3), np.uint8)).save(tmp_path / name)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)  # of others in the process
    pattern = "large.png has 40x40 = 1600 pixels .* max_pixels=1600 of .* predict it tile by tile: .*predict_to_file"
    with pytest.raises(CorruptFileError, match=pattern):
        Predictor(shades, max_pixels=1599)(tmp_path / "large.png")
    with pytest.raises(CorruptFileError, match="large.jpg has 40x40 = 1600 pixels") as told:
        Predictor(shades, max_pixels=1599)(tmp_path / "large.jpg")
    assert "predict_to_file" not in str(told.value)  # windows of it would have other pixels
    for predictor in (Predictor(shades, max_pixels=1600), Predictor(shades)):
        assert predictor(tmp_path / "large.png").labels.shape == (40, 40)
        (prediction,) = predictor.stream([tmp_path / "large.png"])
        assert prediction.labels.shape == (40, 40)
    with pytest.raises(CorruptFileError, match="max_pixels=1599"):
        list(Predictor(shades, max_pixels=1599).stream([tmp_path / "large.png"]))
    with pytest.raises(InvalidArgumentError, match="max_pixels must be an integer >= 1"):
        Predictor(shades, max_pixels=0)


@pytest.mark.parametrize("shape", [(1, 1, 3), (10, 5000, 3), (5000, 1, 3)])
@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"tta": True}, {"scores": True}])
def test_extreme_shapes_are_predicted(shape, options):
    model = seg_models.enet(num_classes=2)
    metadata = DatasetMetadata("two", ("sky", "ground"))
    predictor = Predictor(model, metadata=metadata, preprocessing=Preprocessing(), **options)
    assert predictor(np.zeros(shape, np.uint8)).labels.shape == shape[:2]


def test_strip_that_the_preprocessing_would_blow_up_is_refused(shades):
    predictor = Predictor(shades, preprocessing=Preprocessing(shorter_side=520))
    with pytest.raises(InvalidArgumentError, match=r"enlarge an image of 10x100000 pixels .* to 520x5200000; choose"):
        predictor(np.zeros((10, 100_000, 3), np.uint8))


# ---- addresses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(tmp_path):
    """Serves images; /stalls.png sends half of one and then nothing."""
    body = io.BytesIO()
    Image.fromarray(stripes()).save(body, "png")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/gone.png":
                return self.send_error(404)
            data = body.getvalue()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.path == "/stalls.png":
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
                stop.wait(10)
                return None
            self.wfile.write(data)
            return None

        def log_message(self, *_):
            pass

    stop = threading.Event()
    served = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{served.server_port}"
    stop.set()
    served.shutdown()
    thread.join()
    served.server_close()


def test_image_of_an_address_is_fetched_and_not_kept(shades, server, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    prediction = Predictor(shades)(f"{server}/stripes.png")
    np.testing.assert_array_equal(prediction.labels[0], np.repeat(LABELS, 2))
    assert prediction.source == f"{server}/stripes.png"
    assert list(tmp_path.iterdir()) == []


def test_address_that_stalls_or_has_nothing_is_one_clear_error(shades, server, tmp_path, monkeypatch):
    monkeypatch.setattr("seg_core.files.download.READ_TIMEOUT", 0.3)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(CorruptFileError, match=r"stalls.png cannot be fetched: .*nothing received for 0.3 s"):
        Predictor(shades)(f"{server}/stalls.png")
    with pytest.raises(CorruptFileError, match=r"gone.png cannot be fetched: .*status 404"):
        Predictor(shades)(f"{server}/gone.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("options", [{}, {"tile": 16}, {"tta": [0.5, 1.0]}, {"scores": True}])
def test_image_smaller_than_the_network_takes_is_filled_up(options):
    name = "fcn_vgg16"
    assert MODELS.entry(name).min_size == 32
    torch.manual_seed(0)
    model = seg_models.get_model(name, num_classes=2)
    metadata = DatasetMetadata("two", ("sky", "ground"))
    predictor = Predictor(model, metadata=metadata, preprocessing=Preprocessing(), logits=True, **options)
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    prediction = predictor(image)
    assert prediction.labels.shape == (20, 40)
    if not options:
        pixels = torch.from_numpy(image).permute(2, 0, 1)[None]
        images = EvaluationTransform(Preprocessing()).normalize(pixels, torch.device("cpu"))
        filled = torch.nn.functional.pad(images, (0, 0, 0, 12))
        with torch.inference_mode():
            expected = model(filled)["out"][0, :, :20]
        np.testing.assert_array_equal(prediction.logits, expected.numpy())
