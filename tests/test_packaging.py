"""The packages: import directions between and within them, light imports, versions and ranges, entry points, stubs."""

import ast
import graphlib
import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from seg_core.lazy import stub_text

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("seg-core", "seg-models", "seg-datasets", "seg-train", "seg-hub")
# what the code of each package may import of the others
ARROWS = {
    "seg_core": set(),
    "seg_models": {"seg_core"},
    "seg_datasets": {"seg_core"},
    "seg_train": {"seg_core"},
    "seg_hub": {"seg_core", "seg_models"},
}
HEAVY = ("torchvision", "matplotlib", "accelerate", "pydantic", "rich", "cv2", "torch._dynamo")


def read_project(package):
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def import_name(package):
    return package.replace("-", "_")


def source_folder(package):
    """The folder of a package's code, by its name on PyPI or its import name."""
    return ROOT / "packages" / package.replace("_", "-") / "src" / import_name(package)


def imported_modules(source):
    """All absolute module names that a source text imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, "imports inside the packages are absolute"
            yield node.module


def wrong_imports(package, source):
    others = set(ARROWS) - {package} - ARROWS[package]
    return {name for name in imported_modules(source) if name.split(".")[0] in others}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_along_the_arrows_only(package):
    files = sorted(source_folder(package).rglob("*.py*"))
    assert files
    wrong = {
        str(f.relative_to(ROOT)): found
        for f in files
        if f.suffix in (".py", ".pyi") and (found := wrong_imports(import_name(package), f.read_text(encoding="utf-8")))
    }
    assert not wrong


def test_the_arrow_check_finds_a_sideways_import_in_a_function():
    source = "def build():\n    from seg_models.networks import enet\n    import seg_datasets.official.camvid\n"
    assert wrong_imports("seg_train", source) == {"seg_models.networks", "seg_datasets.official.camvid"}
    assert not wrong_imports("seg_hub", "import seg_models, seg_core.registry")


# ---- rooms -----------------------------------------------------------------------------------------------------------

# The rooms of each package, ground first: a room imports only itself and rooms to its left. Imports inside functions
# and for type checkers alone count; names in strings, which the registry imports on use, do not.
ROOMS = {
    "seg_core": (
        "errors checks arrays text parsing lazy catalog own_code registry randomness modes workers spec device "
        "versions progress html command labels interfaces files transforms metrics model_files plots"
    ),
    "seg_models": (
        "published catalog layers pretrained backbones other_names factory builders networks inference exporting speed "
        "commands"
    ),
    "seg_datasets": "catalog reading official shapes folder factory unified doctor commands",
    "seg_train": "catalog monitor losses optim data config loggers run commands",
    "seg_hub": "entrypoints",
}
# The door of every package: hands out names of all rooms, and no room goes through it.
DOOR = ("__init__", "_exports")

# An import to the right, as (module, imported), and why it stands.
EXCEPTIONS = {
    # Predictor(optimize=True) hands its network to the room that makes networks faster, which is built on inference
    ("seg_models.inference.preparation", "seg_models.speed.optimize"),
    ("seg_models.inference.preparation", "seg_models.speed.network"),
}

# Files over 450 lines, each with the one idea that it holds.
LONG_FILES = {
    "packages/seg-train/src/seg_train/config/schema.py": "the keys of the config, with their descriptions",
}


def modules_of(folder, package):
    """The source text of each module of a package, by its full name; a folder's `__init__` has the folder's name."""
    return {
        ".".join([package, *file.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__"): file.read_text(
            encoding="utf-8"
        )
        for file in folder.rglob("*.py")
    }


def imports_within(modules, source):
    """The modules of `modules` that a source text imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            # a name may be a module of the package itself, as in `from seg_core.files import images`
            names = [
                found if (found := f"{node.module}.{alias.name}") in modules else node.module for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name in modules)


def import_graph(modules):
    return {name: set(imports_within(modules, source)) - {name} for name, source in modules.items()}


def room_of(module):
    return [*module.split("."), "__init__"][1]


