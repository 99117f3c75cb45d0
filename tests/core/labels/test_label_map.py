import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seg_core.errors import InvalidArgumentError, LabelOutOfRangeError
from seg_core.labels.label_map import IGNORE, LabelMap

CITYSCAPES_LIKE = LabelMap({0: IGNORE, 7: 0, 8: 1, 9: IGNORE, 11: 2})


@st.composite
def maps(draw, max_id=300):
    raw_ids = draw(st.lists(st.integers(0, max_id), min_size=1, max_size=20, unique=True))
    ignore_index = draw(st.sampled_from([255, 65535, 0]))
    train_ids = st.integers(0, max_id).filter(lambda i: i != ignore_index)
    return LabelMap({raw: draw(st.one_of(st.just(IGNORE), train_ids)) for raw in raw_ids}, ignore_index=ignore_index)


@given(maps(), st.data(), st.sampled_from(["uint8", "uint16", "int32", "int64"]))
def test_call_any_map_agrees_with_a_dictionary(label_map, data, dtype):
    raw_ids = [raw for raw in label_map.mapping if raw <= np.iinfo(dtype).max]
    if not raw_ids:
        return
    pixels = data.draw(st.lists(st.sampled_from(raw_ids), max_size=30))
    mask = np.array(pixels, dtype=dtype)
    expected = [label_map.mapping[p] if label_map.mapping[p] is not IGNORE else label_map.ignore_index for p in pixels]
    result = label_map(mask)
    assert result.tolist() == expected
    assert result.shape == mask.shape
    as_tensor = label_map(torch.from_numpy(mask))
    assert as_tensor.tolist() == expected
    assert as_tensor.dtype in (torch.uint8, torch.int32)
    assert mask.tolist() == pixels


@pytest.mark.parametrize("shape", [(), (0, 3), (1,), (3, 5), (2, 4, 6)])
def test_call_any_shape_keeps_it(shape):
    for dtype in (np.uint8, np.int64):
        mask = np.full(shape, 8, dtype)
        result = CITYSCAPES_LIKE(mask)
        assert isinstance(result, np.ndarray)
        assert (result.shape, result.dtype) == (shape, np.uint8)
        assert (result == 1).all()


def test_call_views_and_read_only_arrays_are_mapped_and_left_alone():
    whole = np.array([[0, 7, 8, 9], [11, 11, 7, 0]], np.uint8)
    whole.flags.writeable = False
    assert CITYSCAPES_LIKE(whole[:, ::-1][:, 1:]).tolist() == [[1, 0, 255], [0, 2, 2]]
    result = CITYSCAPES_LIKE(whole)
    result[0, 0] = 3  # the result is the caller's own
    assert CITYSCAPES_LIKE(whole).tolist() == [[255, 0, 1, 255], [2, 2, 0, 255]]


@pytest.mark.smoke
def test_call_result_type_is_the_smallest_that_holds_the_values():
    assert LabelMap({0: 0, 1: 254})(np.array([1])).dtype == np.uint8
    assert LabelMap({0: 0, 1: 256})(np.array([1])).dtype == np.uint16
    assert LabelMap({0: 0}, ignore_index=65535)(torch.tensor([0])).dtype == torch.int32
    full = LabelMap({**{i: i for i in range(255)}, 255: IGNORE})
    mask = np.arange(256, dtype=np.uint8)
    assert full(mask).tolist() == mask.tolist()


def test_call_tv_tensor_mask_stays_one():
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    result = CITYSCAPES_LIKE(tv_tensors.Mask(torch.tensor([[7, 9]], dtype=torch.uint8)))
    assert type(result) is tv_tensors.Mask
    assert result.tolist() == [[0, 255]]


def test_call_unlisted_ids_are_named_with_their_pixels():
    for kind in (np.array, torch.tensor):
        with pytest.raises(
            LabelOutOfRangeError,
            match=r"does not list: 1 \(2 pixels\), 200 \(1 pixel\)\. Listed: 0, 7-9, 11\. .*unlisted='ignore'",
        ):
            CITYSCAPES_LIKE(kind([[7, 1], [1, 200]]))
    with pytest.raises(LabelOutOfRangeError, match=r"-1 \(1 pixel\), 70000 \(1 pixel\)"):
        CITYSCAPES_LIKE(np.array([7, -1, 70000]))
    with pytest.raises(LabelOutOfRangeError, match=r"1 \(1 pixel\)"):
        CITYSCAPES_LIKE(np.array([7, 1, 7], np.uint8))
    with pytest.raises(LabelOutOfRangeError, match=r"6 \(1 pixel\) and 3 more ids"):
        LabelMap({0: 0})(np.array([1, 2, 3, 5, 6, 12, 13, 14]))


def test_call_unlisted_ignore_leaves_them_out():
    label_map = LabelMap({7: 0}, unlisted="ignore", ignore_index=9)
    assert label_map(np.array([7, 0, 9], np.uint8)).tolist() == [0, 9, 9]
    assert label_map(np.array([7, -1, 70000])).tolist() == [0, 9, 9]
    assert label_map(np.array([7, 3, 65535], np.uint16)).tolist() == [0, 9, 9]


