import copy
import errno
import inspect
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from seg_core import (
    BuildSpec,
    DatasetMetadata,
    EvaluationProtocol,
    Preprocessing,
    load_model,
    read_model_info,
    save_model,
)
from seg_core.catalog import ModelEntry
from seg_core.errors import CorruptFileError, InvalidArgumentError, UnknownNameError, WriteError
from seg_core.model_files import reading
from seg_core.model_files.digest import digest_of, encode
from seg_core.registry import MODELS

VERSION_1 = Path(__file__).parents[2] / "expected" / "model_file_version_1.pt"
METADATA = DatasetMetadata(name="two", labels=("left", "right"), colors=((1, 2, 3), (4, 5, 6)))
PREPROCESSING = Preprocessing(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), scale=0.5)
PROTOCOL = EvaluationProtocol("two", "val", "", 7, ("left", "right"), resize={"scale": 0.5})


class Tiny(nn.Module):
    def __init__(self, num_classes, width):
        super().__init__()
        self.conv = nn.Conv2d(3, num_classes, width)

    def forward(self, images):
        return {"out": self.conv(images)}


def tiny(*, weights=None, num_classes=2, variant=None, width=1):
    model = Tiny(num_classes, width)
    model.build_spec = BuildSpec("tiny", variant or "paper", {"num_classes": num_classes, "width": width})
    return model


@pytest.fixture(autouse=True)
def registered():
    MODELS.register("tiny", tiny)


def save(path, model=None, **options):
    model = tiny(width=3) if model is None else model
    save_model(model, path, metadata=METADATA, preprocessing=PREPROCESSING, **options)
    return path


def edit(path, **changes):
    """Changes values in a file and updates its digest; None removes a key."""
    content = torch.load(path, weights_only=True)
    content.update(changes)
    content = {k: v for k, v in content.items() if v is not None}
    if "digest" in content and "digest" not in changes:
        content["digest"] = digest_of({k: v for k, v in content.items() if k != "digest"})
    torch.save(content, path)


def same_state(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# ---- what is written is read -----------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_load_model_gives_the_same_network_and_what_the_file_says(tmp_path):
    model = tiny(width=3).eval()
    path = save(tmp_path / "model.pt", model, metrics={"miou": 0.5}, protocol="val, single scale")
    loaded = load_model(path)
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded(images)["out"], model(images)["out"])
    assert not loaded.training
    info = loaded.model_info
    assert info == read_model_info(path) == read_model_info(path, verify=False)
    assert info.spec == BuildSpec("tiny", "paper", {"num_classes": 2, "width": 3})
    assert info.metadata == METADATA
    assert info.preprocessing == PREPROCESSING
    assert (info.metrics, info.protocol, info.protocol_text) == ({"miou": 0.5}, {}, "val, single scale")
    assert {"torch", "seg-core"} <= set(info.versions)


def test_model_file_loads_with_weights_only(tmp_path):
    content = torch.load(save(tmp_path / "model.pt"), weights_only=True)
    assert content["format"] == "seg-model"


@pytest.mark.parametrize("given", [PROTOCOL, PROTOCOL.to_dict()], ids=["object", "table"])
def test_protocol_is_kept_as_table_and_sentence(tmp_path, given):
    info = read_model_info(save(tmp_path / "model.pt", protocol=given))
    assert EvaluationProtocol.from_dict(info.protocol) == PROTOCOL
    assert info.protocol_text == str(PROTOCOL)


@pytest.mark.parametrize("given", [None, "", {}])
def test_no_protocol_is_an_empty_one(tmp_path, given):
    info = read_model_info(save(tmp_path / "model.pt", protocol=given))
    assert (info.protocol, info.protocol_text) == ({}, "")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"protocol": {"datset": "x"}}, "unknown key 'datset' of a protocol"),
        ({"protocol": {**PROTOCOL.to_dict(), "resize": {"scale": "x"}}}, "protocol holds values of a wrong type"),
        ({"metrics": {"miou": {"car": object}}}, r"metrics\['miou'\]\['car'\] is <class 'object'> of type type"),
        ({"metrics": {"list": [1, (2, {3})]}}, r"metrics\['list'\]\[1\]\[1\] is \{3\} of type set; a model file holds"),
        ({"metrics": {0: 0.5}}, "metrics has the key 0; a model file holds tables with names as keys"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, options, words):
    with pytest.raises(InvalidArgumentError, match=words):
        save(tmp_path / "model.pt", **options)
    assert not list(tmp_path.iterdir())


