"""What `Predictor` takes and gives: one image or several, changing arrays, frames of files, errors of one of many."""

import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence
from torch import nn

from seg_core.errors import CorruptFileError, ImageNotFoundError, InvalidArgumentError, NotEnoughMemoryError, UserError
from seg_models import Predictor
from seg_models.inference.inputs import InputImage, load_input
from seg_models.inference.prediction import Prediction

GRAYS = (10, 128, 250, 20, 130, 240)
LABELS = [0, 1, 2, 0, 1, 2]


def plain(gray, size=(6, 8)):
    return np.full((*size, 3), gray, np.uint8)


def labels_of(predictions):
    return [int(prediction.labels[0, 0]) for prediction in predictions]


def in_file(image, kind="png", **options):
    """Returns the bytes of a file of a PIL image."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


# ---- images that change ----------------------------------------------------------------------------------------------


def one_array(dtype):
    buffer = np.empty((6, 8, 3), dtype)
    for gray in GRAYS:
        buffer[:] = gray / (1 if dtype == np.uint8 else 255)
        yield buffer


def one_tensor(dtype):
    buffer = torch.empty(3, 6, 8, dtype=dtype)
    for gray in GRAYS:
        yield buffer.fill_(gray if dtype == torch.uint8 else gray / 255)


def one_pil_image():
    buffer = Image.new("RGB", (8, 6))
    for gray in GRAYS:
        buffer.paste((gray, gray, gray), (0, 0, 8, 6))
        yield buffer


def one_video_frame(kind):
    av = pytest.importorskip("av")
    buffer = av.VideoFrame(32, 6, kind)
    for gray in GRAYS:
        plane = buffer.planes[0]
        plane.update(bytes([gray]) * plane.buffer_size)
        yield buffer


def closed_files(folder):
    for number, gray in enumerate(GRAYS):
        Image.fromarray(plain(gray)).save(folder / f"{number}.png")
        with Image.open(folder / f"{number}.png") as image:
            yield image


CAMERAS = {
    "uint8 array": lambda _: one_array(np.uint8),
    "float array": lambda _: one_array(np.float32),
    "gray array": lambda _: (array[..., 0] for array in one_array(np.uint8)),
    "flipped array": lambda _: (array[::-1] for array in one_array(np.uint8)),
    "uint8 tensor": lambda _: one_tensor(torch.uint8),
    "float tensor": lambda _: one_tensor(torch.float32),
    "double tensor": lambda _: one_tensor(torch.float64),
    "PIL": lambda _: one_pil_image(),
    "PyAV rgb24": lambda _: one_video_frame("rgb24"),
    "PyAV gray": lambda _: one_video_frame("gray"),
    "closed files": closed_files,
}


@pytest.mark.parametrize("camera", CAMERAS)
def test_each_frame_of_a_buffer_that_is_filled_anew_gets_its_own_labels(camera, shades, tmp_path):
    predictions = list(Predictor(shades, batch_size=2)(CAMERAS[camera](tmp_path)))
    assert labels_of(predictions) == LABELS
    assert [int(prediction.image[0, 0, 0]) for prediction in predictions] == list(GRAYS)


@pytest.mark.parametrize("kind", ["array", "tensor", "float array"])
def test_image_of_a_prediction_does_not_change_with_the_array_it_was_made_from(kind, shades):
    image = plain(128)
    if kind == "tensor":
        image = torch.from_numpy(image).permute(2, 0, 1)
    elif kind == "float array":
        image = (image / 255).astype(np.float32)
    single = Predictor(shades)(image)
    (listed,) = Predictor(shades)([image])
    image[:] = 0
    assert (single.image == 128).all()
    assert (listed.image == 128).all()


def test_what_is_a_copy_already_is_not_copied_again():
    own = InputImage("clip.mp4, frame 0", plain(1), is_own=True)
    assert np.shares_memory(load_input(own).pixels.numpy(), own.content)
    other = InputImage(None, plain(1))
    assert not np.shares_memory(load_input(other).pixels.numpy(), other.content)


# ---- one image or several --------------------------------------------------------------------------------------------


def test_list_tuple_and_batch_give_a_list(shades, tmp_path):
    Image.fromarray(plain(250)).save(tmp_path / "a.png")
    predictor = Predictor(shades)
    batch = torch.stack([torch.full((3, 6, 8), gray, dtype=torch.uint8) for gray in GRAYS])
    for source in ([plain(gray) for gray in GRAYS], tuple(map(plain, GRAYS)), batch, np.stack([*map(plain, GRAYS)])):
        predictions = predictor(source)
        assert isinstance(predictions, list)
        assert labels_of(predictions) == LABELS
    assert labels_of(predictor([tmp_path, plain(10)])) == [2, 0]
    assert predictor([]) == []
    for source in (map(plain, GRAYS), tmp_path, str(tmp_path / "*.png")):
        predictions = predictor(source)
        assert iter(predictions) is predictions
        assert isinstance(next(predictions), Prediction)
    for source in ([plain(10)], batch):
        predictions = predictor.stream(source)
        assert iter(predictions) is predictions


def test_contents_of_an_image_file_are_an_image(shades, tmp_path):
    data = in_file(Image.fromarray(plain(250)))
    (tmp_path / "a.png").write_bytes(data)
    written = io.BytesIO()
    Image.fromarray(plain(250)).save(written, "png")  # stands at its end
    predictor = Predictor(shades)
    with (tmp_path / "a.png").open("rb") as file:
        for source in (data, bytearray(data), memoryview(data), io.BytesIO(data), written, file):
            assert predictor(source).labels[0, 0] == 2
            assert labels_of(predictor([source, source])) == [2, 2]
        assert predictor(file).source == str(tmp_path / "a.png")
    assert predictor(data).source is None
    with pytest.raises(CorruptFileError, match=r"image \(in memory\) cannot be read"):
        predictor(b"no image")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (0, "must be a path, .*, got 0; a camera is read by cv2 or PyAV"),
        (None, "got None; cv2.imread returns None"),
        (3.5, r"got 3\.5"),
        (io.StringIO("a"), "must be opened in binary mode"),
        (object(), "got <object"),
    ],
)
def test_source_that_is_no_image_is_a_type_error_at_the_call(source, words, shades):
    for predict in (Predictor(shades), Predictor(shades).stream):
        with pytest.raises(TypeError, match=words) as raised:
            predict(source)
        assert isinstance(raised.value, InvalidArgumentError)


def test_source_that_is_no_path_is_an_error_at_the_call(shades):
    with pytest.raises(InvalidArgumentError, match="the path of an image is an empty string"):
        Predictor(shades)("")
    for url in ("rtsp://camera/1", "s3://bucket/a.png"):
        with pytest.raises(InvalidArgumentError, match=f"'{url}' cannot be read: URLs of images and videos begin with"):
            Predictor(shades)(url)
    with pytest.raises(UserError, match="cannot be read"):
        Predictor(shades)("a" * 5000 + ".png")


# ---- images whose values are no colors -------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_value_that_is_not_finite_is_refused_and_located(value, shades):
    image = np.full((6, 8, 3), 0.5, np.float32)
    image[4, 7, 1] = value
    words = rf"must be finite, in 0 to 1, got {value} at row 4, column 7, channel 1 \(1 such pixels\); replace"
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    for source in (image, tensor, image.astype(np.float64), tensor.double()):
        with pytest.raises(InvalidArgumentError, match=words):
            Predictor(shades)(source)
    with pytest.raises(InvalidArgumentError, match=f"image 1 of the source: .*{words}"):
        Predictor(shades)([plain(10), image])
    with pytest.raises(InvalidArgumentError, match="must be in 0 to 1, got values from 0 to 255"):
        Predictor(shades)(np.array([[0, 255]], np.float32))


def test_value_that_is_not_finite_is_located_in_the_whole_image_when_read_by_tiles(shades, tmp_path):
    image = np.full((70, 90, 3), 0.5, np.float32)
    image[66, 81, 2] = np.nan
    np.save(tmp_path / "image.npy", image)
    with pytest.raises(InvalidArgumentError, match="at row 66, column 81, channel 2"):
        Predictor(shades, tile=32).predict_to_file(tmp_path / "image.npy", tmp_path / "labels.npy")


@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "longdouble"])
def test_floats_of_every_precision_and_byte_order_give_the_same_labels(dtype, shades):
    images = [(plain(gray) / 255).astype(dtype) for gray in GRAYS]
    assert labels_of(Predictor(shades)(images)) == LABELS


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_float_tensors_of_every_precision_give_the_same_labels(dtype, shades):
    images = [torch.full((3, 6, 8), gray / 255).to(dtype) for gray in GRAYS]
    assert labels_of(Predictor(shades)(images)) == LABELS


def test_field_of_a_record_is_read(shades):
    record = np.zeros((6, 8), [("id", np.uint8), ("shade", np.float32)])
    record["shade"] = 1
    assert Predictor(shades)(record["shade"]).labels[0, 0] == 2


@pytest.mark.parametrize("dtype", [">u2", "<u2", "i8", "i1", "bool", "c8", "O", "U1", "M8[s]"])
def test_other_numbers_are_refused_and_the_other_images_go_on(dtype, shades):
    wrong = np.zeros((6, 8, 3), dtype)
    errors = []
    predictions = Predictor(shades).stream([plain(10), wrong, plain(250)], on_error=lambda *of: errors.append(of))
    assert labels_of(predictions) == [0, 2]
    ((name, error),) = errors
    assert name is None
    assert isinstance(error, InvalidArgumentError)
    assert str(error).startswith(
        f"image 1 of the source: image must be uint8 in 0 to 255 or float in 0 to 1, got {wrong.dtype}"
    )


# ---- errors of single images -----------------------------------------------------------------------------------------


class Fragile(nn.Module):
    """Raises `error` if an image of its batch is bright."""

    def __init__(self, network, error):
        super().__init__()
        self.network, self.error = network, error

    def forward(self, x):
        if (x.amax((1, 2, 3)) > 0.9).any():
            raise self.error
        return self.network(x)


def fragile(shades, error):
    info = shades.model_info
    return Fragile(shades, error), {"metadata": info.metadata, "preprocessing": info.preprocessing}


@pytest.mark.parametrize("batch_size", [1, 2, 4])
@pytest.mark.parametrize("error", [RuntimeError("no such size"), ValueError("wrong"), KeyError("x")])
def test_only_the_image_that_fails_is_reported(error, batch_size, shades, tmp_path):
    for number, gray in enumerate((10, 128, 255, 20)):
        Image.fromarray(plain(gray)).save(tmp_path / f"{number}.png")
    network, options = fragile(shades, error)
    predictor = Predictor(network, batch_size=batch_size, **options)
    errors = []
    predictions = list(predictor.stream(tmp_path, on_error=lambda *of: errors.append(of)))
    assert labels_of(predictions) == [0, 1, 0]
    assert errors == [(str(tmp_path / "2.png"), error)]
    with pytest.raises(type(error)):
        list(predictor.stream(tmp_path))


def test_memory_that_runs_out_for_a_batch_is_tried_image_by_image(shades):
    network, options = fragile(shades, RuntimeError("CUDA out of memory"))
    errors = []
    predictor = Predictor(network, batch_size=3, **options)
    predictions = list(predictor.stream(map(plain, (10, 255, 128)), on_error=lambda *of: errors.append(of)))
    assert labels_of(predictions) == [0, 1]
    assert [type(error) for _, error in errors] == [NotEnoughMemoryError]


def test_interruption_is_not_reported(shades):
    network, options = fragile(shades, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        list(Predictor(network, **options).stream([plain(255)], on_error=lambda *_: None))


def test_error_of_a_decoder_is_reported(shades, monkeypatch, tmp_path):
    def broken(image):
        raise RuntimeError("decoder")

    Image.fromarray(plain(10)).save(tmp_path / "a.png")
    monkeypatch.setattr("seg_models.inference.reading.read_image", lambda *_, **__: broken(None))
    errors = []
    predictions = Predictor(shades).stream([tmp_path / "a.png", plain(250)], on_error=lambda *of: errors.append(of))
    assert labels_of(predictions) == [2]
    assert [(name, str(error)) for name, error in errors] == [(str(tmp_path / "a.png"), "decoder")]


def test_wrong_items_are_reported_one_by_one(shades, tmp_path):
    (tmp_path / "empty").mkdir()
    wrong = [None, 3, tmp_path / "empty", str(tmp_path / "*.png"), tmp_path / "gone.mp4", "", np.zeros(3, np.uint8)]
    errors = []
    sources = [item for one in wrong for item in (one, plain(10))]
    predictions = list(Predictor(shades).stream(sources, on_error=lambda *of: errors.append(of)))
    assert labels_of(predictions) == [0] * len(wrong)
    names = [name for name, _ in errors]
    assert names == [None, None, str(tmp_path / "empty"), str(tmp_path / "*.png"), str(tmp_path / "gone.mp4"), "", None]
    assert "image 2 of the source: a source of images must be" in str(errors[1][1])
    assert isinstance(errors[1][1], TypeError)
    with pytest.raises(TypeError, match="image 0 of the source"):
        Predictor(shades)([None])


def test_error_of_a_generator_comes_after_the_images_before_it(shades):
    def camera():
        yield from map(plain, (10, 128, 250))
        raise ConnectionError("unplugged")

    for batch_size in (1, 2, 8):
        predictions = Predictor(shades, batch_size=batch_size)(camera())
        assert labels_of(next(predictions) for _ in range(3)) == [0, 1, 2]
        with pytest.raises(ConnectionError, match="unplugged"):
            next(predictions)


def test_error_of_an_image_comes_after_the_images_before_it(shades, tmp_path):
    predictions = Predictor(shades, batch_size=8)(iter([plain(10), plain(128), tmp_path / "gone.png", plain(250)]))
    assert labels_of(next(predictions) for _ in range(2)) == [0, 1]
    with pytest.raises(ImageNotFoundError):
        next(predictions)


# ---- files of several frames -----------------------------------------------------------------------------------------


def animation(path, kind, **options):
    first, *others = [Image.fromarray(plain(gray)) for gray in GRAYS[:3]]
    first.save(path, kind, save_all=True, append_images=others, **options)
    return path


KINDS = {
    "GIF": ("GIF", {"duration": 40}, "frame"),
    "TIFF": ("TIFF", {}, "page"),
    "WebP": ("WEBP", {"lossless": True}, "frame"),
    "APNG": ("PNG", {}, "frame"),
    "MPO": ("MPO", {}, "frame"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_first_frame_is_predicted_with_a_warning_or_all_of_them(kind, shades, tmp_path):
    form, options, noun = KINDS[kind]
    path = animation(tmp_path / f"moves.{kind.lower()}", form, **options)
    words = rf"has 3 {noun}s; only .* predicted.*; all_frames=True of the Predictor, or --all-frames .*predicts all"
    predictor, every = Predictor(shades), Predictor(shades, all_frames=True)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.warns(UserWarning, match=words):
            assert predictor(source).labels[0, 0] == 0
    with pytest.warns(UserWarning, match=words), Image.open(path) as image:
        assert predictor(image).labels[0, 0] == 0
    predictions = list(every(path))
    assert labels_of(predictions) == [0, 1, 2]
    assert [p.source for p in predictions] == [f"{path}, {noun} {number}" for number in range(3)]
    assert [p.source for p in every([path, plain(10)])] == [*(p.source for p in predictions), None]
    assert labels_of(every(path.read_bytes())) == [0, 1, 2]
    with Image.open(path) as image:
        image.seek(1)
        assert labels_of(every(image)) == [0, 1, 2]
        assert image.tell() == 1
        assert labels_of(predictor(ImageSequence.Iterator(image))) == [0, 1, 2]
    assert labels_of(every.stream(path)) == [0, 1, 2]


def test_warning_comes_once_for_a_stream(shades, tmp_path):
    for name in "abc":
        animation(tmp_path / f"{name}.gif", "GIF")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert labels_of(Predictor(shades)(tmp_path)) == [0, 0, 0]
    assert len([w for w in caught if "of other such files as well" in str(w.message)]) == 1


def test_file_of_one_frame_is_one_image_with_all_frames(shades, tmp_path):
    Image.fromarray(plain(250)).save(tmp_path / "a.png")
    predictor = Predictor(shades, all_frames=True)
    prediction = predictor(tmp_path / "a.png")
    assert (prediction.source, int(prediction.labels[0, 0])) == (str(tmp_path / "a.png"), 2)
    assert labels_of(predictor.stream([tmp_path / "a.png", tmp_path])) == [2, 2]
    with pytest.raises(ImageNotFoundError, match=r"there is no image .*gone.gif"):
        predictor(tmp_path / "gone.gif")


def test_frames_of_a_gif_are_composed(shades, tmp_path):
    """The second frame stores the changed part alone."""
    second = plain(250)
    second[2:4, 2:4] = 10
    first = Image.fromarray(plain(250))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[Image.fromarray(second)], optimize=True)
    predictions = list(Predictor(shades, all_frames=True)(tmp_path / "a.gif"))
    assert (predictions[0].labels == 2).all()
    assert (predictions[1].labels == np.where(second[..., 0] == 10, 0, 2)).all()


def test_overviews_of_a_tiff_are_no_pages(shades, tmp_path):
    small = Image.fromarray(plain(250, (3, 4)))
    Image.fromarray(plain(10)).save(tmp_path / "a.tif", save_all=True, append_images=[small])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert Predictor(shades)(tmp_path / "a.tif").labels[0, 0] == 0
    assert Predictor(shades, all_frames=True)(tmp_path / "a.tif").labels.shape == (6, 8)


def test_damaged_frame_is_reported_after_those_before_it(shades, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    first = Image.fromarray(noise)
    first.save(tmp_path / "a.png", save_all=True, append_images=[Image.fromarray(255 - noise), first])
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    errors = []
    sources = [tmp_path / "a.png", plain(10)]
    predictor = Predictor(shades, all_frames=True)
    predictions = list(predictor.stream(sources, on_error=lambda *of: errors.append(of)))
    assert predictions[-1].labels[0, 0] == 0
    assert [(name, type(error)) for name, error in errors] == [(str(tmp_path / "a.png"), CorruptFileError)]


def test_predictions_before_an_error_come_first_in_batches_too(shades):
    class Fails(type(shades)):
        def forward_logits(self, images):
            if (images == 1).all(-1).all(-1).all(-1).any():
                raise RuntimeError("white")
            return super().forward_logits(images)

    shades.__class__ = Fails
    found = []
    with pytest.raises(RuntimeError, match="white"):
        found.extend(p.labels[0, 0] for p in Predictor(shades, batch_size=4).stream(map(plain, (10, 100, 255, 10))))
    assert found == [0, 1]


def test_masked_pixels_of_an_array_have_no_data(shades):
    masked = np.ma.MaskedArray(plain(250), mask=False)
    masked[:2] = np.ma.masked
    labels = Predictor(shades)(masked).labels
    assert (labels[:2] == 255).all()
    assert (labels[2:] == 2).all()


class Stored:
    """An array of another library, as h5py's datasets are."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __iter__(self):
        return iter(self.array)


def test_array_of_another_library_is_one_image(shades):
    np.testing.assert_array_equal(Predictor(shades)(Stored(plain(250))).labels, Predictor(shades)(plain(250)).labels)
    assert len(Predictor(shades)([Stored(plain(250)), Stored(plain(10))])) == 2


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ([(plain(10), plain(10)[..., 0])], r"image 0 of the source: it is a tuple of 2, not an image; of pairs"),
        (({"image": plain(10)},), r"pass source\['image'\]"),
        ({"image": plain(10)}, r"pass source\['image'\]"),
        (plain(10).transpose(2, 0, 1)[:, :2, :2], r"put its channels last: image.transpose\(1, 2, 0\)"),
    ],
)
def test_what_is_no_image_says_what_to_pass(shades, source, words):
    with pytest.raises(ValueError, match=words):
        Predictor(shades)(source)
