"""`Predictor`: its arguments, and what it computes from one image."""

import dataclasses

import numpy as np
import pytest
import torch

import seg_models
from seg_core.errors import InvalidArgumentError, NotEnoughMemoryError
from seg_core.labels.metadata import DatasetMetadata
from seg_core.registry import MODELS
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing
from seg_models import Predictor, predict_whole

ROW = np.array([0, 100, 250, 10], np.uint8)
LABELS = np.array([0, 1, 2, 0], np.uint8)


def stripes(height=6):
    """uint8 (height, 8, 3): four gray stripes of two columns."""
    return np.repeat(np.broadcast_to(np.repeat(ROW, 2)[None, :, None], (height, 8, 3)), 1, axis=0).copy()


@pytest.mark.parametrize("preprocessing", [Preprocessing(scale=0.5), Preprocessing(shorter_side=13)])
def test_prediction_has_the_size_of_the_image_if_the_network_sees_another(shades, preprocessing):
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    image = np.zeros((40, 64, 3), np.uint8)
    image[:, 32:] = 255
    labels = Predictor(shades, preprocessing=preprocessing)(image).labels
    assert seen == [preprocessing.size_of(40, 64)]
    assert labels.shape == (40, 64)
    assert (labels[:, :28] == 0).all()
    assert (labels[:, 36:] == 2).all()


def test_model_file_is_loaded(tmp_path):
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


def test_model_without_metadata_is_an_error():
    with pytest.raises(InvalidArgumentError, match="the model has no metadata: pass metadata=, or use a model"):
        Predictor(seg_models.enet(num_classes=2))
    with pytest.raises(InvalidArgumentError, match="the model has no preprocessing"):
        Predictor(seg_models.enet(num_classes=2), metadata=DatasetMetadata("two", ("sky", "ground")))


def test_metadata_with_other_number_of_classes_is_an_error(shades):
    two = DatasetMetadata("two", ("sky", "ground"))
    with pytest.raises(
        InvalidArgumentError, match="metadata 'two' has 2 classes but the model was built with num_classes=3"
    ):
        Predictor(shades, metadata=two)


def test_model_with_other_channels_is_an_error(shades):
    shades.build_spec = dataclasses.replace(shades.build_spec, arguments={"num_classes": 3, "in_channels": 4})
    with pytest.raises(InvalidArgumentError, match="the model takes 4 channels, but the images are described as 3 ch"):
        Predictor(shades)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_unusable_device_is_an_error(shades, device):
    with pytest.raises(InvalidArgumentError, match=f'device = "{device}": torch .* finds no such device'):
        Predictor(shades, device=device)


def test_images_of_equal_size_are_predicted_in_one_pass(shades):
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape)))
    images = [stripes(6), stripes(6), stripes(6), stripes(4), stripes(6)]
    assert len(list(Predictor(shades, batch_size=2)(images))) == 5
    assert seen == [(2, 3, 6, 8), (1, 3, 6, 8), (1, 3, 4, 8), (1, 3, 6, 8)]


@pytest.mark.parametrize("tile", [None, 5])
@pytest.mark.parametrize("scale", [None, 0.5])
def test_scores_and_logits_equal_those_of_the_network(shades, tile, scale):
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


def test_threshold_ignores_uncertain_pixels(shades):
    predictor = Predictor(shades, threshold=0.45, scores=True)
    prediction = predictor(np.arange(0, 256, 5, dtype=np.uint8).repeat(3).reshape(1, -1, 3))
    uncertain = prediction.scores < 0.45
    assert 0 < uncertain.sum() < uncertain.size
    assert (prediction.labels[uncertain] == 255).all()
    assert (prediction.labels[~uncertain] < 3).all()
    assert sum(prediction.areas.values()) == (~uncertain).sum()


def test_labels_have_16_bits_if_the_ignore_index_needs_them(shades):
    metadata = dataclasses.replace(shades.model_info.metadata, ignore_index=300)
    prediction = Predictor(shades, metadata=metadata, threshold=1.0)(stripes())
    assert prediction.labels.dtype == np.uint16
    assert (prediction.labels == 300).all()
    assert Predictor(shades, metadata=metadata)(stripes()).labels.dtype == np.uint8


