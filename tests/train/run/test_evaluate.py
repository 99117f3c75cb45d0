import pytest
import torch
import torch.nn.functional as F

from seg_core import MetricStore, Preprocessing
from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.registry import MODELS
from seg_train import CrossEntropyLoss, evaluate


@pytest.fixture
def model():
    return MODELS.get("tiny_net")(num_classes=3)


def test_evaluate_equals_a_plain_loop(model, stripes):
    from seg_core import SegmentationAugment

    dataset, expected, losses = stripes(split="val"), MetricStore(3), []
    model.eval()
    for index in range(len(dataset)):
        image, mask = dataset[index]
        images, masks = SegmentationAugment()(image[None], mask[None])
        with torch.no_grad():
            logits = model(images)["out"]
        losses.append(float(CrossEntropyLoss()(logits, masks)))
        expected.store_results(masks, logits.argmax(1))
    store = evaluate(model, dataset, batch_size=5, criterion=CrossEntropyLoss())
    assert torch.equal(store.confusion_matrix, expected.confusion_matrix)
    assert store.summarize()["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_evaluate_leaves_mode_and_random_state_as_they_were(model, stripes, training):
    model.train(training)
    before, weights = torch.get_rng_state(), {k: v.clone() for k, v in model.state_dict().items()}
    evaluate(model, stripes())
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(v, weights[k]) for k, v in model.state_dict().items())


def test_logits_of_nan_are_told_once_and_do_not_end_an_evaluation(model, stripes):
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.warns(UserWarning, match="the network returns NaN or infinity for an image") as told:
        evaluate(model, stripes(), batch_size=2)
    assert sum("NaN" in str(warning.message) for warning in told) == 1


def test_evaluate_leaves_frozen_modules_in_eval_mode(model, stripes):
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    modes = [module.training for module in model.modules()]
    evaluate(model, stripes())
    assert not frozen.training
    assert [module.training for module in model.modules()] == modes


def test_evaluate_restores_the_mode_after_an_error(model, stripes):
    model.train()
    with pytest.raises(ValueError):
        evaluate(model, stripes(broken=3))
    assert model.training


@pytest.mark.parametrize("num_workers", [0, 1])
def test_evaluate_resizes_images_and_never_masks(model, stripes, num_workers):
    dataset, expected = stripes(), MetricStore(3)
    preprocessing = Preprocessing(scale=0.5, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    model.eval()
    for index in range(len(dataset)):
        image, mask = dataset[index]
        with torch.no_grad():
            logits = model(preprocessing(image))["out"]
        assert logits.shape[-2:] == (16, 12)
        expected.store_results(mask[None], F.interpolate(logits, (32, 24), mode="bilinear").argmax(1))
    store = evaluate(model, dataset, preprocessing=preprocessing, batch_size=4, num_workers=num_workers)
    assert torch.equal(store.confusion_matrix, expected.confusion_matrix)


def test_evaluate_unknown_predictor_names_the_known(model, stripes):
    with pytest.raises(UnknownNameError, match="unknown way of predicting 'hole'. Did you mean 'whole'"):
        evaluate(model, stripes(), predictor="hole")


def test_evaluate_samples_without_masks_say_so(model, stripes):
    class Unlabelled(stripes):
        def __getitem__(self, index):
            return super().__getitem__(index)[0], None

    with pytest.raises(InvalidArgumentError, match="has no mask; choose a split that has masks"):
        evaluate(model, Unlabelled())