def wrong_directions(graph, rooms):
    """The imports, as (module, imported), that do not go from a room to one on its left."""
    place = {room: index for index, room in enumerate(["__about__", *rooms, *DOOR])}
    missing = sorted(name for name in graph if room_of(name) not in place)
    assert not missing, f"{', '.join(missing)}: no such room in ROOMS"
    wrong = [
        (module, name)
        for module, imported in graph.items()
        for name in imported
        if place[room_of(name)] > place[room_of(module)] and not {room_of(name), room_of(module)} <= set(DOOR)
    ]
    return sorted(wrong)


def import_circle(graph):
    """Modules that import each other in a circle, first and last the same; none if there is no circle."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return []


@pytest.mark.parametrize("package", ROOMS)
def test_rooms_import_only_rooms_to_their_left(package):
    graph = import_graph(modules_of(source_folder(package), package))
    assert set(wrong_directions(graph, ROOMS[package].split())) == {
        pair for pair in EXCEPTIONS if pair[0].split(".")[0] == package
    }


@pytest.mark.parametrize("package", ROOMS)
def test_no_modules_import_each_other_in_a_circle(package):
    assert import_circle(import_graph(modules_of(source_folder(package), package))) == []


def test_room_checks_find_invented_violations():
    modules = {
        "pkg": "from pkg.lazy import attach\n",
        "pkg.lazy": "import os\n",
        "pkg.files.images": "def read():\n    import pkg.plots.figures\n",
        "pkg.files.atomic": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pkg.files import images\n",
        "pkg.plots.figures": "from pkg.lazy import attach\nfrom pkg.files.atomic import write\n",
    }
    graph = import_graph(modules)
    assert wrong_directions(graph, ["lazy", "files", "plots"]) == [("pkg.files.images", "pkg.plots.figures")]
    assert wrong_directions(graph, ["lazy", "plots", "files"]) == [("pkg.plots.figures", "pkg.files.atomic")]
    circle = import_circle(graph)
    assert circle[0] == circle[-1]
    assert set(circle) == {"pkg.files.images", "pkg.files.atomic", "pkg.plots.figures"}
    del modules["pkg.files.atomic"]
    assert import_circle(import_graph(modules)) == []
    own = {"pkg": "", "pkg.files": "import pkg\n"}
    assert wrong_directions(import_graph(own), ["files"]) == [("pkg.files", "pkg")]
    with pytest.raises(AssertionError, match="pkg.files: no such room in ROOMS"):
        wrong_directions(import_graph(own), ["plots"])


def test_long_files_are_one_idea_each():
    folders = [source_folder(package) for package in ROOMS] + [ROOT / "benchmarks", ROOT / "scripts"]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    long = {str(f.relative_to(ROOT)) for f in files if len(f.read_text(encoding="utf-8").splitlines()) > 450}
    assert long == set(LONG_FILES)
    assert all(LONG_FILES.values())


# ---- light imports ---------------------------------------------------------------------------------------------------


def loaded_after(statement):
    """Names of the modules that a fresh interpreter holds after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.smoke
@pytest.mark.parametrize(
    "statement",
    ["import seg_models", "import seg_core", "import seg_datasets", "import seg_train", "import seg_hub"],
)
def test_import_of_a_package_stays_light(statement):
    assert not loaded_after(statement) & {*HEAVY, "torch", "numpy"}


@pytest.mark.parametrize(
    "statement",
    [
        "import seg_models; seg_models.get_model('enet', num_classes=2)",
        "import seg_models; seg_models.load_model; seg_models.Predictor",
        "import seg_core; seg_core.MetricStore(3); seg_core.scores_from_confusion",
        "import seg_core; seg_core.colorize",
    ],
)
def test_torch_only_names_bring_no_heavy_packages(statement):
    assert not loaded_after(statement) & set(HEAVY)


@pytest.mark.parametrize(
    "statement",
    [
        "from seg_core.registry import *; [r.names() for r in (MODELS, BACKBONES, DATASETS, LOSSES, OPTIMIZERS, "
        "SCHEDULERS, LOGGERS, PREDICTORS, LOADERS, COMMANDS)]",
        "from seg_core import resolve_metadata; resolve_metadata('CamVid')",
        "from seg_core import checks, device, html, progress, spec, versions",
        "from seg_core.model_files import load_network",
        "from seg_core.command import main; main([]); main(['models'])",
        "from seg_core.command import main; main(['datasets'])",
        "import seg_models; seg_models.list_models()",
        "import seg_datasets; seg_datasets.list_datasets()",
    ],
)
def test_listing_names_imports_no_torch(statement):
    assert not loaded_after(statement) & {"torch", "torchvision", "numpy", "accelerate", "pydantic"}