def test_tta_equals_predict_tta_and_swaps_left_and_right(shades):
    image = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    predictor = Predictor(shades, tta={"scales": (0.5, 1.0), "hflip": True}, logits=True)
    expected = seg_models.predict_tta(shades, predictor.preprocessing(image), (0.5, 1.0), hflip=True)
    np.testing.assert_allclose(predictor(image).logits, expected[0].numpy(), atol=1e-6)
    assert not np.allclose(Predictor(shades, logits=True)(image).logits, expected[0].numpy(), atol=1e-3)

    pairs = dataclasses.replace(shades.model_info.metadata, left_right_pairs=((0, 2),))
    swapped = Predictor(shades, metadata=pairs, tta=[1.0], logits=True)(image).logits
    given = seg_models.predict_tta(shades, predictor.preprocessing(image), (1.0,), left_right_pairs=[(0, 2)])
    np.testing.assert_allclose(swapped, given[0].numpy(), atol=1e-6)


def test_tta_with_tiles_augments_each_tile(shades):
    seen = []
    shades.register_forward_pre_hook(lambda _module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    predictor = Predictor(shades, tta=[1.0, 2.0], tile=(4, 6), logits=True)
    logits = predictor(stripes(20)).logits
    assert set(seen) == {(4, 6), (8, 12)}
    inputs = predictor.preprocessing(stripes(20))[0]
    blocks = seg_models.tiled_blocks(
        lambda tiles: seg_models.predict_tta(shades, tiles, [1.0, 2.0]),
        lambda top, left, height, width: inputs[:, top : top + height, left : left + width],
        (20, 8),
        (4, 6),
    )
    for top, left, block in blocks:
        part = logits[:, top : top + block.shape[1], left : left + block.shape[2]]
        np.testing.assert_allclose(part, block.numpy(), atol=1e-6)


def test_bf16_computes_on_a_copy():
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
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"threshold": 1.5}, "threshold must be a probability from 0 to 1, or None, got 1.5"),
        ({"min_region": 0}, "min_region must be an integer >= 1, got 0"),
        ({"tile": 0}, "tile must be"),
        ({"tile": 8, "overlap": 1.0}, "overlap must be a fraction from 0 to below 1, got 1.0"),
        ({"tile": 8, "blend": "linear"}, "blend must be one of hann, constant, got 'linear'"),
        ({"tta": [0]}, "tta must have scales above 0"),
        ({"tta": {"flip": True}}, "tta has no option 'flip'; it has scales, hflip"),
        ({"dtype": "int8"}, "dtype must be one of auto, fp32, bf16, fp16"),
        ({"dtype": "fp16", "device": "cpu"}, 'dtype "fp16" needs a GPU'),
        ({"dtype": torch.int8}, "dtype must be one of auto, fp32"),
        ({"tile": 3.5}, "tile must be"),
        ({"overlap": -1}, "overlap must be a fraction from 0 to below 1, got -1"),
        ({"overlap": "x"}, "overlap must be a fraction"),
        ({"blend": "x"}, "blend must be one of"),
        ({"tta": 1}, "tta must be True, a list of scales"),
        ({"tta": {"scales": 1}}, "tta must have scales above 0"),
        ({"tta": {"hflip": "no"}}, "tta hflip must be True or False"),
        ({"tta": {"left_right_pairs": 5}}, "tta left_right_pairs must be pairs"),
        ({"threshold": "x"}, "threshold must be a probability"),
        ({"threshold": True}, "threshold must be a probability"),
        ({"only": []}, "only must be a list of at least one class"),
        ({"only": 5}, "only must be a list of at least one class"),
        ({"metadata": {"labels": ["a"]}}, "metadata must be a seg_core.DatasetMetadata, .* got dict"),
        ({"preprocessing": lambda image: image}, r"preprocessing must be a seg_core.Preprocessing, got function; pass"),
        ({"weights": "DEFAULT"}, "weights='DEFAULT' cannot be used with a network"),
    ],
)
def test_wrong_argument_is_named(options, words, shades):
    with pytest.raises(InvalidArgumentError, match=words):
        Predictor(shades, **options)


