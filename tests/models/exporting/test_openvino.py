import subprocess
import sys

import pytest

_SIGNAL_AFTER_THE_LAST_NETWORK = """
import gc, os, signal, threading
from seg_models.exporting.openvino_file import openvino_core
import openvino

given = openvino.opset13.parameter([1, 2], openvino.Type.f32)
held = [openvino_core().compile_model(openvino.Model([openvino.opset13.relu(given)], [given]), "CPU")]

def drop():
    held.clear()
    gc.collect()

other = threading.Thread(target=drop)
other.start()
other.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="OpenVINO replaces the stack of signal handlers on Linux only")
def test_signal_after_a_network_ended_in_another_thread():
    pytest.importorskip("openvino")
    pytest.importorskip("openvino.opset13")
    ended = subprocess.run([sys.executable, "-c", _SIGNAL_AFTER_THE_LAST_NETWORK], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "handled\n"), ended.stderr
