"""What every test shares: fixed seeds, one torch thread, no network, a hub folder of its own."""

import copy
import functools
import gc
import getpass
import http.server
import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import threading

import pytest

from seg_core import own_code, registry

# The suite runs in two processes on two cores: more threads would only fight for them. Libraries read these when they
# are imported, here and in the processes that tests start.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


_temporary = pytest.StashKey[str]()


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SEG_CACHE", str(tmp_path_factory.getbasetemp() / "seg-cache"))
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


@pytest.fixture(autouse=True)
def _registries_as_installed():
    """What a test registers by hand is gone after it: no test may see another's names."""
    registries = [value for value in vars(registry).values() if isinstance(value, registry.Registry)]
    for found in registries:
        found.names()  # what is installed is there before the test
    saved = [{name: copy.copy(value) for name, value in vars(found).items()} for found in registries]
    yield
    for found, state in zip(registries, saved, strict=True):
        vars(found).update(state)


@pytest.fixture(autouse=True)
def _own_code_is_forgotten(tmp_path_factory):
    """Modules that a test wrote and imported are gone after it, and so are their folders."""
    path, saved = list(sys.path), [set(own_code._modules), set(own_code._targets)]
    yield
    sys.path[:] = path
    written = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(written):
            del sys.modules[name]
    for held, former in zip((own_code._modules, own_code._targets), saved, strict=True):
        held.clear()
        held.update(former)


@pytest.fixture
def serve():
    """Serves folders on this machine: `serve(folder)` returns the address of the folder."""
    running = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    def start(folder):
        handler = functools.partial(Quiet, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        running.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def _begin_temporary(config):
    """Gives the session a folder for temporary files, which is removed after it.

    torchrun keeps the logs of its processes there, and processes that tests kill cannot remove what is theirs. The
    folders of pytest, which stay, and torch's cache of compiled code do not move.
    """
    if hasattr(config, "workerinput"):  # a worker of pytest-xdist has the folder of the process that started it
        return
    former = tempfile.gettempdir()
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", former)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", os.path.join(former, f"torchinductor_{getpass.getuser()}"))
    config.stash[_temporary] = folder = tempfile.mkdtemp(prefix="seg-tests-")
    os.environ["TMPDIR"] = tempfile.tempdir = folder


def _end_temporary(config):
    folder = config.stash.get(_temporary, None)
    if folder is not None:
        os.environ["TMPDIR"] = tempfile.tempdir = os.path.dirname(folder)
        shutil.rmtree(folder, ignore_errors=True)


def pytest_configure(config):
    _begin_temporary(config)
    import torch
    from hypothesis import HealthCheck, settings

    # a busy machine is no failure: tests assert behavior, never time
    settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("suite")

    torch.set_num_threads(1)  # also where something imported torch before OMP_NUM_THREADS was set


def pytest_collection_modifyitems(items):
    # Two processes divide the tests, and the one that is done first takes from the end of the other's. The runs that
    # these tests share take long; in front, no part of the file is taken and they are made once.
    items.sort(key=lambda item: not item.nodeid.startswith("tests/train/run/test_processes.py"))


def pytest_collection_finish(session):
    # what is loaded by now stays to the end: the garbage collector need not search it again and again
    gc.collect()
    gc.freeze()


def pytest_unconfigure(config):
    _end_temporary(config)
    gc.unfreeze()  # extension modules report what is left at exit as leaks
