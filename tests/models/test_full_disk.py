"""A result that does not fit on the disk is one WriteError, whatever writes it, and no part of it stays.

A limit of the size of files stands for the disk: Python and the libraries get the same short writes and errors.
"""

import json
import subprocess
import sys

import pytest

pytest.importorskip("resource")

RUN = """
import json, resource, sys, warnings
from fractions import Fraction
from pathlib import Path
import numpy as np
from PIL import Image
from seg_core import DatasetMetadata
from seg_core.errors import MissingDependencyError, UserError
from seg_core.files.image_writing import save_image, write_image
from seg_core.files.json_text import write_json
from seg_datasets.doctor.fake import fake
from seg_models.inference.prediction import Prediction
from seg_models.inference.raster_writing import npy_writer
from seg_models.inference.video import VideoWriter

warnings.simplefilter("ignore")
folder = Path(sys.argv[1])
rng = np.random.default_rng(3)
pixels = rng.integers(0, 256, (100, 100, 3)).astype(np.uint8)
labels = rng.integers(0, 2, (100, 100)).astype(np.uint8)
prediction = Prediction(labels, DatasetMetadata("two", ("a", "b")), pixels)

def video(path):
    with VideoWriter(path, Fraction(25)) as writer:
        for _ in range(8):
            writer.write(rng.integers(0, 256, (100, 100, 3)).astype(np.uint8))

def npy(path):
    with npy_writer(path, labels.shape, np.uint8) as write:
        write(0, 0, labels)

writers = {f"image{suffix}": lambda path: write_image(path, pixels)
           for suffix in (".jpg", ".png", ".bmp", ".tif", ".webp", ".ppm")}
pil = Image.fromarray(pixels)
writers |= {f"pil{suffix}": lambda path: save_image(path, pil) for suffix in (".jpg", ".png", ".tif")}
writers |= {f"labels{suffix}": prediction.save for suffix in (".png", ".tif", ".geojson")}
writers |= {f"overlay{suffix}": prediction.save_overlay for suffix in (".jpg", ".png")}
writers |= {"a.json": lambda path: write_json(path, list(range(9999))), "a.npy": npy, "a.mp4": video}
writers |= {"fake": lambda path: fake("VOC", path, size=(90, 90))}
limits = [int(text) for text in sys.argv[2].split(",")]
told = {}
for limit in limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    for name, write in writers.items():
        try:
            write(folder / name)
            found = "written"
        except UserError as error:
            found = f"{type(error).__name__}: {error}"
        except BaseException as error:
            found = f"FOREIGN {type(error).__name__}: {error}"
        left = [path.name for path in folder.iterdir()]
        told[f"{limit} {name}"] = [found, left]
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()
print(json.dumps(told))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of the size of files are those of Linux")
def test_every_writer_says_that_it_cannot_write_and_leaves_nothing(tmp_path):
    pytest.importorskip("rasterio")
    pytest.importorskip("av")
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path), "0,1500"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    for name, (answer, left) in told.items():
        assert answer.startswith("WriteError: cannot write "), (name, answer)
        assert not left, (name, left)
        assert answer.count("\n") == 0
