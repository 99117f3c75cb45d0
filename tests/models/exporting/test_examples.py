"""The programs that run an exported file without torch: both give the labels that `Predictor` gives by that file."""

import functools
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from seg_core import DatasetMetadata, Preprocessing, save_model
from seg_core.command import main
from seg_core.errors import InvalidArgumentError
from seg_core.labels.channels import ImageChannels
from seg_models import export, get_model, load_exported
from seg_models.exporting.examples import check_examples, write_example
from tests.pages import Page

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# images smaller than a file takes are part of these tests
pytestmark = pytest.mark.filterwarnings("ignore:the image has .* was exported for")

PLAIN = Preprocessing(mean=(0.5, 0.45, 0.4), std=(0.25, 0.3, 0.2))
STREET = DatasetMetadata("street", ("road", "car", "sky < roof"), ((128, 64, 128), (0, 0, 142), (70, 130, 180)))
VESSELS = DatasetMetadata("vessels", ("vessel",), ((250, 20, 30),), task="binary")
DISCS = DatasetMetadata("discs", ("low", "mid / high"), ((200, 0, 0), (0, 200, 0)), task="multilabel")

# of a file named model.onnx: what is exported, and how
MODELS = {
    "multiclass": (STREET, {}),
    "binary": (VESSELS, {"thresholds": 0.52}),
    "multilabel": (DISCS, {"thresholds": (0.5, 0.52)}),
    "normalizes": (STREET, {"with_preprocessing": True, "with_argmax": True}),
    "shorter": (STREET, {"preprocessing": PLAIN.with_resize({"shorter_side": 50})}),
    "longer": (STREET, {"preprocessing": PLAIN.with_resize({"longer_side": 160})}),
    "scale": (STREET, {"preprocessing": PLAIN.with_resize({"scale": 0.5})}),
    # higher and narrower, so that each axis is resized in its own way
    "size": (STREET, {"preprocessing": PLAIN.with_resize({"size": (80, 64)})}),
    "static": (STREET, {"dynamic": False, "size": (64, 96)}),
    "enet": (STREET, {}),
}


class Small(nn.Module):
    """A network of stride 4, whose logits depend on every pixel around."""

    def __init__(self, num_classes):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 5, stride=2, padding=2)
        self.second = nn.Conv2d(6, num_classes, 5, stride=2, padding=2)

    def forward(self, images):
        return {"out": self.second(self.first(images).relu())}


def lively(network):
    """Gives a network of random weights batch norms that fit images, and logits that are 0 on average."""
    with torch.no_grad():
        for _ in range(5):
            logits = network.train()(F.interpolate(torch.randn(2, 3, 9, 12), (96, 128), mode="bilinear"))
        if isinstance(network, Small):
            network.second.bias -= logits["out"].mean((0, 2, 3)) - 0.1
    return network.eval()


def seg(*arguments):
    return main([str(argument) for argument in arguments])


