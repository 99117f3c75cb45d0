"""The limits in SECURITY.md are those of the code."""

from pathlib import Path

from seg_core import parsing, text
from seg_core.files import download_target, images, requests, storage
from seg_core.model_files import pickle_scale, weighing
from seg_datasets.reading import archive_members

TABLE = (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8")


def row(start: str) -> str:
    """Returns the limits of a kind of file."""
    (found,) = [line for line in TABLE.splitlines() if line.startswith(f"| {start}")]
    return found.split("|")[3]


def test_images():
    limits = row("images and masks")
    assert f"{images.MAX_PIXELS:,} pixels" in limits
    assert f"2^{images.WHOLE_PIXELS.bit_length() - 1} pixels" in limits
    tile = f"2^{storage.MAX_TILE_BYTES.bit_length() - 1} bytes for"
    assert all(tile in row(start) for start in ("images and masks", "large images", "arrays"))


def test_model_files():
    limits = row("model files")
    assert weighing._EXPANSION == 4
    assert f"four times its size and {weighing._SLACK >> 20} MiB" in limits
    assert (
        f"a pickle of {weighing._LARGEST_PICKLE >> 20} MiB and {pickle_scale._MOST_OPERATIONS:,} operations" in limits
    )
    assert f"containers {pickle_scale._DEEPEST} deep" in limits


def test_archives_and_downloads():
    limits = row("archives")
    assert f"{archive_members._MOST_MEMBERS:,} members" in limits
    assert f"10,000 and one for each {archive_members._LEAST_MEMBER} bytes" in limits
    assert archive_members._most_members(0) == 10_000
    assert f"{archive_members._DEEPEST} folders deep" in limits
    assert f"{archive_members._MOST_TIMES} times the archive, or {archive_members._FREE >> 20} MiB" in limits
    limits = row("downloads")
    assert f"{download_target.MAX_FILE >> 30} GiB" in limits
    assert f"{requests.LEAST_SPEED} bytes a second" in limits
    assert f"{requests._MOST_REDIRECTS} redirects" in limits


def test_text():
    assert f"{parsing.MAX_TOML >> 20} MiB, {parsing.MAX_DEPTH} deep" in row("TOML")
    assert f"{parsing.MAX_JSON >> 20} MiB, {parsing.MAX_DEPTH} deep, integers of {parsing._MAX_DIGITS} digits" in row(
        "JSON"
    )
    assert f"{text.MAX_TEXT >> 20} MiB" in row("text")
