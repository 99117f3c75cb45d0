"""The fixture that runs a test of a loss with the CPU kernels and with torch's operations."""

import math

import pytest

from seg_train.losses.cpu import strips


@pytest.fixture
def small_strips(monkeypatch):
    """Makes strips so small that each thread has several."""
    monkeypatch.setattr(strips, "_STRIP", 40)


@pytest.fixture(params=["strips", "torch"])
def backend(request, small_strips, monkeypatch):
    """Selects the implementation, whatever the size of the logits."""
    monkeypatch.setattr(strips, "_MIN_LOGITS", 0 if request.param == "strips" else math.inf)
    return request.param
