import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

import seg_models
from seg_core.errors import CorruptFileError, InvalidArgumentError
from seg_core.metadata import DatasetMetadata
from seg_core.preprocessing import Preprocessing
from seg_models import Prediction, Predictor, predict_whole

ROW = np.array([0, 100, 250, 10], np.uint8)
LABELS = np.array([0, 1, 2, 0], np.uint8)


def stripes(height=6):
    """uint8 (height, 8, 3): four grey stripes of two columns."""
    return np.repeat(np.broadcast_to(np.repeat(ROW, 2)[None, :, None], (height, 8, 3)), 1, axis=0).copy()


def test_prediction_has_the_labels_of_the_picture_whatever_its_kind(shades, tmp_path):
    Image.fromarray(stripes()).save(tmp_path / "stripes.png")
    predictor = Predictor(shades)
    for picture in (
        stripes(),
        Image.fromarray(stripes()),
        torch.from_numpy(stripes()).permute(2, 0, 1),
        torch.from_numpy(stripes()).permute(2, 0, 1) / 255,
        tmp_path / "stripes.png",
        str(tmp_path / "stripes.png"),
        Image.fromarray(stripes()).convert("L"),
    ):
        prediction = predictor(picture)
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
    with Image.open(tmp_path / "turned.png") as picture:
        np.testing.assert_array_equal(Predictor(shades)(picture).labels, expected)


@pytest.mark.parametrize("preprocessing", [Preprocessing(scale=0.5), Preprocessing(shorter_side=13)])
def test_prediction_has_the_pictures_own_size_where_the_network_sees_another(shades, preprocessing):
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    picture = np.zeros((40, 64, 3), np.uint8)
    picture[:, 32:] = 255
    labels = Predictor(shades, preprocessing=preprocessing)(picture).labels
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
    picture = np.random.default_rng(0).integers(0, 256, (35, 50, 3), np.uint8)
    prediction = predictor(picture)
    assert prediction.labels.shape == (35, 50)
    model.eval()
    logits = torch.nn.functional.interpolate(
        predict_whole(model, predictor.preprocessing(picture)), (35, 50), mode="bilinear", align_corners=False
    )
    np.testing.assert_array_equal(prediction.labels, logits.argmax(1)[0].numpy())


def test_predict_whole_gives_logits_without_a_graph(shades):
    logits = predict_whole(shades.eval(), torch.zeros(2, 3, 4, 5))
    assert logits.shape == (2, 3, 4, 5)
    assert not logits.requires_grad


def test_prediction_saved_holds_ids_and_shows_colours(shades, tmp_path):
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
        with pytest.raises(InvalidArgumentError, match=r"path must end in .png, which keeps the class ids, got"):
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
    assert list(Predictor(shades)(stripes()).areas().items()) == [("dark", 24), ("middle", 12), ("bright", 12)]


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


def test_predictor_given_a_batch_is_refused(shades):
    with pytest.raises(InvalidArgumentError, match=r"one picture \(3, H, W\), got a batch of shape \(2, 3, 4, 4\)"):
        Predictor(shades)(torch.zeros(2, 3, 4, 4))


def test_picture_that_is_corrupt_or_missing_is_named(shades, tmp_path):
    predictor = Predictor(shades)
    (tmp_path / "text.png").write_text("no picture")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:4000])
    for name in ("text.png", "cut.png"):
        with pytest.raises(
            CorruptFileError, match=f"{name} cannot be read as a picture: .*; replace it or leave it out"
        ):
            predictor(tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"there is no picture .*gone.png; check the path"):
        predictor(tmp_path / "gone.png")
