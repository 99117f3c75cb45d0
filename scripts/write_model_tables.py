"""Writes docs/models.md: every network's facts next to the published ones, and the promises of the contract it keeps.

Without `--results` the whole contract runs first, in two processes, with the other tests of models that are marked
`full`; that takes 15 minutes, and as long again for what inductor compiles. Also writes docs/timm.md: which of timm's
networks are backbones, measured; `--only timm` writes that page alone. Exits with 1 if a test fails.
"""

import argparse
import importlib.util
import inspect
import re
import subprocess
import sys
import tempfile
import tomllib
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

from seg_core.catalog import ModelEntry
from seg_core.errors import InvalidArgumentError
from seg_core.registry import BACKBONES, MODELS
from seg_models import get_model_builder, list_models
from seg_models.backbones.timm import measure

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "models.md"
PAGE_OF_TIMM = ROOT / "docs" / "timm.md"
CONTRACT = "tests/models/networks/test_contract.py::TestContract"
# the contract, and the other tests of models that are marked `full`
TESTS = ["tests/models/networks", "tests/models/backbones", "tests/models/test_model_files.py"]
OF_THE_PAGE = "tests/models/networks/test_published.py::test_page_has_every_model_with_its_facts_and_its_promises"
# the promises, in the order of the table: test -> what it promises
PROMISES = {
    "builds_without_network": "builds without downloads; the outputs are those of the catalog",
    "any_size": "every output has the image's height and width: even, odd, and from the smallest size on",
    "batch_of_one_trains": "a training step on one image of 64x64 and of 64x97",
    "channels_and_classes": "1, 3 and 5 input channels; 1, 2 and 21 classes",
    "every_parameter_gets_a_gradient": "no trainable parameter is left out",
    "eval_is_deterministic": "the same image gives the same output, bit by bit",
    "forward_is_resized_logits": "`forward` is `forward_logits` resized as `upsampling` says, bit by bit",
    "compile_whole_graph": "`torch.compile(fullgraph=True)` traces it, and agrees",
    "export_any_size": "`torch.export` with dynamic height and width, from 65 on; agrees at an even and an odd size",
    "onnx_any_size": "the same program as ONNX agrees in onnxruntime at both sizes",
    "pickle_and_deepcopy": "copies give the same output",
    "state_dict_files": "parameters survive torch's files, which are taken as `weights=`, and safetensors",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, help="use this JUnit file of the contract instead of running it")
    parser.add_argument("--only", choices=["timm"], help="write docs/timm.md alone, without running the contract")
    arguments = parser.parse_args()
    PAGE_OF_TIMM.write_text(page_of_timm(timm_rows()), encoding="utf-8")
    print(f"wrote {PAGE_OF_TIMM.relative_to(ROOT)}")
    if arguments.only:
        return 0
    with tempfile.TemporaryDirectory() as folder:
        results, status = arguments.results, 0
        if results is None:
            results = Path(folder) / "contract.xml"
            status = run_tests(results)
        PAGE.write_text(page(results), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}" + ("; there are tests that fail, see above" if status else ""))
    return status


def run_tests(file: Path) -> int:
    """Runs the tests, writes their JUnit file and returns the exit status."""
    command = ["pytest", "-q", "-n", "2", "--dist", "worksteal", "-m", "full or not full", f"--junitxml={file}"]
    command += [*TESTS, "--deselect", OF_THE_PAGE]  # of what is about to be written
    return subprocess.run([sys.executable, "-m", *command], cwd=ROOT, check=False).returncode


def read_results(file: Path) -> dict[str, dict[str, bool]]:
    """Model -> promise -> whether every test of it passed."""
    kept: dict[str, dict[str, bool]] = defaultdict(dict)
    for case in ElementTree.parse(file).iter("testcase"):
        match = re.fullmatch(r"test_(\w+)\[(.+)\]", case.get("name", ""))
        if match is None or not case.get("classname", "").endswith("TestContract"):
            continue
        promise, parameters = match.groups()
        model = next(part for part in reversed(parameters.split("-")) if part in MODELS)
        passed = not any(child.tag in ("failure", "error", "skipped") for child in case)
        kept[model][promise] = kept[model].get(promise, True) and passed
    return kept


