"""Ctrl-C after a command has done its work ends it without a traceback."""

import signal
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_while_python_ends_is_quiet():
    code = (
        "import os, signal, sys; from seg_core.command import main; sys.argv = ['seg', '--version']; main();"
        f" os.kill(os.getpid(), {int(signal.SIGINT)}); print('went on')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (130, "")
    assert "seg-core" in done.stdout and "went on" not in done.stdout