def test_model_name_takes_the_default_weights_and_logs_it(monkeypatch, caplog):
    asked = []

    def no_download(self, progress=True):
        asked.append(self.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(seg_models.FCN_ResNet50_Weights, "get_state_dict", no_download)
    with pytest.raises(KeyboardInterrupt):
        Predictor("fcn_resnet50")
    assert asked == ["COCO_WITH_VOC_LABELS_V1"]
    assert "no weights given, taking FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1" in caplog.text
    with pytest.raises(InvalidArgumentError, match="model 'regseg' has no published weights; give a model file"):
        Predictor("regseg")


def test_out_of_memory_says_what_to_change(shades):
    def fail(_module, _inputs):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    shades.register_forward_pre_hook(fail)
    with pytest.raises(NotEnoughMemoryError, match="out of memory during prediction .*: predict tile by tile"):
        Predictor(shades)(stripes())
    with pytest.raises(NotEnoughMemoryError, match=r"use a smaller tile \(now 4\); or lower batch_size \(now 2\)"):
        Predictor(shades, tile=4, batch_size=2)(stripes())


@pytest.mark.parametrize("shape", [(1, 1, 3), (10, 2000, 3), (2000, 1, 3)])
@pytest.mark.parametrize("options", [{}, {"tile": 64}, {"tta": True}, {"scores": True}])
def test_extreme_shapes_are_predicted(shape, options):
    model = seg_models.enet(num_classes=2)
    metadata = DatasetMetadata("two", ("sky", "ground"))
    predictor = Predictor(model, metadata=metadata, preprocessing=Preprocessing(), **options)
    assert predictor(np.zeros(shape, np.uint8)).labels.shape == shape[:2]


@pytest.mark.parametrize("options", [{}, {"tile": 16}, {"tta": [0.5, 1.0]}, {"scores": True}])
def test_image_below_the_minimum_size_is_padded(options):
    name = "segformer_b0"
    assert MODELS.entry(name).min_size == 29
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
        padded = torch.nn.functional.pad(images, (0, 0, 0, 9))
        with torch.inference_mode():
            expected = model(padded)["out"][0, :, :20]
        np.testing.assert_array_equal(prediction.logits, expected.numpy())


def test_preprocessing_of_torchvision_is_translated(shades):
    from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights as Weights

    for given in (Weights.DEFAULT, Weights.DEFAULT.transforms()):
        with pytest.raises(InvalidArgumentError) as caught:
            Predictor(shades, preprocessing=given)
        advice = str(caught.value).partition("; pass ")[2]
        made = eval(advice, {"Preprocessing": Preprocessing})
        assert made.shorter_side == 520
        assert made.mean == pytest.approx((0.485, 0.456, 0.406))


def test_metadata_may_be_a_name_or_a_list_of_names(shades):
    predictor = Predictor(shades, metadata=["a", "b", "c"], only=[0, "c"])
    assert predictor.metadata.labels == ("a", "b", "c")
    np.testing.assert_array_equal(np.unique(predictor(stripes()).labels), [0, 2, 255])
    network = torch.nn.Conv2d(3, 21, 1)
    assert Predictor(network, metadata="VOC", preprocessing=Preprocessing()).metadata.num_classes == 21


@pytest.mark.parametrize("dtype", ["float32", "fp64", torch.float64, "bfloat16"])
def test_names_of_torch_are_taken_as_dtype(shades, dtype):
    assert Predictor(shades, dtype=dtype).dtype in (torch.float32, torch.float64, torch.bfloat16)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (None, "got NoneType"),
        ({"weight": torch.zeros(1)}, "got dict; a state dict is loaded into its network first"),
        (seg_models.enet, "got function; call it to get the network"),
        (torch.nn.Linear, "got type; call it to get the network"),
    ],
)
def test_what_is_no_model_is_an_error(model, words):
    with pytest.raises(InvalidArgumentError, match=f"model must be a network .*{words}"):
        Predictor(model)