def test_numbers_of_numpy_and_torch_become_plain(tmp_path):
    metrics = {"a": np.float64(0.5), "b": np.int64(3), "c": np.arange(2), "d": torch.tensor([0.25]), "e": np.bool_(1)}
    info = read_model_info(save(tmp_path / "model.pt", metrics=metrics))
    assert info.metrics == {"a": 0.5, "b": 3, "c": [0, 1], "d": [0.25], "e": True}
    assert [type(value) for value in info.metrics.values()] == [float, int, list, list, bool]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_half_precision_loads_in_float32_with_the_values_saved(tmp_path, dtype):
    model = tiny(width=3).to(dtype)
    loaded = load_model(save(tmp_path / "model.pt", model))
    assert loaded.conv.weight.dtype == torch.float32
    assert torch.equal(loaded.conv.weight, model.conv.weight.float())
    assert loaded(torch.rand(1, 3, 8, 8))["out"].isfinite().all()


def test_double_precision_loads_with_the_values_saved(tmp_path):
    model = tiny(width=3).double()
    model.conv.bias.data.fill_(1 / 3)
    loaded = load_model(save(tmp_path / "model.pt", model))
    assert {p.dtype for p in loaded.parameters()} == {torch.float64}
    assert same_state(loaded, model)


def test_values_survive_where_half_precision_is_the_default(tmp_path, monkeypatch):
    model = tiny(width=3)
    path = save(tmp_path / "model.pt", model)
    torch.set_default_dtype(torch.bfloat16)
    try:
        assert same_state(load_model(path), model)
    finally:
        torch.set_default_dtype(torch.float32)


def test_view_of_a_large_tensor_takes_its_own_room_only(tmp_path):
    model = tiny(width=3)
    large = torch.rand(1000, 2, 3, 3, 3)
    model.conv.weight = nn.Parameter(large[5])
    path = save(tmp_path / "model.pt", model)
    assert path.stat().st_size < 10_000
    assert torch.equal(load_model(path).conv.weight, large[5])


def test_saving_leaves_the_random_state_and_builds_once(tmp_path):
    calls = []

    def counted(**options):
        calls.append(torch.empty(0).device.type)
        return tiny(**options)

    MODELS.register("counted", counted)
    model = tiny(width=3)
    model.build_spec = BuildSpec("counted", "paper", {"num_classes": 2, "width": 3})
    before = torch.get_rng_state()
    save(tmp_path / "model.pt", model)
    save(tmp_path / "model.pt", model)
    assert torch.equal(torch.get_rng_state(), before)
    assert calls == ["meta"]
    assert same_state(load_model(tmp_path / "model.pt"), model)
    assert calls == ["meta", "cpu"]


def test_builder_that_looks_at_its_values_is_built_with_them(tmp_path):
    class Looking(Tiny):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.conv.bias.data += float(self.conv.weight.detach().numpy().max())

    def looking(*, num_classes=2, variant=None):
        model = Looking(num_classes, 1)
        model.build_spec = BuildSpec("looking", "paper", {"num_classes": num_classes})
        return model

    MODELS.register("looking", looking)
    model = looking()
    before = torch.get_rng_state()
    path = save(tmp_path / "model.pt", model)
    assert torch.equal(torch.get_rng_state(), before)
    assert same_state(load_model(path), model)


# ---- networks that are no longer as they were built ------------------------------------------------------------------


def compiled_part(model):
    model.conv = torch.compile(model.conv)
    return model


def averaged(model):
    found = torch.optim.swa_utils.AveragedModel(model)
    found.update_parameters(model)
    return found


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        compiled_part,
        averaged,
        nn.DataParallel,
        lambda model: torch.compile(nn.DataParallel(compiled_part(model))),
    ],
    ids=["compiled", "part compiled", "averaged", "data parallel", "nested"],
)
def test_wrapped_network_is_saved_without_the_wrapper(tmp_path, wrap):
    model = tiny(width=3)
    plain = copy.deepcopy(model)
    path = save(tmp_path / "model.pt", wrap(model))
    assert list(torch.load(path, weights_only=True)["state_dict"]) == ["conv.weight", "conv.bias"]
    assert same_state(load_model(path), plain)


@pytest.fixture
def process_group():
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_distributed_network_is_saved_without_the_wrapper(tmp_path, process_group):
    model = tiny(width=3)
    path = save(tmp_path / "model.pt", nn.parallel.DistributedDataParallel(model))
    assert same_state(load_model(path), model)