def export_model(name, folder):
    """Exports a network of `MODELS` as model.onnx in a folder; returns the report."""
    metadata, options = MODELS[name]
    torch.manual_seed(3)
    network = lively(get_model("enet", num_classes=3) if name == "enet" else Small(metadata.num_classes))
    return export(network, folder / "model.onnx", metadata=metadata, **{"preprocessing": PLAIN, **options})


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Exports a network of `MODELS` once; returns its report."""
    return functools.cache(lambda name: export_model(name, tmp_path_factory.mktemp(name)))


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path)


def write_images(folder):
    """Images whose pixels are known exactly: of odd size, smaller than any file takes, gray, and turned by a tag."""
    y, x = np.mgrid[:71, :93]
    draw = np.random.default_rng(0)
    planes = [127 + 90 * np.sin(y / 11 + i) * np.cos(x / (17 - 4 * i)) + draw.normal(0, 12, y.shape) for i in range(3)]
    pixels = np.stack(planes, -1).clip(0, 255).astype(np.uint8)
    files = {name: folder / f"{name}.png" for name in ("odd", "small", "gray", "turned", "alpha")}
    Image.fromarray(pixels).save(files["odd"])
    Image.fromarray(pixels[:20, :31]).save(files["small"])
    Image.fromarray(pixels[..., 0]).save(files["gray"])
    tag = Image.Exif()
    tag[274] = 6
    Image.fromarray(pixels).save(files["turned"], exif=tag)
    Image.fromarray(np.dstack([pixels, pixels[..., 1]])).save(files["alpha"])
    return files


def predicted(report, image):
    """The labels that `Predictor` computes by the file."""
    fixed = report.description.size
    predictor = load_exported(report.path)
    if fixed is not None:
        predictor = load_exported(report.path, preprocessing=predictor.preprocessing.with_resize({"size": fixed}))
    return predictor(image).labels


# ---- the script ------------------------------------------------------------------------------------------------------

# runs a script as if torch and this toolkit were not installed
WITHOUT = (
    "import runpy, sys; sys.modules.update(dict.fromkeys(['torch', 'torchvision', 'seg_core', 'seg_models'])); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def run(script, *arguments):
    command = [sys.executable, "-c", WITHOUT, script, *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)


def read_labels(report, path):
    metadata = report.description.info.metadata
    if metadata.task != "multilabel":
        return np.asarray(Image.open(path))
    names = ("low", "mid_high")
    return np.stack([np.asarray(Image.open(path.with_stem(f"{path.stem}_{name}"))) for name in names]).astype(bool)


@pytest.mark.parametrize("name", MODELS)
def test_the_script_writes_the_labels_that_prediction_gives(name, exported, images, tmp_path):
    report = exported(name)
    script = write_example(report, "python").path
    assert script == report.path.with_name("run_model.py")
    seen = set()
    for kind in ("odd", "small"):
        done = run(script, images[kind], tmp_path / "labels.png")
        assert done.returncode == 0, done.stderr
        expected = predicted(report, images[kind])
        np.testing.assert_array_equal(read_labels(report, tmp_path / "labels.png"), expected)
        seen |= set(np.unique(expected).tolist())
    assert len(seen) > 1, "labels that are all equal say nothing"


@pytest.mark.parametrize("kind", ["gray", "turned", "alpha"])
def test_the_script_reads_images_as_prediction_does(kind, exported, images, tmp_path):
    report = exported("multiclass")
    done = run(write_example(report, "python").path, images[kind], tmp_path / "labels.png")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(read_labels(report, tmp_path / "labels.png"), predicted(report, images[kind]))


def test_the_labels_have_the_colors_of_the_classes(exported, images, tmp_path):
    file = tmp_path / "labels.png"
    for name, colors in (("multiclass", STREET.colors), ("binary", [(0, 0, 0), *VESSELS.colors])):
        run(write_example(exported(name), "python").path, images["odd"], file)
        image = Image.open(file)
        assert image.mode == "P"
        assert image.getpalette()[: 3 * len(colors)] == [value for color in colors for value in color]
    run(write_example(exported("multilabel"), "python").path, images["odd"], file)
    assert Image.open(tmp_path / "labels_mid_high.png").getpalette()[:6] == [0, 0, 0, 0, 200, 0]


def test_the_script_prints_the_share_of_each_class(exported, images, tmp_path):
    report = exported("multiclass")
    done = run(write_example(report, "python").path, images["odd"], tmp_path / "labels.png")
    counts = np.bincount(predicted(report, images["odd"]).ravel(), minlength=3)
    wrote, *lines = done.stdout.splitlines()
    assert wrote == f"wrote {tmp_path / 'labels.png'}"
    shares = {name: share for share, name in (line.split(maxsplit=1) for line in lines)}
    assert shares == {
        name: f"{count / counts.sum():.2%}" for name, count in zip(STREET.labels, counts, strict=True) if count
    }


def test_what_the_script_cannot_do_is_said(exported, images, tmp_path):
    script = write_example(exported("multiclass"), "python").path
    done = run(script, images["odd"], tmp_path / "labels.jpg")
    assert done.returncode == 2
    assert "must end in .png" in done.stderr
    Image.fromarray(np.full((40, 40), 3000, np.uint16)).save(tmp_path / "deep.png")
    done = run(script, tmp_path / "deep.png", tmp_path / "labels.png")
    assert done.returncode == 1
    assert "more than 8 bits" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "labels.png").exists()


def test_a_name_of_any_characters_is_one_of_a_script(exported, images, tmp_path):
    report = exported("multiclass")
    odd = shutil.copy(report.path, tmp_path / 'a "b" \\c.onnx')
    script = write_example(replace(report, path=odd), "python").path
    assert script.name == "run_a__b___c.py"
    done = run(script, images["odd"], tmp_path / "labels.png")
    assert done.returncode == 0, done.stderr


def test_a_small_image_is_padded_with_the_mean_color_whoever_normalizes(exported, images):
    # both are the same network; verification has no image that small
    np.testing.assert_array_equal(
        predicted(exported("normalizes"), images["small"]), predicted(exported("multiclass"), images["small"])
    )


# ---- the page --------------------------------------------------------------------------------------------------------

RUNTIME = ["ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm", "ort.wasm.min.js"]


@pytest.fixture
def ort_web(tmp_path):
    """An unpacked npm package with more files than the page needs."""
    folder = tmp_path / "npm" / "package"
    (folder / "dist").mkdir(parents=True)
    for name in [*RUNTIME, "ort.min.js", "ort-wasm-simd-threaded.jsep.wasm"]:
        (folder / "dist" / name).write_text(name)
    return folder


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_the_page_has_the_model_and_the_runtime_beside_it(exported, ort_web):
    report = exported("multiclass")
    example = write_example(report, "web")
    folder = example.path.parent
    assert folder == report.path.with_name("model_web")
    assert names(folder) == ["index.html", "model.onnx"]
    assert (folder / "model.onnx").read_bytes() == report.path.read_bytes()
    assert example.command.startswith("python -m http.server")
    assert str(folder) in example.command
    for given in (ort_web, ort_web / "dist", ort_web.parent):
        shutil.rmtree(folder)
        write_example(report, "web", given)
        assert names(folder) == ["index.html", "model.onnx", *(f"ort/{name}" for name in RUNTIME)]
        assert (folder / "ort" / RUNTIME[0]).read_text() == RUNTIME[0]
    write_example(report, "web")  # what is there stays
    assert len(names(folder)) == 5
    shutil.rmtree(folder)


def test_the_page_loads_nothing_outside_its_folder(exported):
    example = write_example(exported("multiclass"), "web")
    text = example.path.read_text(encoding="utf-8")
    shutil.rmtree(example.path.parent)
    page = Page(text)
    policy = next(tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; connect-src 'self'; ")
    assert "http" not in policy
    for _, attributes in page.tags:
        assert not {"src", "href", "action"} & set(attributes)
    # the one address is that of the server
    assert set(re.findall(r"https?://[^\s<\"]*", text)) == {"http://127.0.0.1:8000"}
    # the name of a class does not end the description
    described = re.search(r'<script type="application/json" id="seg">(.*?)</script>', text)[1]
    assert json.loads(described) == exported("multiclass").description.to_dict()
    assert "sky < roof" not in described
    for name in RUNTIME:
        assert f"cp package/dist/{name} ort/" in page.text("code")
    assert "python -m http.server" in page.text("code")


def test_a_file_of_one_size_has_no_choice_of_sizes(exported):
    for name, hidden in (("static", True), ("multiclass", False)):
        example = write_example(exported(name), "web")
        page = Page(example.path.read_text(encoding="utf-8"))
        shutil.rmtree(example.path.parent)
        assert [("hidden" in tag) for tag in page.all("label") if tag.get("class") == "size"] == [hidden]


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_both_and_says_how_to_run_them(images, tmp_path, ort_web, capsys):
    model = tmp_path / "my nets" / "street.pt"
    model.parent.mkdir()
    torch.manual_seed(0)
    save_model(get_model("enet", num_classes=3).eval(), model, metadata=STREET, preprocessing=PLAIN)
    examples = ("--with-example", "python", "--with-example", "web", "--with-example", "python")
    assert seg("export", model, *examples, "--ort-web", ort_web) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("example ")]
    script, folder = model.with_name("run_street.py"), model.with_name("street_web")
    assert lines == [
        f"example   {script}; run: python '{script}' IMAGE LABELS.png",
        f"example   {folder / 'index.html'}; run: python -m http.server 8000 --bind 127.0.0.1 --directory '{folder}', "
        "then open http://127.0.0.1:8000",
    ]
    assert names(folder / "ort") == RUNTIME
    done = run(script, images["small"], tmp_path / "labels.png")
    assert done.returncode == 0, done.stderr


def test_a_wrong_folder_is_found_before_the_export(tmp_path, capsys):
    missing = tmp_path / "package"
    target = tmp_path / "m.onnx"
    assert seg("export", "enet", "--out", target, "--with-example", "web", "--ort-web", missing) == 2
    assert f"ort_web (--ort-web) = '{missing}' must be the folder" in capsys.readouterr().err
    assert not target.exists()


# ---- what is refused -------------------------------------------------------------------------------------------------


def test_other_channels_are_refused(tmp_path):
    channels = ImageChannels(("red", "green", "infrared"), range=(0, 255), mean=(0.5,) * 3, std=(0.2,) * 3)
    report = export(Small(3).eval(), tmp_path / "m.onnx", metadata=STREET, channels=channels)
    for kind in ("python", "web"):
        with pytest.raises(InvalidArgumentError, match=r"8-bit colors.*infrared.*seg predict --model"):
            write_example(report, kind)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.onnx", "m.onnx.json"]


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(InvalidArgumentError, match="kind must be one of python, web, got 'java'"):
        check_examples(["java"], None)
    with pytest.raises(InvalidArgumentError, match='kind = "web"'):
        check_examples(["python"], tmp_path)
    with pytest.raises(InvalidArgumentError, match=r"onnxruntime-web.*npm pack"):
        check_examples(["web"], tmp_path)


def test_the_description_is_that_of_the_file(exported):
    import onnxruntime

    report = exported("multilabel")
    kept = onnxruntime.InferenceSession(report.path).get_modelmeta().custom_metadata_map["seg"]
    assert json.loads(kept)["thresholds"] == [0.5, 0.52]