@pytest.mark.parametrize("package", PACKAGES)
def test_package_has_what_a_release_needs(package):
    folder = ROOT / "packages" / package
    for name in ("README.md", "CHANGELOG.md", "LICENSE"):
        assert (folder / name).is_file(), name
    assert (source_folder(package) / "py.typed").is_file()
    assert "## Unreleased" in (folder / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (folder / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    project = read_project(package)
    assert project["requires-python"] == ">=3.11"
    assert project["license"] == "MIT"
    about = (source_folder(package) / "__about__.py").read_text(encoding="utf-8")
    assert importlib.metadata.version(package) == re.search(r'__version__ = "(.+)"', about).group(1)
    assert importlib.import_module(import_name(package)).__version__ == importlib.metadata.version(package)


def sibling_requirements(package):
    project = read_project(package)
    groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    return [r for group in groups for r in map(Requirement, group) if r.name in PACKAGES]


@pytest.mark.parametrize("package", PACKAGES)
def test_sibling_ranges_hold_for_the_versions_here(package):
    for requirement in sibling_requirements(package):
        version = Version(importlib.metadata.version(requirement.name))
        assert requirement.specifier.contains(version, prereleases=True), requirement
        # a range has both ends: below 1.0 a minor version may break
        assert {s.operator for s in requirement.specifier} == {">=", "<"}, requirement


@pytest.mark.parametrize("package", PACKAGES)
def test_every_import_is_declared(package):
    project = read_project(package)
    groups = [project["dependencies"], *project.get("optional-dependencies", {}).values()]
    declared = {Requirement(r).name.replace("-", "_").lower() for group in groups for r in group}
    # extras of seg-core that a package requires bring these
    for extra in {e for r in sibling_requirements(package) if r.name == "seg-core" for e in r.extras}:
        declared |= {Requirement(r).name for r in read_project("seg-core")["optional-dependencies"][extra]}
    known = {"PIL": "pillow", "mlflow": "mlflow_skinny"}
    imported = {
        name.split(".")[0]
        for file in source_folder(package).rglob("*.py")
        for name in imported_modules(file.read_text(encoding="utf-8"))
    }
    third_party = imported - set(sys.stdlib_module_names) - {import_name(package)}
    assert {known.get(name, name).lower() for name in third_party} <= declared


@pytest.mark.parametrize("package", ["seg-core", "seg-models"])
def test_inference_needs_torch_torchvision_numpy_and_pillow_only(package):
    names = {Requirement(r).name for r in read_project(package)["dependencies"]}
    assert names <= {"torch", "torchvision", "numpy", "pillow", "filelock", "seg-core"}  # torch requires filelock


@pytest.mark.parametrize("package", PACKAGES)
def test_entry_points_name_tables_that_exist(package):
    declared = read_project(package).get("entry-points", {})
    installed = {(p.group, p.value) for p in importlib.metadata.distribution(package).entry_points}
    for group, points in declared.items():
        for value in points.values():
            assert (group, value) in installed, "recreate the environment after editing a pyproject.toml"
            module, _, table = value.partition(":")
            assert len(getattr(importlib.import_module(module), table)) > 0


@pytest.mark.parametrize("name", ["seg_core", "seg_models", "seg_datasets", "seg_train"])
def test_stub_is_the_one_made_from_the_exports(name):
    exports = importlib.import_module(f"{name}._exports").EXPORTS
    stub = source_folder(name) / "__init__.pyi"
    assert stub.read_text(encoding="utf-8") == stub_text(name, exports), "run `hatch run stubs`"


@pytest.mark.parametrize("name", ["seg_core", "seg_models", "seg_datasets", "seg_train"])
def test_every_public_name_resolves_and_is_no_module(name):
    package = importlib.import_module(name)
    modules = {p.stem for p in source_folder(name).iterdir()}
    for public in package.__all__:
        assert getattr(package, public) is not None
        assert public not in modules, f"{public} is also a module of {name}"


def test_every_registered_target_resolves():
    from seg_core import registry

    for table in (getattr(registry, n) for n in registry.__all__ if n.isupper()):
        for name in table:
            assert table.get(name) is not None