def test_sharded_network_is_refused(tmp_path, process_group):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = tiny(width=3)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(InvalidArgumentError, match="'conv.weight' is a DTensor, of which each process holds a part; "):
        save(tmp_path / "model.pt", model)


def pruned(model):
    prune.l1_unstructured(model.conv, "weight", amount=0.5)


def weight_normed(model):
    nn.utils.parametrizations.weight_norm(model.conv)


def weight_normed_as_before(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        nn.utils.weight_norm(model.conv)


def reheaded(model):
    model.conv = nn.Conv2d(3, 5, 3)


def adapted(model):
    model.conv.lora_a = nn.Parameter(torch.zeros(3))


def longer(model):
    model.more = nn.Conv2d(3, 3, 1)


def shorter(model):
    model.conv.bias = None


def integers(model):
    model.conv.weight = nn.Parameter(model.conv.weight.to(torch.int8), requires_grad=False)


def without_values(model):
    model.to("meta")


def of_another_class(model):
    class Special(torch.Tensor):
        pass

    model.register_buffer("special", torch.zeros(2).as_subclass(Special))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (pruned, "cannot be saved as model 'tiny'.*has no tensor 'conv.weight'.*torch.nn.utils.prune.remove"),
        (weight_normed, "has no tensor 'conv.weight'.*torch.nn.utils.parametrize.remove_parametrizations"),
        (weight_normed_as_before, "has no tensor 'conv.weight'.*torch.nn.utils.remove_weight_norm"),
        (reheaded, r"'conv.weight' has shape \(5, 3, 3, 3\), but \(2, 3, 3, 3\) when 'tiny' .*num_classes="),
        (adapted, "it has a tensor 'conv.lora_a', which the network does not .*merge them into its"),
        (longer, "it has a tensor 'more.weight', which the network does not have .*it was changed after it was built"),
        (shorter, r"it has no tensor 'conv.bias' of shape \(2,\), which the network has when 'tiny' is built"),
        (integers, "'conv.weight' holds torch.int8, but floats when 'tiny' is built"),
        (without_values, r"'conv.weight' has no values \(device meta\); save a network of dense tensors"),
        (of_another_class, "'special' is a Special, which other installations may not have"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_changed_network_is_refused_and_nothing_is_written(tmp_path, change, words):
    model = tiny(width=3)
    change(model)
    with pytest.raises(InvalidArgumentError, match=words):
        save(tmp_path / "model.pt", model)
    assert not list(tmp_path.iterdir())


def test_state_that_is_no_tensor_is_refused(tmp_path):
    class Packed(nn.Conv2d):
        def get_extra_state(self):
            return {"scale": 1}

        def set_extra_state(self, state):
            pass

    model = tiny(width=3)
    model.conv = Packed(3, 2, 3)
    with pytest.raises(InvalidArgumentError, match=r"'conv._extra_state' .* not a plain tensor \(dict\), as in"):
        save(tmp_path / "model.pt", model)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (BuildSpec("tinny", "paper", {"num_classes": 2}), r"'tinny', which is not .*MODELS.register\('tinny'"),
        (BuildSpec("tiny", "paper", {"num_classes": 2, "witdh": 3}), "no such parameter. Did you mean 'width'"),
        (
            BuildSpec("tiny", "paper", {"num_classes": 2, "weights": "DEFAULT"}),
            "arguments.weights = DEFAULT: not set",
        ),
        (BuildSpec("tiny", "paper", {"num_classes": 2, "width": {3}}), r"arguments\['width'\] is \{3\} of type set"),
        (BuildSpec("tiny", "paper", {"num_classes": 2, "width": "x"}), "cannot build it with .*TypeError"),
        (BuildSpec("two_variants", "thrid", {"num_classes": 2}), "has no such variant. Did you mean 'third'"),
        (BuildSpec("needy", "paper", {"num_classes": 2}), "arguments.backbone is missing: model 'needy' has no"),
    ],
)
def test_description_that_builds_no_such_network_is_refused(tmp_path, spec, words):
    MODELS.register("two_variants", ModelEntry("nowhere:nothing", variants=("second", "third")))
    MODELS._objects["two_variants"] = tiny
    MODELS.register("needy", lambda backbone, *, num_classes, variant: tiny())
    model = tiny(width=3)
    model.build_spec = spec
    with pytest.raises(InvalidArgumentError, match=words):
        save(tmp_path / "model.pt", model)
    assert not list(tmp_path.iterdir())