def page(results: Path) -> str:
    parts = [
        "# Models\n",
        "Written by `hatch run models` from the catalog, the published figures in `tests/expected/published.toml`, and "
        "a run of the contract. Each network's module says where it departs from its paper.\n",
        "## Networks\n",
        "Parameters at 21 classes, and multiply-accumulates (MACs) of convolutions and matrix products for one "
        "3x512x1024 image, both without auxiliary heads. All outputs but `out` come with `aux_loss=True`.\n",
        table(
            ["model", "network", "backbone", "parameters", "MACs", "outputs", "variants"],
            [facts(name) for name in list_models()],
            numbers=(3, 4),
        ),
        "Each of these networks takes any backbone: "
        + ", ".join(f"`{name}`" for name in MODELS if getattr(MODELS.entry(name), "any_backbone", False))
        + '. `create("upernet", backbone="efficientnet_b0")`. Backbones: '
        + ", ".join(f"`{name}`" for name in BACKBONES)
        + ", and with `pip install seg-models[timm]` timm's that take images of any size, as "
        "`timm:convnext_tiny`: [timm backbones](timm.md).\n",
        "## Compared with the published figures\n",
        'Size is height x width of the image. "Counted" is a count of the authors\' code, or of a transcription of '
        "it, where the paper has no figure or one that cannot be a count. Where a difference is over 1 %, the "
        "network's module says why:\n",
        *published(),
        "## The contract\n",
        "What every model promises, proven by `" + CONTRACT + "`:\n",
        "\n".join(f"{number}. {text}" for number, text in enumerate(PROMISES.values(), 1)) + "\n",
        matrix(read_results(results)),
        compiled(results),
        "With a batch of one in train mode, and only then, a branch whose map is one pixel (pyramid pooling, image "
        "pooling, attention) normalizes with its running statistics: one value has no variance.\n",
    ]
    return "\n".join(parts)


def compiled(results: Path) -> str:
    """The models that inductor compiled, for a fixed size and for dynamic ones."""
    kept: dict[str, bool] = {}
    for case in ElementTree.parse(results).iter("testcase"):
        match = re.fullmatch(r"test_lightest_of_each_network(?:_of_dynamic_sizes)?\[(\w+)\]", case.get("name", ""))
        if match is not None:
            passed = not any(child.tag in ("failure", "error", "skipped") for child in case)
            kept[match[1]] = kept.get(match[1], True) and passed
    passing, failing = (", ".join(f"`{n}`" for n, ok in sorted(kept.items()) if ok is want) for want in (True, False))
    return (
        "Compiled for the CPU by inductor, for one size and for dynamic ones, these agree within 1e-4: "
        f"{passing or '-'}." + (f" These do not: {failing}." if failing else "") + "\n"
    )


def timm_rows() -> list[list[str]]:
    """The first network of each of timm's families, measured."""
    from timm.models import list_models as list_timm
    from timm.models import list_modules

    rows = []
    for family in sorted(list_modules()):
        name = next(iter(list_timm(module=family)), None)
        if name is not None:
            rows.append(timm_row(family, name))
    return rows


def timm_row(family: str, name: str) -> list[str]:
    try:
        found = measure(name)
    except InvalidArgumentError as error:
        reason = re.sub(r".*(takes? images of any size|as a backbone with \S+): |; choose .*", "", str(error))
        return [family, f"`{name}`", "refused", "", reason.replace("|", " ")]
    if found.multiple > 1:
        images = f"any, padded to multiples of {found.multiple}"
    else:
        images = "any" if found.minimum == 1 else f"any, padded to at least {found.minimum}"
    notes = ["resized: " + ", ".join(f"stage{position + 1}" for position in found.inexact)] if found.inexact else []
    notes += [f"`{option}={value}`" for option, value in found.options.items()]
    return [family, f"`{name}`", images, ", ".join(str(stride) for stride in found.strides), "; ".join(notes)]


