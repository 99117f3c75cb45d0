"""Masks of planes, as of multilabel tasks: the same geometry for each plane as for a mask alone."""

import numpy as np
import pytest
import torch
from PIL import Image

from seg_core.errors import InvalidArgumentError
from seg_core.transforms.augment import SegmentationAugment
from seg_core.transforms.crop import SegmentationTransform
from seg_core.transforms.evaluation import EvaluationTransform
from seg_core.transforms.preprocessing import Preprocessing

K = 3
GEOMETRY = {"hflip": 0.5, "vflip": 0.5, "rotation_range": (-30, 30), "zoom_range": (0.6, 1.4), "perspective": 0.3}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sample(height=13, width=17, seed=0, num=None):
    rng = np.random.default_rng(seed)
    lead = () if num is None else (num,)
    image = torch.from_numpy(rng.integers(0, 256, (*lead, 3, height, width), dtype=np.uint8))
    planes = torch.from_numpy(rng.choice(np.array([0, 1, 255], np.uint8), (*lead, K, height, width)))
    return image, planes


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resize": {"shorter_side": 7}},
        {"size": 8, "scale_range": (0.5, 2.0)},
        {"size": (20, 30), "scale_range": (0.4, 0.9)},  # padded
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_crops_are_those_of_each_plane_alone(options, seed):
    image, planes = sample()
    multi, single = SegmentationTransform(task="multilabel", **options), SegmentationTransform(**options)
    result, cropped = multi(image, planes, generator=seeded(seed))
    for place in range(K):
        expected_image, expected = single(image, planes[place], generator=seeded(seed))
        assert torch.equal(cropped[place], expected)
    assert torch.equal(result, expected_image)
    assert type(cropped).__name__ == "Mask"
    assert (cropped.shape[0], cropped.dtype) == (K, torch.uint8)
    assert torch.equal(multi.transform_mask(planes, generator=seeded(seed)), cropped)


def test_a_plane_alone_keeps_its_axis():
    image, planes = sample()
    assert SegmentationTransform(8, task="multilabel")(image, planes[:1])[1].shape == (1, 8, 8)
    assert SegmentationTransform(8)(image, planes[:1])[1].shape == (8, 8)
    assert SegmentationTransform(8, task="binary")(image, planes[0])[1].shape == (8, 8)


def test_planes_of_arrays_and_bool_are_taken():
    image, planes = sample()
    transform = SegmentationTransform(8, task="multilabel")
    expected = transform(image, planes.clamp(max=1), generator=seeded())[1]
    given = (planes > 0).numpy()
    assert torch.equal(transform(image, given, generator=seeded())[1], expected)


def test_parts_of_planes_are_read_as_the_whole_is():
    image, planes = sample(40, 50)
    transform = SegmentationTransform(12, scale_range=(0.5, 2), cat_max_ratio=0.3, task="multilabel")

    def read(top, left, height, width):
        rows, columns = slice(top, top + height), slice(left, left + width)
        return image[:, rows, columns], planes[:, rows, columns]

    got = transform.read_crop(40, 50, read, read_mask=lambda *window: read(*window)[1], generator=seeded(3))
    expected = transform(image, planes, generator=seeded(3))
    assert all(torch.equal(*pair) for pair in zip(got, expected, strict=True))


def test_cat_max_ratio_limits_each_class():
    image, planes = torch.zeros(3, 8, 64, dtype=torch.uint8), torch.zeros(2, 8, 64, dtype=torch.uint8)
    planes[1, :, 16:] = 1  # a crop right of column 16 is all of one class
    transform = SegmentationTransform(8, cat_max_ratio=0.5, task="multilabel")
    shares = [transform(image, planes, generator=seeded(s))[1][1].float().mean() for s in range(30)]
    free = [SegmentationTransform(8, task="multilabel")(image, planes, generator=seeded(s))[1][1] for s in range(30)]
    assert sum(bool(share <= 0.5) for share in shares) > 2 * sum(bool(one.float().mean() <= 0.5) for one in free)


@pytest.mark.parametrize("geometry", [{}, {"hflip": 0.5, "vflip": 0.5}, GEOMETRY])
def test_augmented_planes_are_those_of_each_plane_alone(geometry):
    images, planes = sample(num=4)
    options = {"brightness_shift": 0.1, **geometry}
    generators = [seeded(s) for s in range(4)]
    result, augmented = SegmentationAugment(task="multilabel", **options)(images, planes, generator=generators)
    assert (augmented.shape, augmented.dtype) == (planes.shape, torch.uint8)
    for place in range(K):
        generators = [seeded(s) for s in range(4)]
        expected_images, expected = SegmentationAugment(**options)(images, planes[:, place], generator=generators)
        assert torch.equal(augmented[:, place].long(), expected)
    assert torch.equal(result, expected_images)
    # one sample is as in its batch
    one = SegmentationAugment(task="multilabel", **options)(images[2], planes[2], generator=seeded(2))
    assert torch.equal(one[1], augmented[2])
    assert torch.equal(one[0], result[2])


def test_left_and_right_planes_are_swapped_in_mirrored_images_alone():
    images, planes = sample(num=2)
    swap = {"left_right_pairs": [(0, 2)], "task": "multilabel"}
    mirrored = SegmentationAugment(hflip=1, **swap)(images, planes)[1]
    assert torch.equal(mirrored, planes[:, [2, 1, 0]].flip(-1))
    both = SegmentationAugment(hflip=1, vflip=1, **swap)(images, planes)[1]
    assert torch.equal(both, planes.flip(-1, -2))
    with pytest.raises(InvalidArgumentError, match="left_right_pairs has the class 3, but masks have 3 planes"):
        SegmentationAugment(left_right_pairs=[(0, 3)], task="multilabel")(images, planes)


def test_evaluation_leaves_planes_as_they_are():
    image, planes = sample()
    transform = EvaluationTransform(Preprocessing().with_resize({"shorter_side": 6}))
    resized, mask = transform(image, planes)
    assert resized.shape[1] == 6
    assert torch.equal(mask, planes)


def test_masks_of_another_task_are_errors_that_say_which():
    image, planes = sample()
    with pytest.raises(InvalidArgumentError, match=r"got shape \(3, 13, 17\); a plane per class needs task='multil"):
        SegmentationTransform(8)(image, planes)
    with pytest.raises(InvalidArgumentError, match=r"must be \(K, height, width\), a plane per class, got shape \(13"):
        SegmentationTransform(8, task="multilabel")(image, planes[0])
    with pytest.raises(InvalidArgumentError, match="got a PIL image"):
        SegmentationTransform(8, task="multilabel")(image, Image.new("L", (17, 13)))
    with pytest.raises(InvalidArgumentError, match=r"got \(3, 13, 17\); a plane per class needs task='multilabel'"):
        SegmentationAugment()(image, planes)
    with pytest.raises(InvalidArgumentError, match=r"must be \(K, 13, 17\)"):
        SegmentationAugment(task="multilabel")(image, planes[0])
    with pytest.raises(InvalidArgumentError, match="task must be one of"):
        SegmentationTransform(task="multi-label")
    with pytest.raises(InvalidArgumentError, match="task must be one of"):
        SegmentationAugment(task="both")


def test_the_task_is_shown_if_it_is_not_the_usual_one():
    assert repr(SegmentationTransform(task="multilabel")).endswith(", task='multilabel')")
    assert "task=multilabel" in repr(SegmentationAugment(task="multilabel"))
    assert "task" not in repr(SegmentationTransform()) + repr(SegmentationAugment())