def test_save_model_without_build_spec_says_what_to_do(tmp_path):
    with pytest.raises(InvalidArgumentError, match="Conv2d has no build_spec.*build it with a registered builder"):
        save(tmp_path / "model.pt", nn.Conv2d(1, 1, 1))
    assert not list(tmp_path.iterdir())


def test_save_model_other_number_of_classes_raises(tmp_path):
    with pytest.raises(InvalidArgumentError, match="metadata 'two' has 2 classes but .* num_classes=5"):
        save(tmp_path / "model.pt", tiny(num_classes=5))


def test_save_model_full_disk_is_a_write_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = save(tmp_path / "model.pt")
    before = path.read_bytes()

    def full(content, target):
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(WriteError, match="No space left on device; check the folder's permissions and free space"):
        save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# ---- damage ----------------------------------------------------------------------------------------------------------


def flips(data, step, patterns):
    for place in range(0, len(data), step):
        for pattern in patterns:
            changed = bytearray(data)
            changed[place] ^= pattern
            yield place, pattern, bytes(changed)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_flipped_byte_is_an_error_or_changes_nothing(tmp_path):
    path = save(tmp_path / "model.pt", metrics={"miou": 0.5, "per_class": {"left": 0.25}}, protocol=PROTOCOL)
    expected, info = load_model(path), read_model_info(path)
    errors = unharmed = 0
    for place, pattern, data in flips(path.read_bytes(), 5, (0x01, 0xFF)):
        path.write_bytes(data)
        try:
            loaded = load_model(path)
        except CorruptFileError:
            errors += 1
            continue
        unharmed += 1
        assert same_state(loaded, expected), (place, pattern)
        assert loaded.model_info == info, (place, pattern)
    assert errors > 300
    assert unharmed > 300, "the archive has bytes that nothing depends on"


def test_damage_to_a_weight_raises_and_can_be_overridden(tmp_path):
    path = save(tmp_path / "model.pt")
    data = path.read_bytes()
    numbers = load_model(path).conv.weight.detach().numpy().tobytes()
    place = data.index(numbers)
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    for read in (load_model, read_model_info):
        with pytest.raises(CorruptFileError, match="model.pt is damaged: its content does not match its digest"):
            read(path)
    assert load_model(path, verify=False).conv.weight.flatten()[1:].tolist() == pytest.approx(
        torch.frombuffer(bytearray(numbers), dtype=torch.float32)[1:].tolist()
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"digest": None}, "it has no digest, a sha256"),
        ({"digest": 5}, "digest = 5: must be a sha256 in hexadecimal digits"),
        ({"digest": "0" * 64}, "does not match its digest"),
        ({"digest": "0" * 64, "format_version": 1, "protocol": ""}, "does not match its digest"),
        ({"digest": "0" * 64, "metrics": {"miou": torch.float32}}, "is damaged: dtype is not a plain value"),
    ],
)
def test_digest_that_is_not_that_of_the_content_is_damage(tmp_path, changes, words):
    path = save(tmp_path / "model.pt")
    edit(path, **changes)
    with pytest.raises(CorruptFileError, match=words):
        load_model(path)


def test_digest_tells_types_names_order_and_shapes_apart():
    values = [
        None,
        False,
        0,
        0.0,
        -0.0,
        "0",
        "",
        [],
        (),
        {},
        [0],
        [[0]],
        ["a", "b"],
        ["ab"],
        ["a", ["b"]],
        {"a": "b"},
        {"b": "a"},
        {"a": 1, "b": 2},
        {"b": 2, "a": 1},
        float("nan"),
        float("inf"),
        torch.zeros(2),
        torch.zeros(2, 1),
        torch.zeros(2, dtype=torch.float64),
        torch.zeros(1, dtype=torch.complex64),
        torch.zeros(8, dtype=torch.uint8),
        torch.zeros(()),
        torch.zeros(0),
        torch.ones(2),
    ]
    assert len({encode(value) for value in values}) == len(values)
    strided = torch.arange(6.0).reshape(2, 3)
    assert encode(strided.T.contiguous().T) == encode(strided)
    with pytest.raises(TypeError, match="set is not a plain value"):
        digest_of({"a": {1}})