def page_of_timm(rows: list[list[str]]) -> str:
    taken = sum(images != "refused" for _, _, images, *_ in rows)
    parts = [
        "# timm's networks as backbones\n",
        f"Written by `hatch run models`: the first network of each of {len(rows)} families (modules) of timm "
        f"{version('timm')}, measured as it is when one is built. {taken} are backbones. The others of a family "
        "mostly, not always, do the same; each is measured when it is built, and is refused with the reason if it "
        "cannot take images of any size.\n",
        "- *images*: sizes that the backbone takes. Where timm's network needs multiples of a number, or a least "
        "size, images are padded with zeros at the bottom and the right, and the features cropped. Multiples of a "
        "large number are costly for images that are not close to one.\n"
        "- *strides*: of its features, measured. FPN, UPerNet and SegFormer need at least four features.\n"
        "- *resized*: features whose size is not the image's divided by the stride; they are resized to it.\n"
        "- options such as `dynamic_img_size=True` are set by themselves.\n",
        table(["family", "measured", "images", "strides", "notes"], rows),
    ]
    return "\n".join(parts)


def facts(name: str) -> list[str]:
    entry = MODELS.entry(name)
    assert isinstance(entry, ModelEntry)
    outputs, variants = (", ".join(words) for words in (entry.outputs, entry.variants))
    backbone = entry.backbone or "-"
    return [f"`{name}`", entry.family, backbone, f"{entry.params:,}", f"{entry.macs / 1e9:.2f} G", outputs, variants]


def published() -> list[str]:
    spec = importlib.util.spec_from_file_location("fidelity", ROOT / "tests" / "models" / "fidelity.py")
    assert spec is not None and spec.loader is not None
    fidelity = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fidelity)
    rows, notes = [], []
    figures = tomllib.loads((ROOT / "tests" / "expected" / "published.toml").read_text(encoding="utf-8"))["figure"]
    for figure in figures:
        params, macs = fidelity.count(figure["model"], figure.get("size", [64, 64]), **figure["options"])
        note = ""
        if "explained" in figure:
            reason = explanation(figure["model"], figure["explained"])
            if reason not in notes:
                notes.append(reason)
            note = f"({notes.index(reason) + 1})"
        size = "x".join(str(side) for side in figure["size"]) if "macs" in figure else ""
        rows.append(
            [
                f"`{figure['model']}`",
                f"[{figure['by']}]({figure['url']})",
                str(figure["options"]["num_classes"]),
                *beside(figure.get("params"), params, 1e6, "M"),
                size,
                *beside(figure.get("macs"), macs, 1e9, "G"),
                note,
            ]
        )
    header = ["model", "published by", "classes", "params", "ours", "", "size", "MACs", "ours", "", ""]
    listed = "\n".join(f"{number}. {text}" for number, text in enumerate(notes, 1))
    return [table(header, rows, numbers=(2, 3, 4, 5, 6, 7, 8, 9)), listed + "\n"]


def explanation(model: str, words: str) -> str:
    """The paragraph or the point of the network's documentation that has these words."""
    module = inspect.getmodule(get_model_builder(model))
    parts = re.split(r"\n\n|\n- ", module.__doc__ or "")
    return next(text for part in parts if words in (text := " ".join(part.split())))


def beside(theirs: float | None, ours: int, unit: float, symbol: str) -> list[str]:
    if theirs is None:
        return ["", "", ""]
    return [f"{theirs / unit:.2f} {symbol}", f"{ours / unit:.2f} {symbol}", f"{100 * (ours / theirs - 1):+.1f} %"]


def matrix(kept: dict[str, dict[str, bool]]) -> str:
    unknown = {promise for row in kept.values() for promise in row} - set(PROMISES)
    assert not unknown, f"describe in PROMISES: {unknown}"
    signs = {True: "yes", False: "NO", None: "not run"}
    rows = [[f"`{name}`", *(signs[kept.get(name, {}).get(promise)] for promise in PROMISES)] for name in list_models()]
    return table(["model", *(str(number) for number in range(1, len(PROMISES) + 1))], rows)


def table(header: list[str], rows: list[list[str]], numbers: tuple[int, ...] = ()) -> str:
    rule = ["---:" if column in numbers else "---" for column in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rule, *rows]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
