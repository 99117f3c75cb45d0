"""The folder that the pages and READMEs are read in: the files that they name without making them."""

import numpy as np
from PIL import Image

from seg_core import Preprocessing, resolve_metadata, save_model, seed
from seg_models import get_model

# what pages name `run.toml` if they do not show another one: a run of seconds
RUN = """\
[model]
name = "enet"

[data.dataset]
name = "Shapes"
params = { length = 8 }

[data.transform.train]
size = 64

[data.loader]
batch_size = 4
num_workers = 0

[optimizer]
name = "AdamW"
params = { lr = 2e-3 }

[evaluation]
resize = { scale = 0.25 }

[trainer]
epochs = 1
device = "cpu"
snapshots = 1

[paths]
run = "first"
"""


def make_own_data(folder):
    """Makes the folder that docs/python.md describes: images, and masks of the same names that hold class ids."""
    rng = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(10):
        Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(folder / "images" / f"{index}.jpg")
        Image.fromarray(rng.integers(0, 2, (64, 80), dtype=np.uint8)).save(folder / "masks" / f"{index}.png")


def make_workplace(folder):
    """Makes the files that pages name without making them."""
    make_own_data(folder / "my_data")
    (folder / "images").mkdir()
    for name in ("street.jpg", "images/a.png", "town.tif"):
        Image.new("RGB", (64, 48), "gray").save(folder / name)
    (folder / "run.toml").write_text(RUN)
    metadata = resolve_metadata("Shapes")
    seed(0)
    # untrained: in ENet the places of the maxima that it pools would depend on rounding
    model = get_model("fast_scnn", num_classes=metadata.num_classes)
    save_model(model, folder / "runs" / "shapes" / "model.pt", metadata=metadata, preprocessing=Preprocessing())
    save_model(model, folder / "model.pt", metadata=metadata, preprocessing=Preprocessing())