def test_file_of_version_1_loads_as_before_and_warns_once(monkeypatch):
    monkeypatch.setattr(reading, "_warned_of_no_digest", False)
    with pytest.warns(UserWarning, match="model_file_version_1.pt has no digest, so damage to it cannot be detected"):
        model = load_model(VERSION_1)
    read_model_info(VERSION_1)  # a second warning would be an error
    assert torch.equal(model.conv.weight.flatten(), torch.arange(54.0) / 8)
    assert torch.equal(model.conv.bias, torch.tensor([0.5, -0.25]))
    info = model.model_info
    assert info.spec == BuildSpec("tiny", "paper", {"num_classes": 2, "width": 3})
    assert (info.metadata, info.preprocessing) == (METADATA, PREPROCESSING)
    assert info.metrics == {"miou": 0.5, "iou_per_class": {"left": 0.25, "right": 0.75}}
    assert (info.protocol, info.protocol_text) == ({}, "val split of two, single scale 1, absent=skip")


def test_file_of_version_1_saved_again_has_a_digest(tmp_path):
    model = load_model(VERSION_1, verify=False)
    path = save(tmp_path / "model.pt", model, protocol=model.model_info.protocol_text)
    assert read_model_info(path).protocol_text == model.model_info.protocol_text
    assert same_state(load_model(path), model)


def test_load_model_missing_file_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no model file .*none.pt; give the path of one"):
        load_model(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 10, 500, -20])
def test_load_model_truncated_file_is_corrupt(tmp_path, keep):
    path = save(tmp_path / "model.pt")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CorruptFileError, match=r"model.pt cannot be read: it is truncated or no model file"):
        load_model(path)


def test_load_model_plain_state_dict_is_refused(tmp_path):
    torch.save(tiny().state_dict(), tmp_path / "state.pt")
    with pytest.raises(CorruptFileError, match="is a PyTorch file but not a model file of this toolkit"):
        load_model(tmp_path / "state.pt")


def test_load_model_arbitrary_pickle_is_not_run(tmp_path):
    torch.save({"format": "seg-model", "harm": print}, tmp_path / "model.pt")
    with pytest.raises(CorruptFileError, match="it is a pickled object that could run any code"):
        load_model(tmp_path / "model.pt")


# ---- the description -------------------------------------------------------------------------------------------------


def test_load_model_newer_format_asks_for_an_upgrade(tmp_path):
    path = save(tmp_path / "model.pt")
    edit(path, format_version=99)
    with pytest.raises(CorruptFileError, match="format version 99.*upgrade seg-core"):
        load_model(path)


