"""The web page that segments images in a browser by an ONNX file beside it."""

import os
from importlib import resources
from pathlib import Path

from seg_core import html
from seg_core.errors import InvalidArgumentError
from seg_core.html import Markup, element
from seg_models.exporting.description import ExportDescription

__all__ = ["SERVE", "find_runtime", "model_page"]

_RUNTIME = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_GET_RUNTIME = "\n".join(
    [
        "npm pack onnxruntime-web",
        "tar -xf onnxruntime-web-*.tgz",
        "mkdir ort",
        *(f"cp package/dist/{name} ort/" for name in _RUNTIME),
    ]
)
SERVE = "python -m http.server 8000 --bind 127.0.0.1"
"""Command that serves the folder where it runs."""

_FILES = resources.files("seg_models") / "exporting" / "example_files"
# what the page loads is in its own folder; the runtime compiles WebAssembly, and computes in a worker
_POLICY = (
    "default-src 'none'; connect-src 'self'; img-src 'self' blob: data:; style-src 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval' blob:; worker-src 'self' blob:; base-uri 'none'; "
    "form-action 'none'"
)
_SHORTER_INPUTS = (2048, 1024, 512)


def find_runtime(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the files of onnxruntime-web that the page needs.

    Args:
        folder: the unpacked npm package, or its folder `dist`.

    Raises:
        InvalidArgumentError: if they are not there.
    """
    for place in (Path(folder), Path(folder) / "dist", Path(folder) / "package" / "dist"):
        files = [place / name for name in _RUNTIME]
        if all(file.is_file() for file in files):
            return files
    raise InvalidArgumentError(
        f"ort_web (--ort-web) = {os.fspath(folder)!r} must be the folder of the unpacked npm package onnxruntime-web, "
        f"with {', '.join(_RUNTIME)} in dist/; get it by: npm pack onnxruntime-web && tar -xf onnxruntime-web-*.tgz, "
        "which unpacks it into the folder package"
    )


def model_page(name: str, description: ExportDescription) -> str:
    """Returns the text of the page.

    Args:
        name: of the exported file.
        description: the description in it.
    """
    metadata = description.info.metadata
    count = metadata.num_classes
    lead = element(
        "p",
        f"{count} class{'es' if count > 1 else ''}, computed in this browser: images are not sent anywhere.",
        class_="faint",
    )
    # "<" could end the element
    facts = Markup(description.to_json().replace("<", "\\u003c"))
    return html.page(
        f"Segmentation by {name}",
        lead,
        element("script", facts, type="application/json", id="seg"),
        element("noscript", element("p", "This page needs JavaScript.")),
        _advice("serve", "Serve this folder", "Browsers load no models from files. Run in this folder:", SERVE),
        _advice(
            "runtime",
            "onnxruntime-web is missing",
            "The page needs three files of it in a folder ort beside it. Run in this folder, with npm from nodejs.org, "
            "then reload; or export again with --ort-web package.",
            _GET_RUNTIME,
        ),
        _choices(description),
        element("p", "Loading the model …", id="status", role="status", class_="script-only"),
        _result(),
        footer="The page loads nothing outside its own folder, which python -m http.server serves.",
        policy=_POLICY,
        style=_part("web.css"),
        script=_part("web.js"),
    )


def _advice(key: str, heading: str, text: str, lines: str) -> Markup:
    return element(
        "section",
        element("h2", heading),
        element("p", text),
        html.copyable(lines),
        *([element("p", "and open http://127.0.0.1:8000")] if key == "serve" else []),
        class_="panel",
        id=f"advice-{key}",
        hidden=True,
    )


def _choices(description: ExportDescription) -> Markup:
    sizes = [element("option", "as seg predict", value="")]
    if description.size is None:
        sizes += [element("option", f"at most {side} pixels a side", value=side) for side in _SHORTER_INPUTS]
    return element(
        "section",
        element(
            "label",
            element("input", type="file", accept="image/*", id="file", disabled=True),
            element("b", "Choose an image"),
            element("span", " or drop one here", class_="faint"),
            class_="drop",
            id="drop",
        ),
        element(
            "label",
            "Network input ",
            element("select", *sizes, id="size"),
            class_="size",
            hidden=description.size is not None,
        ),
        class_="script-only choices",
        id="choices",
    )


def _result() -> Markup:
    slider = element("input", type="range", id="alpha", min=0, max=100, value=60)
    return element(
        "section",
        element(
            "div",
            element("div", element("canvas", id="image"), element("canvas", id="colors"), class_="stack", id="stack"),
            element("label", "Colors", slider, class_="alpha"),
            class_="view",
        ),
        element("div", element("h2", "Classes"), element("ul", id="legend"), class_="panel"),
        class_="result",
        id="result",
        hidden=True,
    )


def _part(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