def test_call_floats_or_lists_are_an_error():
    with pytest.raises(InvalidArgumentError, match="integer ids, got an array of float64; convert it"):
        CITYSCAPES_LIKE(np.zeros(3))
    with pytest.raises(InvalidArgumentError, match="must be a numpy array or a torch tensor, got list"):
        CITYSCAPES_LIKE([7])


def test_then_applies_both_in_turn():
    second = LabelMap({0: 5, 1: IGNORE, 2: 5}, ignore_index=99)
    both = CITYSCAPES_LIKE.then(second)
    assert both == LabelMap({0: IGNORE, 7: 5, 8: IGNORE, 9: IGNORE, 11: 5}, ignore_index=99)


def test_then_second_map_lacks_ids_is_an_error():
    with pytest.raises(InvalidArgumentError, match=r"does not list the ids 1-2, .* it lists 0\."):
        CITYSCAPES_LIKE.then(LabelMap({0: 0}))
    lenient = CITYSCAPES_LIKE.then(LabelMap({0: 0}, unlisted="ignore"))
    assert lenient(np.array([7, 8, 11])).tolist() == [0, 255, 255]
    with pytest.raises(LabelOutOfRangeError):
        lenient(np.array([1]))


@given(st.permutations(range(12)), st.integers(1, 12))
def test_inverse_undoes_a_one_to_one_map(train_ids, kept):
    label_map = LabelMap(dict(enumerate(train_ids[:kept])) | {50: IGNORE})
    raw = np.array([*range(kept), 50], np.uint8)
    assert label_map.inverse()(label_map(raw)).tolist() == raw.tolist()
    assert label_map.inverse().inverse() == label_map


def test_inverse_ignored_pixels_get_the_lowest_ignored_id_or_the_given_one():
    assert CITYSCAPES_LIKE.inverse()(np.array([0, 1, 2, 255])).tolist() == [7, 8, 11, 0]
    assert CITYSCAPES_LIKE.inverse(ignored_as=9)(np.array([2, 255])).tolist() == [11, 9]
    assert LabelMap.identity(3).inverse()(np.array([2, 255])).tolist() == [2, 255]
    with pytest.raises(InvalidArgumentError, match="ignored_as 8 is the raw id of class 1"):
        CITYSCAPES_LIKE.inverse(ignored_as=8)


def test_inverse_shared_train_id_is_an_error():
    with pytest.raises(InvalidArgumentError, match="no inverse: raw ids 3 and 4 both map to 0"):
        LabelMap({4: 0, 3: 0}).inverse()


def test_identity_keeps_classes_and_ignores_the_rest():
    label_map = LabelMap.identity(3, 11, 255)
    assert label_map == LabelMap({0: 0, 1: 1, 2: 2, 11: IGNORE, 255: IGNORE})
    with pytest.raises(InvalidArgumentError, match="ignored id 2 is one of the 3 classes"):
        LabelMap.identity(3, 2)


def test_equality_hash_repr_and_pickle():
    label_map = LabelMap({1: 0, 2: IGNORE}, unlisted="ignore")
    same = LabelMap({2: IGNORE, 1: 0}, unlisted="ignore")
    assert label_map == same
    assert hash(label_map) == hash(same)
    assert label_map != LabelMap({1: 0, 2: IGNORE})
    assert label_map != "a map"
    assert repr(label_map) == "LabelMap({1: 0, 2: IGNORE}, ignore_index=255, unlisted='ignore')"
    assert "... 12 more" in repr(LabelMap.identity(20))
    label_map(np.array([1]))
    assert pickle.loads(pickle.dumps(label_map)) == label_map


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mapping": {}}, "mapping must list at least one raw id"),
        ({"mapping": {-1: 0}}, "raw id must be an integer from 0 to 65535, got -1"),
        ({"mapping": {"road": 0}}, "raw id must be an integer from 0 to 65535, got 'road'"),
        ({"mapping": {3: 70000}}, "train id of raw id 3 must be an integer from 0 to 65535, got 70000"),
        ({"mapping": {3: None}}, "train id of raw id 3 must be an integer"),
        ({"mapping": {3: 255}}, "raw id 3 maps to 255, which is ignore_index; map it to IGNORE"),
        ({"mapping": {3: 0}, "ignore_index": -100}, "ignore_index must be an integer from 0 to 65535, got -100"),
        ({"mapping": {3: 0}, "unlisted": "skip"}, "unlisted must be 'error' or 'ignore', got 'skip'"),
    ],
)
def test_init_wrong_argument_is_named(arguments, words):
    with pytest.raises(InvalidArgumentError, match=words):
        LabelMap(**arguments)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_tensors_without_integers_are_refused(dtype):
    with pytest.raises(InvalidArgumentError, match=f"integer ids, got a tensor of {dtype}; convert it"):
        LabelMap({0: 1})(torch.zeros(2, 2, dtype=dtype))
