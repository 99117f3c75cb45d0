"""Transforms of a user's own: order, seeds, checks of what they return, and their place in a run."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors

from seg_core import DatasetMetadata, own_code
from seg_core.errors import ConfigError, InvalidArgumentError, LabelOutOfRangeError
from seg_core.own_code import import_target
from seg_core.transforms.crop import SegmentationTransform
from seg_train import Trainer, load_config
from seg_train.data.batches import Loader
from seg_train.data.own_transforms import OwnTransforms, build_own_transform, build_own_transforms


class Noise:
    def __init__(self, strength=5):
        self.strength = strength

    def __call__(self, image, mask, *, generator=None):
        noise = torch.randint(-self.strength, self.strength + 1, image.shape, generator=generator)
        return (image.int() + noise).clamp(0, 255).to(torch.uint8), mask


class Defaults:
    """Draws from the default states, as most code does."""

    def __call__(self, image, mask):
        value = random.randint(0, 99) + np.random.randint(0, 99) + torch.randint(0, 50, ())
        return torch.full_like(image, int(value)), mask


class Returns:
    """Returns what a test says."""

    def __init__(self, change):
        self.change = change

    def __call__(self, image, mask):
        return self.change(image, mask)


def transforms(stripes, *calls, seed=0):
    built = [build_own_transform(f"code:{type(c).__name__}", lambda call=c: call, {}) for c in calls]
    return OwnTransforms(built, stripes.metadata, seed)


def sample():
    image = torch.arange(3 * 8 * 6, dtype=torch.uint8).reshape(3, 8, 6)
    mask = torch.zeros(8, 6, dtype=torch.uint8)
    mask[2:4], mask[0, 0] = 1, 255
    return image, mask


# ---- results ---------------------------------------------------------------------------------------------------------


def test_transforms_get_tv_tensors_in_order_and_results_are_passed_on(stripes):
    seen = []

    def first(image, mask):
        seen.append((type(image), type(mask), image.dtype, mask.dtype))
        return image + 1, mask.long()  # plain tensors and another integer type are fine

    def second(image, mask):
        seen.append((type(image), type(mask), image.dtype, mask.dtype))
        return image * 2, mask.flip(-1)

    image, mask = sample()
    found, labels = transforms(stripes, Returns(first), Returns(second))(image, mask, 0, 0)
    assert seen == [(tv_tensors.Image, tv_tensors.Mask, torch.uint8, torch.uint8)] * 2
    assert torch.equal(found, (image + 1) * 2)
    assert torch.equal(labels, mask.flip(-1))
    assert labels.dtype == mask.dtype


@pytest.mark.parametrize("call", [Noise(), Defaults()])
def test_draws_depend_on_seed_epoch_place_and_position_alone(stripes, call):
    image, mask = sample()

    def draw(seed=0, epoch=1, place=2, calls=(call,)):
        torch.manual_seed(torch.randint(0, 999, ()).item())  # whatever was drawn before
        return transforms(stripes, *calls, seed=seed)(image, mask, epoch, place)[0]

    assert torch.equal(draw(), draw())
    for other in (draw(seed=1), draw(epoch=2), draw(place=3), draw(calls=(Returns(lambda i, m: (i, m)), call))):
        assert not torch.equal(draw(), other)


def test_default_states_are_left_as_they_were(stripes):
    before = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].copy()
    transforms(stripes, Defaults(), Noise())(*sample(), 0, 0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()
    assert np.array_equal(before[2], np.random.get_state()[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda i, m: i, "must return (image, mask), two tensors, got a Image"),
        (lambda i, m: None, "two tensors, got a NoneType"),
        (lambda i, m: (i, m, 1), "got a tuple of Image, Mask, int"),
        (lambda i, m: (i.numpy(), m), "got a tuple of ndarray, Mask"),
        (lambda i, m: (i.float(), m), "an image of uint8 with shape (3, 8, 6), got torch.float32 (3, 8, 6)"),
        (lambda i, m: (i[:, :4], m), "an image of uint8 with shape (3, 8, 6), got torch.uint8 (3, 4, 6)"),
        (lambda i, m: (i[:1], m), "shape (3, 8, 6), got torch.uint8 (1, 8, 6)"),
        (lambda i, m: (i, m[:, :3]), "a mask of an integer type with shape (8, 6), got torch.uint8 (8, 3)"),
        (lambda i, m: (i, m[None]), "with shape (8, 6), got torch.uint8 (1, 8, 6)"),
        (lambda i, m: (i, m.float()), "a mask of an integer type with shape (8, 6), got torch.float32"),
        (lambda i, m: (i, m > 0), "a mask of an integer type with shape (8, 6), got torch.bool"),
        (lambda i, m: (i, m.clone().fill_(7)), "a mask with the ids 7, which are neither a class (0 to 2) nor ignored"),
        (lambda i, m: (i, m.long() - 1), "a mask with the ids -1, 254, which"),
        (lambda i, m: (i, m.fill_(7)), "a mask with the ids 7"),
    ],
)
def test_wrong_results_name_the_transform(stripes, change, words):
    with pytest.raises(InvalidArgumentError) as caught:
        transforms(stripes, Returns(change))(*sample(), 0, 0)
    assert str(caught.value).startswith("code:Returns ")
    assert words in str(caught.value)


def test_wrong_ids_of_the_dataset_are_not_blamed_on_the_transform(stripes):
    loader = Loader(stripes(wrong=1), SegmentationTransform(), own=transforms(stripes, Noise()))
    with pytest.raises(LabelOutOfRangeError, match="train/1.png"):
        list(loader.read([[1]]))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_error_inside_of_a_transform_keeps_its_traceback_and_is_named(stripes, num_workers):
    def broken(image, mask):
        raise KeyError("inside")

    loader = Loader(
        stripes(), SegmentationTransform(), own=transforms(stripes, Returns(broken)), num_workers=num_workers
    )
    with pytest.raises(Exception, match="inside") as caught:
        list(loader.read([[1]]))
    text = str(caught.value) + "".join(getattr(caught.value, "__notes__", ()))
    assert "raised by code:Returns, a transform of data.transform.train.custom" in text


@pytest.mark.parametrize(
    ("target", "params", "words"),
    [
        (Noise, {"stren": 1}, "unexpected keyword"),
        (lambda: 3, {}, "returned int, which cannot be called with \\(image, mask\\)"),
    ],
)
def test_what_cannot_be_built_is_an_error(target, params, words):
    with pytest.raises(InvalidArgumentError, match=words):
        build_own_transform("code:x", target, params)


def test_transform_of_the_documentation_works(stripes):
    text = (Path(__file__).resolve().parents[3] / "docs" / "training.md").read_text(encoding="utf-8")
    names = {}
    exec(re.search(r"^```python title=\"my_code.py\"\n(.*?^class Fog:.*?)^```$", text, re.M | re.S)[1], names)
    image, mask = transforms(stripes, names["Fog"](0.5))(*sample(), 0, 0)
    assert not torch.equal(image, sample()[0])
    assert torch.equal(mask, sample()[1])


def test_names_are_looked_up_among_imported_code(stripes):
    with pytest.raises(Exception, match="is code of the module 'colorsys'"):
        build_own_transforms([("colorsys:rgb_to_hls", {})], stripes.metadata, 0)
    import_target("torchvision.transforms.v2:RandomPosterize")
    own = build_own_transforms(
        [("torchvision.transforms.v2:RandomPosterize", {"bits": 1, "p": 1.0})], stripes.metadata, 0
    )
    image, mask = own(*sample(), 0, 0)
    assert set(image.unique().tolist()) <= {0, 128}
    assert torch.equal(mask, sample()[1])
    assert build_own_transforms([], stripes.metadata, 0) is None


# ---- in a loader and a run -------------------------------------------------------------------------------------------


def test_crop_is_drawn_as_without_own_transforms_and_any_workers_give_the_same(stripes):
    crop = SegmentationTransform(16, scale_range=(0.7, 1.4))

    def masks_and_images(own, num_workers=0):
        loader = Loader(stripes(), crop, own=own, seed=3, num_workers=num_workers)
        return [(b.images.clone(), b.masks.clone()) for b in loader.read([[0, 1], [2, 3]], epoch=1)]

    plain, noisy = masks_and_images(None), masks_and_images(transforms(stripes, Noise()))
    for (image, mask), (own_image, own_mask) in zip(plain, noisy, strict=True):
        assert torch.equal(mask, own_mask)
        difference = (image.int() - own_image.int()).abs().max()
        assert 0 < difference <= 5
    for (image, mask), (other, other_mask) in zip(
        noisy, masks_and_images(transforms(stripes, Noise()), num_workers=2), strict=True
    ):
        assert torch.equal(image, other)
        assert torch.equal(mask, other_mask)


@pytest.fixture
def own_tables(tables, tmp_path, monkeypatch):
    (tmp_path / "noise_code.py").write_text(
        "import torch\n"
        "class Noise:\n"
        "    def __init__(self, strength=5):\n"
        "        self.strength = strength\n"
        "    def __call__(self, image, mask, *, generator=None):\n"
        "        noise = torch.randint(0, self.strength + 1, image.shape, generator=generator)\n"
        "        return (image.int() + noise).clamp(0, 255).to(torch.uint8), mask\n"
    )
    monkeypatch.chdir(tmp_path)
    tables["data"]["transform"]["train"]["custom"] = [{"name": "noise_code:Noise", "params": {"strength": 9}}]
    return tables


def weights_of(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.network.network.parameters()])


def test_transform_changes_training_alone_and_a_resumed_run_is_the_same(own_tables, monkeypatch):
    whole = Trainer(load_config(own_tables))
    whole.run()
    own_tables["paths"]["run"], own_tables["trainer"]["epochs"] = "halves", 1
    own_tables["lr_scheduler"]["params"] = {"total_iters": 6}
    Trainer(load_config(own_tables)).run()
    own_tables["trainer"]["epochs"] = 2
    resumed = Trainer(load_config(own_tables), resume=True)
    resumed.run()
    assert torch.equal(weights_of(whole), weights_of(resumed))
    own_tables["paths"]["run"] = "plain"
    own_tables["data"]["transform"]["train"]["custom"] = "none"
    plain = Trainer(load_config(own_tables))
    plain.run()
    assert not torch.equal(weights_of(whole), weights_of(plain))


def test_other_transforms_are_another_run(own_tables):
    Trainer(load_config(own_tables)).run()
    own_tables["trainer"]["epochs"] = 3
    own_tables["data"]["transform"]["train"]["custom"][0]["params"]["strength"] = 1
    with pytest.raises(ConfigError, match=r"started with other settings: data.transform.train.custom \(run: "):
        Trainer(load_config(own_tables), resume=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"name": "Noise"}], 'custom[0].name = "Noise": must be the import path of a class or function'),
        ([{"name": "noise_code:Noise", "params": {"x": 1}}], "custom[0].params.x = 1: noise_code:Noise has no such"),
        ([{"name": "noise_code:torch"}], "is a module, and must be a class"),
        ({"name": "noise_code:Noise"}, "must be a list of tables such as"),
        (["noise_code:Noise"], "[0] must be a table with a name"),
        ([{"name": "noise_code:Noise", "params": 1}], "[0] has params that are no table"),
        ([{"params": {}}], "[0] must be a table with a name"),
        ([{"name": "noise_code:Noise", "p": 1}], "[0] has the unknown key 'p'; write it as {name"),
    ],
)
def test_mistakes_in_the_config(own_tables, value, words):
    own_tables["data"]["transform"]["train"]["custom"] = value
    with pytest.raises(ConfigError) as caught:
        load_config(own_tables)
    assert words in str(caught.value)


def test_empty_list_is_none(own_tables):
    own_tables["data"]["transform"]["train"]["custom"] = []
    config = load_config(own_tables)
    assert config.data.transform.train.custom is None
    assert own_code._targets == set()


@pytest.mark.parametrize(
    ("name", "params", "told"),
    [
        ("RandomRotation", {"degrees": 10}, "fills masks with 0, the id of the class"),
        ("RandomAffine", {"degrees": 0, "translate": [0.1, 0.1], "fill": 1}, "fills masks with 1, the id of the class"),
        ("RandomRotation", {"degrees": 10, "fill": 255}, None),
        ("RandomPosterize", {"bits": 4}, None),
    ],
)
def test_transforms_of_torchvision_that_fill_masks_with_a_class_are_told(recwarn, name, params, told):
    target = f"torchvision.transforms.v2:{name}"
    import_target(target)
    assert build_own_transforms([(target, params)], DatasetMetadata("two", ("a", "b")), 0)
    found = [str(warning.message) for warning in recwarn]
    if told is None:
        assert found == []
    else:
        (text,) = found
        assert told in text
        assert "set params.fill = 255" in text
