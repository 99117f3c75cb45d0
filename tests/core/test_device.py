from types import SimpleNamespace

import pytest
import torch

from seg_core.device import DEVICES, check_device, is_available, names_device, out_of_memory, resolve_device
from seg_core.errors import InvalidArgumentError, NotEnoughMemoryError


@pytest.fixture
def gpus(monkeypatch):
    def present(*, cuda=False, mps=False):
        monkeypatch.setattr("torch.cuda.is_available", lambda: cuda)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)

    return present


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [(False, False, "cpu"), (False, True, "mps"), (True, False, "cuda"), (True, True, "cuda")],
)
def test_auto_is_a_gpu_if_there_is_one(gpus, cuda, mps, chosen):
    gpus(cuda=cuda, mps=mps)
    assert resolve_device("auto") == torch.device(chosen)
    assert [name for name in DEVICES if is_available(name)] == [
        name for name, there in (("auto", True), ("cuda", cuda), ("mps", mps), ("cpu", True)) if there
    ]


def test_named_device_is_returned_as_torch_device():
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device(torch.device("cpu")) == torch.device("cpu")


@pytest.mark.parametrize(("device", "named"), [(0, "cuda:0"), ("0", "cuda:0"), (3, "cuda:3"), ("12", "cuda:12")])
def test_number_is_that_of_a_cuda_gpu(device, named, monkeypatch):
    def empty(size, device):
        return SimpleNamespace(device=device)

    monkeypatch.setattr("torch.empty", empty)  # as where there is such a GPU
    assert resolve_device(device) == named


@pytest.mark.parametrize(
    ("device", "shown"), [(99, r"device = 99 \(cuda:99\)"), ("99", r'device = "99" \(cuda:99\)'), (-1, "device = -1")]
)
def test_number_without_a_gpu_is_an_error_that_says_what_it_means(device, shown):
    with pytest.raises(InvalidArgumentError, match=rf'^{shown}: torch .* finds no such device \(.+\); use "auto"'):
        resolve_device(device)


def test_names_of_devices():
    assert all(map(names_device, ["auto", "cpu", "cuda", "mps", "cuda:1", "1", 0, 7]))
    assert not any(map(names_device, ["gpu", "cuda:", "cuda:x", "-1", -1, True, None, 1.0, "", "cpu:0x"]))


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "xpu"])
def test_device_that_torch_does_not_have_is_an_error_with_torchs_reason(device):
    message = rf'^device = "{device}": torch [\d.]+.* finds no such device \(.+\); use "auto"'
    with pytest.raises(InvalidArgumentError, match=message):
        resolve_device(device)


def test_check_device_names_the_option_and_the_version(gpus):
    gpus()
    check_device("cpu")
    check_device("auto")
    with pytest.raises(InvalidArgumentError, match=r'^trainer\.device = "cuda": torch .* finds no such device; '):
        check_device("cuda", "trainer.device")


def test_out_of_memory_lists_the_remedies_and_the_first_line_of_the_cause():
    cause = RuntimeError("CUDA out of memory.\nmore")
    error = out_of_memory("training", ["lower batch_size (now 8)", "use bf16"], cause)
    assert isinstance(error, NotEnoughMemoryError)
    assert str(error) == (
        "out of memory during training (CUDA out of memory.); to reduce memory use: lower batch_size (now 8); "
        "or use bf16"
    )


@pytest.mark.parametrize("cause", [MemoryError(), ""])
def test_out_of_memory_without_a_message_names_the_error(cause):
    assert "(MemoryError)" in str(out_of_memory("evaluation", ["use tiles"], cause))