WIDE = {"conv.weight": torch.zeros(1).expand(2, 3, 30_000, 30_000), "conv.bias": torch.zeros(2)}
HOLDS_ITSELF = [1]
HOLDS_ITSELF.append(HOLDS_ITSELF)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("preprocessing", None, "it has no preprocessing, a table"),
        ("state_dict", None, "it has no state_dict, tensors by name"),
        ("format_version", "2", "format_version = '2': must be an integer >= 1"),
        ("format_version", True, "format_version = True: must be an integer >= 1"),
        ("format_version", 0, "format_version = 0: must be an integer >= 1"),
        ("builder", 3, "builder = 3: must be the name of a model"),
        ("builder", ["tiny"], r"builder = \['tiny'\]: must be the name of a model"),
        ("variant", {}, r"variant = \{\}: must be the name of a variant"),
        ("arguments", [1], r"arguments = \[1\]: must be a table of plain values"),
        ("arguments", {2: 3}, "arguments has the key 2: must be a name"),
        ("arguments", {"width": torch.zeros(2)}, r"arguments\['width'\] = tensor.*must be numbers, strings, lists"),
        ("arguments", {"width": 3}, r"arguments\['num_classes'\] = None: must be 2, the number of its metadata's"),
        ("arguments", {"num_classes": 10**12}, r"arguments\['num_classes'\] = 1000000000000: must be 2"),
        ("arguments", {"num_classes": 2.0}, r"arguments\['num_classes'\] = 2.0: must be 2"),
        ("arguments", {"num_classes": 2, "width": 10**6}, r"a tensor of shape \(2, 3, 1000000, 1000000\), far larger"),
        ("arguments", {"num_classes": 2, "width": 10**18}, "the installed packages cannot build it"),
        ("arguments", {"num_classes": 2, "width": "x"}, "cannot build it with .*'width': 'x'.*: TypeError"),
        ("arguments", {"num_classes": 2, "witdh": 3}, r"no such parameter. Did you mean 'width'"),
        ("arguments", {"num_classes": 2, "weights": "a.pt"}, "arguments.weights = a.pt: not set here; a model"),
        ("arguments", {"num_classes": 2, "variant": "x"}, "arguments.variant = x: not set here; a model file has"),
        ("metadata", "two", "metadata = 'two': must be a table"),
        ("metadata", {}, "metadata: the metadata have no 'labels'"),
        ("metadata", {"labels": ["a", "b"], "colors": 5}, "metadata = .*must be what save_model writes .TypeError"),
        ("metadata", {"labels": ["a"]}, r"arguments\['num_classes'\] = 2: must be 1"),
        ("preprocessing", {"scael": 1}, "preprocessing: unknown key 'scael'"),
        ("preprocessing", {"scale": "x"}, "preprocessing: scale must be a factor above 0 or None, got 'x'"),
        ("metrics", 0.5, "metrics = 0.5: must be a table of plain values"),
        ("metrics", {"miou": torch.float32}, r"metrics\['miou'\] = torch.float32: must be numbers"),
        ("metrics", {"miou": HOLDS_ITSELF}, "a container holds itself, or grows after it was used"),
        ("protocol", "val", "protocol = 'val': must be a table"),
        ("protocol", {"datset": 1}, "protocol: unknown key 'datset' of a protocol. Did you mean 'dataset'"),
        ("protocol_text", 1, "protocol_text = 1: must be a sentence"),
        ("versions", {"torch": 2}, r"versions = \{'torch': 2\}: must be versions by package"),
        ("versions", "2.6", "versions = '2.6': must be versions by package"),
        ("state_dict", [1], r"state_dict = \[1\]: must be tensors by name"),
        ("state_dict", {"conv.weight": 1}, r"state_dict\['conv.weight'\] = 'int': must be a dense tensor with a name"),
        ("state_dict", {1: torch.zeros(1)}, r"state_dict\[1\] = 'Tensor': must be a dense tensor with a name"),
        ("state_dict", WIDE, r"a tensor of size \(2, 3, 30000, 30000\) repeats its values"),
        ("state_dict", {}, "does not fit tiny as built by the installed packages .*has no tensor 'conv.weight'"),
    ],
)
def test_wrong_description_is_named_before_anything_is_built(tmp_path, key, value, words):
    path = save(tmp_path / "model.pt")
    content = torch.load(path, weights_only=True)
    content[key] = value
    if value is None:
        del content[key]
    torch.save(content, path)
    built = []
    MODELS._objects["tiny"] = lambda **options: built.append(options) or tiny(**options)
    MODELS._objects["tiny"].__signature__ = inspect.signature(tiny)
    with pytest.raises(CorruptFileError, match=words) as caught:
        load_model(path, verify=False)
    assert str(path) in str(caught.value)
    if "damaged model file" in str(caught.value):
        assert not built


def test_variant_that_the_model_lacks_is_an_error(tmp_path):
    MODELS.register("two_variants", ModelEntry("nowhere:nothing", variants=("second", "third")))
    MODELS._objects["two_variants"] = tiny
    path = save(tmp_path / "model.pt")
    edit(path, builder="two_variants", variant="thrid")
    with pytest.raises(CorruptFileError, match=r"variant = 'thrid': model 'two_variants' .*Did you mean 'third'"):
        load_model(path)


def test_load_model_unknown_builder_is_named(tmp_path):
    path = save(tmp_path / "model.pt")
    edit(path, builder="tinny")
    with pytest.raises(UnknownNameError, match=r"unknown model 'tinny'. If .*--import MODULE.* Did you mean 'tiny'"):
        load_model(path)
    assert read_model_info(path).spec.builder == "tinny", "what a file says can be read without the package"


def test_load_model_other_shapes_do_not_fit(tmp_path):
    path = save(tmp_path / "model.pt")
    edit(path, arguments={"num_classes": 2, "width": 1})
    with pytest.raises(CorruptFileError, match="does not fit tiny as built by the installed packages"):
        load_model(path)


@pytest.mark.parametrize("place", ["arguments", "metrics", "surplus"])
def test_tensors_that_repeat_a_number_a_billion_times_are_not_hashed(tmp_path, place):
    path = save(tmp_path / "model.pt")
    content = torch.load(path, weights_only=True)
    content[place] = {"x": [torch.zeros(1).expand(10**6)] * 100}
    torch.save(content, path)
    with pytest.raises(CorruptFileError, match="is damaged|cannot be read|must be|asks for"):
        load_model(path)
    with pytest.raises(TypeError, match="show 4000000.. bytes of .*, far more than weights do"):
        digest_of({"x": content[place]})


def test_tied_weights_have_a_digest():
    weight = torch.rand(1000)
    assert digest_of({"state_dict": {str(number): weight for number in range(5)}})
