"""What every test shares: fixed seeds, one torch thread, no network, a hub folder of its own."""

import importlib.util
import socket

import pytest


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path_factory.getbasetemp() / "torch-home"))
    real_connect = socket.socket.connect

    def connect(self, address, *args):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
            raise AssertionError(f"a test tried to reach {address}; tests run without network")
        return real_connect(self, address, *args)

    monkeypatch.setattr(socket.socket, "connect", connect)
    if importlib.util.find_spec("torch"):
        import torch

        torch.manual_seed(0)


def pytest_configure(config):
    import torch

    # the suite runs in two processes on two cores; more threads would only fight for them
    torch.set_num_threads(1)
