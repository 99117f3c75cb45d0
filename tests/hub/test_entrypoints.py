"""torch.hub on a clone, in a fresh process that has only torch, torchvision and their dependencies."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HELPERS = {"get_model_weights", "get_weight", "list_models"}

# Runs first: optional dependencies cannot be imported, and an installation of the toolkit itself cannot be found,
# neither its modules (an editable installation is on the path) nor its metadata.
PRELUDE = """
import importlib.metadata as metadata
import sys

# None makes an import fail as if the package were not installed
for package in ("accelerate", "hypothesis", "matplotlib", "pydantic", "pytest", "rich", "tomli_w"):
    sys.modules[package] = None
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [p for p in sys.path if not ("seg-" in p and p.rstrip("/").endswith("src"))]

real_entry_points, real_version = metadata.entry_points, metadata.version

def entry_points(**selection):
    ours = selection.get("group", "").startswith("seg_core.")
    return metadata.EntryPoints() if ours else real_entry_points(**selection)

def version(name):
    if name.startswith("seg-"):
        raise metadata.PackageNotFoundError(name)
    return real_version(name)

metadata.entry_points, metadata.version = entry_points, version
"""

SCRIPT = """
import json
import torch
torch.set_num_threads(1)
clone = CLONE
load = lambda *args, **options: torch.hub.load(clone, *args, source="local", **options)
found = {"listed": torch.hub.list("someone/seg:main", trust_repo=True, skip_validation=True)}
found["models"] = load("list_models")
found["shapes"] = {}
for name in ("enet", "fcn_resnet18", "segformer_b0"):  # `hatch run hub:test` loads every one
    model = load(name, num_classes=5).eval()
    with torch.inference_mode():
        found["shapes"][name] = list(model(torch.zeros(1, 3, 32, 40))["out"].shape)
member, enum = load("get_weight", "FCN_ResNet50_Weights.DEFAULT"), load("get_model_weights", "fcn_resnet50")
found["weights"] = [repr(member), [m.name for m in enum], enum.DEFAULT is member]
import seg_core, seg_models
pair = seg_core.DatasetMetadata("two", ("sky", "ground"))
model = load("enet", num_classes=2)
seg_models.save_model(model, "model.pt", metadata=pair, preprocessing=seg_core.Preprocessing())
found["labels"] = list(seg_models.Predictor("model.pt")(torch.zeros(3, 20, 30, dtype=torch.uint8)).labels.shape)
found["files"] = [seg_core.__file__, seg_models.__file__]
try:
    load("unet")
except RuntimeError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A hub folder with a copy of the files that torch.hub needs, named like a repository that torch.hub downloaded."""
    folder = tmp_path_factory.mktemp("home") / "hub" / "someone_seg_main"
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "hubconf.py", folder)
    for package in ("seg-core", "seg-models", "seg-hub"):
        source = Path("packages", package, "src")
        shutil.copytree(ROOT / source, folder / source, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture(scope="module")
def found(clone):
    """The output of the script, run in a fresh process outside of the repository."""
    home = clone.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + SCRIPT.replace("CLONE", repr(str(clone)))],
        env={**os.environ, "TORCH_HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_list_shows_the_models_and_the_three_helpers_and_nothing_else(found):
    assert set(found["listed"]) == {*found["models"], *HELPERS}
    assert {"enet", "fcn_resnet34", "fcn_resnet50"} <= set(found["models"])


def test_load_of_every_model_gives_a_network_with_num_classes(found):
    assert set(found["shapes"]) < set(found["models"])
    assert all(shape == [1, 5, 32, 40] for shape in found["shapes"].values())


def test_weights_helpers_find_enum_and_member(found):
    member, members, same = found["weights"]
    assert member == "FCN_ResNet50_Weights.COCO_WITH_VOC_LABELS_V1"
    assert members == ["COCO_WITH_VOC_LABELS_V1", "CITYSCAPES", "ADE20K", "VOC2012_AUG"]
    assert same


def test_packages_come_from_the_clone_and_stay_importable(found, clone):
    assert found["labels"] == [20, 30]
    assert all(file.startswith(str(clone)) for file in found["files"])


def test_load_of_an_unknown_name_is_an_error_that_names_it(found):
    assert "unet" in found["error"]


TWO_CLONES = """
import warnings
import torch
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    for clone in CLONES:
        torch.hub.load(clone, "list_models", source="local")
print(json.dumps([str(warning.message) for warning in caught if "this process" in str(warning.message)]))
"""


def test_second_clone_in_one_process_warns_if_its_code_differs(clone, tmp_path):
    same, edited, older = (tmp_path / name for name in ("same", "edited", "older"))
    for copy in (same, edited, older):
        shutil.copytree(clone, copy)
    with (edited / "packages/seg-models/src/seg_models/layers.py").open("a") as file:
        file.write("# edited\n")
    (older / "packages/seg-core/src/seg_core/text.py").unlink()
    script = (
        PRELUDE + "import json\n" + TWO_CLONES.replace("CLONES", repr([str(c) for c in (clone, same, edited, older)]))
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout.splitlines()[-1])
    used = clone / "packages/seg-models/src/seg_models"
    assert first.startswith(
        f"this process already uses seg_models from {used}, whose code differs from that of {edited}"
    )
    assert "Load the second in a process of its own" in first
    assert second.startswith("this process already uses seg_core")
