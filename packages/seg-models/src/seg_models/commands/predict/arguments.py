"""The command-line arguments of `seg predict`."""

import argparse
from pathlib import Path

from seg_core.command import probabilities
from seg_core.own_code import add_import_option

__all__ = ["FORMATS", "OVERLAY_FORMATS", "add_arguments"]

FORMATS = {"png": ".png", "tiff": ".tif", "geojson": ".geojson"}
"""Values of `--format`, and the suffixes of their files."""

OVERLAY_FORMATS = {"jpg": ".jpg", "png": ".png", "webp": ".webp", "tiff": ".tif", "bmp": ".bmp"}
"""Values of `--overlay-format`, and the suffixes of their files."""


def _format(text: str) -> str:
    """Returns the name of a format, also for its other usual suffix."""
    name = text.lower().removeprefix(".")
    return {"tif": "tiff", "jpeg": "jpg"}.get(name, name)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments, in groups."""
    _add_input(parser.add_argument_group("images"))
    _add_model(parser.add_argument_group("model"))
    _add_output(parser.add_argument_group("output"))
    _add_overlay(parser.add_argument_group("overlays (each of these implies --overlay)"))
    _add_quality(parser.add_argument_group("prediction"))
    _add_speed(parser.add_argument_group("speed"))


def _add_input(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "images",
        nargs="+",
        metavar="IMAGES",
        help="images, videos, folders (with their subfolders), glob patterns ('*.jpg') or URLs; - reads their names "
        "from stdin, one per line",
    )
    group.add_argument(
        "--stack",
        action="store_true",
        help="IMAGES are files, folders or glob patterns that hold the bands of the same images, in this order: files "
        "of the same name are one image (red/ nir/); results are named after the first",
    )
    group.add_argument(
        "--bands",
        action="append",
        metavar="BAND",
        help="which bands of the files the model's channels are, in their order: numbers from 1 or names of bands, "
        "as a list (4,3,2) or repeated (default: those that the model describes, see `seg models show`)",
    )
    group.add_argument(
        "--all-frames",
        action="store_true",
        help="predict every frame or page of GIF and TIFF files, not only the first",
    )
    group.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="maximum width times height of an image that is decoded at once (default: 67108864, or 178000000 with "
        "--tile)",
    )
    group.add_argument(
        "--allow-vrt",
        action="store_true",
        help="read .vrt files, mosaics that lead to other image files of this machine",
    )


def _add_model(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--model", required=True, metavar="FILE|RUN|NAME", help="model file, run folder, or name from `seg models`"
    )
    group.add_argument(
        "--weights",
        metavar="W",
        help="for a model's name: weights member, checkpoint file (FILE#NAME: one "
        "of several networks in it) or run folder (default: DEFAULT)",
    )
    group.add_argument(
        "--variant",
        metavar="V",
        help="for a model's name: its variant, such as torchvision (default: that of the weights); `seg models show "
        "NAME` lists them",
    )
    group.add_argument(
        "--classes",
        metavar="FILE|DATASET",
        help="names and colors of the classes, for weights that do not name them: .toml or .json file, or a dataset, "
        "such as VOC (default: the model's, else ids in generated colors)",
    )
    add_import_option(group)


def _add_output(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--out", type=Path, default=Path("predictions"), metavar="DIR", help="output folder (default: %(default)s)"
    )
    group.add_argument(
        "--format",
        type=_format,
        choices=tuple(FORMATS),
        help="format of the label maps: PNG or tiled TIFF of class ids, or polygons (default: png); a multilabel model "
        "gives a PNG per class, DIR/CLASS/NAME.png, or a TIFF with a band per class",
    )
    group.add_argument("--no-masks", action="store_true", help="write no label maps, only overlays")
    group.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="keep only this class; may be repeated, or list several: road,car. Pixels of other classes get the ignore "
        "value",
    )
    group.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write a summary (outputs, class areas, failures) to FILE as JSON; without FILE, print it instead of the "
        "closing lines",
    )
    group.add_argument(
        "--csv",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the area of each class in pixels to FILE, one row per image or frame; without FILE, print it",
    )
    group.add_argument("--resume", action="store_true", help="skip images whose results exist")


def _add_overlay(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--overlay", action="store_true", help="also write each image overlaid with the colors of its classes"
    )
    group.add_argument("--legend", action="store_true", help="with the names and colors of the classes")
    group.add_argument("--contours", action="store_true", help="with the outlines of the regions")
    group.add_argument(
        "--alpha",
        type=float,
        metavar="F",
        help="weight of the colors, 0 (image alone) to 1 (colors alone; default: 0.5)",
    )
    group.add_argument(
        "--overlay-format",
        type=_format,
        choices=tuple(OVERLAY_FORMATS),
        help="format of the overlays of images (default: jpg); those of videos are .mp4",
    )


def _add_quality(group: "argparse._ArgumentGroup") -> None:
    group.add_argument("--tile", metavar="N|HxW", help="predict in tiles of this size in pixels, e.g. 512 or 512x1024")
    group.add_argument(
        "--overlap",
        type=float,
        default=0.5,
        metavar="F",
        help="fraction of a tile that overlaps the next one (default: %(default)s)",
    )
    group.add_argument(
        "--tta",
        nargs="?",
        const="",
        metavar="LIST",
        help="test-time augmentation; LIST, such as 0.75,1,1.25,hflip, contains scales and any of hflip, vflip, turns "
        "(without LIST: 0.5,0.75,1,1.25,1.5,hflip)",
    )
    group.add_argument(
        "--scale", type=float, metavar="F", help="scale factor of images before the network (default: the model's)"
    )
    group.add_argument(
        "--threshold",
        type=probabilities,
        metavar="P",
        help="ignore pixels with a class probability below this; of a binary or multilabel model the probability that "
        "a class must exceed, or a list with one for each class, 0.5,0.3 (default: those of the model file, or 0.5)",
    )
    group.add_argument(
        "--min-region",
        type=int,
        default=1,
        metavar="N",
        help="replace regions of fewer pixels by the class of their largest neighbor",
    )


def _add_speed(group: "argparse._ArgumentGroup") -> None:
    group.add_argument(
        "--batch-size", type=int, default=1, metavar="N", help="images or tiles per forward pass (default: %(default)s)"
    )
    group.add_argument(
        "--device", default="auto", metavar="D", help="device: cpu, cuda, 0 for cuda:0, ... (default: %(default)s)"
    )
    group.add_argument(
        "--dtype", type=str.lower, choices=("auto", "fp32", "bf16", "fp16"), help="floating-point type to compute in"
    )
    group.add_argument(
        "--optimize",
        action="store_true",
        help="search the fastest way of computing on this machine at the first image: about a minute, remembered per "
        "model and size; labels of at least 99.5 %% of the pixels stay equal",
    )
    group.add_argument(
        "--shard",
        metavar="I/N",
        help="predict the I-th of N equal parts (default: from RANK and WORLD_SIZE, if a launcher sets them); the "
        "files of --json and --csv get the part in their names",
    )
