"""The report of a check as a page, of findings written by hand."""

import base64
import io
import os

import numpy as np
import pytest
from PIL import Image

from seg_core import DatasetMetadata
from seg_core.errors import WriteError
from seg_datasets.doctor import page as page_module
from seg_datasets.doctor.fake import fake
from seg_datasets.doctor.kinds import ERROR, KINDS, WARNING
from seg_datasets.doctor.page import MOST_THUMBNAILS, write_page
from seg_datasets.doctor.report import DataFinding, Report
from seg_datasets.doctor.thumbnails import NO_CLASS
from tests.pages import check_self_contained

METADATA = DatasetMetadata("custom", ("road", "car"), ((10, 200, 30), (40, 50, 220)))
IMAGE, MASK = "images/a.png", "masks/a.png"


@pytest.fixture
def root(tmp_path):
    """A folder with one pair; its mask has both classes, ignored pixels, and one pixel of id 7."""
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    Image.fromarray(np.full((40, 60, 3), 120, np.uint8)).save(tmp_path / IMAGE)
    ids = np.zeros((200, 300), np.uint8)
    ids[:100, 150:] = 1
    ids[100:] = 255
    ids[7, 9] = 7
    Image.fromarray(ids).save(tmp_path / MASK)
    return tmp_path


def found(kind, file, number=0, severity="", fix="Do this", config="", files=None, detail=None):
    return DataFinding(
        kind,
        severity or KINDS[kind].severity,
        file,
        detail or f"the mask has fault {number}",
        fix,
        config,
        (file,) if files is None else files,
    )


def report(root, findings, **options):
    summary = {"splits": {"train": 1234, "val": 1}, "classes": ["road", "car"], "files": 2470, "seconds": 1.25}
    options = {"pairs": {IMAGE: MASK}, "metadata": METADATA, "summary": summary, **options}
    return Report("CamVid", root, findings, **options)


def written(made):
    file = made.root / "report.html"
    write_page(made, file)
    text = file.read_text(encoding="utf-8")
    return text, check_self_contained(text)


def thumbnails(page):
    """The alternative text and the pixels of each thumbnail."""
    sources = [(image["alt"], image["src"].partition(",")[2]) for image in page.all("img")]
    return [(alt, np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))) for alt, data in sources]


def sections(page):
    return [section["data-kind"] for section in page.all("section") if "data-kind" in section]


# ---- content ---------------------------------------------------------------------------------------------------------


def test_counts_and_facts_are_those_of_the_report(root):
    findings = [found("rgb-mask", MASK), found("alpha", IMAGE, 1), found("alpha", IMAGE, 2)]
    text, page = written(report(root, findings))
    assert page.text("h1") == "CamVid: 1 error, 2 warnings"
    numbers = [data for tag, data in page.texts if tag == "dd"]
    labels = [data for tag, data in page.texts if tag == "dt"]
    assert dict(zip(labels, numbers, strict=True)) == {
        "error": "1",
        "warnings": "2",
        "pairs of train": "1,234",
        "pair of val": "1",
        "classes": "2",
    }
    assert str(root) in page.text()
    assert "2470 files read in 1.2 s" in page.text("footer")
    assert "Correct the errors before training" in text


def test_each_finding_has_severity_file_detail_fix_and_config_line(root):
    line = 'data.dataset.params.label_map = {1 = "a"}'
    one = found("off-by-one", MASK, config=line, fix="Map the ids", detail="the masks hold 1 to 2")
    _, page = written(report(root, [one]))
    assert page.text("h2") == "off-by-one"
    assert "masks/a.png" in page.text("bdi")
    assert "The masks hold 1 to 2" in page.text("p")
    assert "Map the ids" in page.text("p")
    assert 'params.label_map = {1 = "a"}' in page.text("code")
    assert """-s 'data.dataset.params.label_map={1 = "a"}'""" in page.text("code")
    assert "below [data.dataset]" in page.text("b")
    badges = [a["class"] for tag, a in page.tags if "badge" in a.get("class", "")]
    assert badges == ["badge error"]


def test_the_filter_has_the_kinds_of_the_report_with_their_counts(root):
    findings = [found("rgb-mask", MASK)] + [found("alpha", IMAGE, number) for number in range(3)]
    _, page = written(report(root, findings))
    links = page.all("a")
    assert [link["data-value"] for link in links] == ["", "rgb-mask", "alpha"]
    assert page.text("a").split() == ["All", "rgb-mask", "alpha"]
    assert sections(page) == ["rgb-mask", "alpha"]
    counts = [data for tag, data in page.texts if tag == "span"][:3]
    assert counts == ["4", "1", "3"]


def test_a_clean_dataset_has_a_page_too(root):
    _, page = written(report(root, []))
    assert page.text("h1") == "CamVid: 0 errors, 0 warnings"
    assert "Nothing wrong was found." in page.text()
    assert not page.all("a")
    assert not page.all("img")


def test_a_folder_of_ones_own_is_called_by_its_name(root):
    made = Report("FolderDataset", root, [], {"notes": ["The classes are <guessed>"]})
    _, page = written(made)
    assert page.text("title").startswith(f"{root.name}: 0 errors")
    assert "The classes are <guessed>" in page.text("p")


def test_a_kind_of_errors_and_warnings_says_which_is_which(root):
    findings = [found("orientation", MASK, severity=ERROR, fix="A"), found("orientation", IMAGE, severity=WARNING)]
    _, page = written(report(root, findings))
    assert sections(page) == ["orientation"]
    badges = [a["class"] for _, a in page.tags if "badge" in a.get("class", "")]
    assert badges == ["badge error", "badge error", "badge warning"]


def test_details_that_begin_with_a_file_name_keep_it(root):
    one = found("name-collision", IMAGE, detail="a.png, a.jpg differ only by the suffix", files=(IMAGE, "images/a.jpg"))
    _, page = written(report(root, [one]))
    assert "a.png, a.jpg differ only by the suffix" in page.text("p")
    assert "A.png" not in page.text()
    assert "Also: " in page.text("p")


# ---- many ------------------------------------------------------------------------------------------------------------


def test_many_alike_are_folded_below_one_fix(root):
    text, page = written(report(root, [found("rgb-mask", MASK, detail="the mask is RGB") for _ in range(50)]))
    assert text.count("Do this") == 1
    assert text.count("The mask is RGB") == 1
    assert page.text().count(MASK.rpartition("/")[2]) == 50
    assert "44 more like these" in page.text("summary")


def test_many_fixes_of_one_kind_are_folded(root):
    findings = [found("rgb-mask", MASK, number, fix=f"Fix {number}.") for number in range(20)]
    _, page = written(report(root, findings))
    assert "14 more of this kind" in page.text("summary")
    assert all(f"Fix {number}." in page.text("p") for number in range(20))


def test_every_kind_gets_thumbnails_before_one_gets_all(root):
    findings = [found("rgb-mask", MASK, number) for number in range(400)] + [found("alpha", IMAGE)]
    _, page = written(report(root, findings))
    assert len(page.all("img")) == MOST_THUMBNAILS
    assert "200 thumbnails of the first findings of each kind" in page.text("p")
    after = page.tags[next(i for i, (_, a) in enumerate(page.tags) if a.get("data-kind") == "alpha") :]
    assert sum(tag == "img" for tag, _ in after) == 2


def test_a_page_has_a_limit_and_says_so(root, monkeypatch):
    monkeypatch.setattr(page_module, "MOST_BYTES", 2_150_000)  # of which the texts have 50,000
    findings = [found("rgb-mask", f"masks/{number}.png", number, files=()) for number in range(3000)]
    findings.append(found("alpha", IMAGE))
    text, page = written(report(root, findings))
    assert 40_000 < len(text) < 100_000
    count = page.text().count("The mask has fault")
    assert 100 < count < 1000
    assert f"This page lists {count} of 3,001 findings" in page.text("p")
    assert f"and {3001 - count:,} more that this page does not list" in page.text("p")
    assert sections(page) == ["rgb-mask", "alpha"]
    assert "3,000" in page.text("span")


def test_long_lists_of_files_are_folded_and_cut(root):
    files = tuple(f"images/{number}.png" for number in range(500))
    text, page = written(report(root, [found("mixed-channels", files[0], files=files)]))
    assert "499 other files" in page.text("summary")
    assert " and 469 more" in page.text("p")
    assert len(text) < 60_000


# ---- thumbnails ------------------------------------------------------------------------------------------------------


def test_the_image_is_beside_its_mask_in_the_colors_of_the_classes(root):
    _, page = written(report(root, [found("id-out-of-range", MASK)]))
    (image_alt, image), (mask_alt, mask) = thumbnails(page)
    assert (image_alt, mask_alt) == (f"image {IMAGE}", f"mask {MASK}")
    assert image.shape == (40, 60, 3)
    assert abs(image.astype(int) - 120).max() < 4
    assert mask.shape == (107, 160, 3)
    assert tuple(mask[20, 40]) == METADATA.colors[0]
    assert tuple(mask[20, 120]) == METADATA.colors[1]
    assert len(np.unique(mask[60:].reshape(-1, 3), axis=0)) == 2, "ignored pixels are striped"
    # one pixel of an id that is no class, in a mask that is reduced to half its size
    assert (mask == NO_CLASS).all(-1).sum() >= 9
    assert "road" in page.text("li")


def test_raw_ids_have_the_colors_of_their_classes(root):
    made = report(root, [found("all-ignored", MASK)], targets={0: 1, 1: 0, 7: None, 255: None})
    mask = thumbnails(written(made)[1])[1][1]
    assert tuple(mask[20, 40]) == METADATA.colors[1]
    assert tuple(mask[20, 120]) == METADATA.colors[0]
    assert not (mask == NO_CLASS).all(-1).any()


def test_masks_without_known_classes_are_shown_in_different_colors(root):
    made = report(root, [found("all-ignored", MASK)], metadata=None, summary={"classes": None})
    mask = thumbnails(written(made)[1])[1][1]
    assert len({tuple(mask[20, 40]), tuple(mask[20, 120])}) == 2
    assert not (mask == NO_CLASS).all(-1).any()


@pytest.mark.parametrize(
    ("suffix", "pixels", "colors"),
    [
        (".tif", np.float32([[0, 1], [0.5, np.nan]]), [METADATA.colors[0], METADATA.colors[1], NO_CLASS, NO_CLASS]),
        (".tif", np.int32([[0, 1], [-1, 70000]]), [METADATA.colors[0], METADATA.colors[1], NO_CLASS, NO_CLASS]),
        (".png", np.uint16([[0, 1], [256, 65535]]), [METADATA.colors[0], METADATA.colors[1], NO_CLASS, NO_CLASS]),
        (
            ".png",
            np.uint8([[[9, 8, 7], [1, 2, 3]], [[0, 0, 0], [5, 5, 5]]]),
            [(9, 8, 7), (1, 2, 3), (0,) * 3, (5,) * 3],
        ),
        (".png", np.uint8([[[0] * 3, [1] * 3], [[1] * 3, [0] * 3]]), [METADATA.colors[k] for k in (0, 1, 1, 0)]),
    ],
    ids=["floats", "32-bit", "16-bit", "colors", "equal channels"],
)
def test_wrong_masks_are_shown_as_far_as_they_can_be_decoded(root, monkeypatch, suffix, pixels, colors):
    monkeypatch.setattr("seg_datasets.doctor.thumbnails._FEW", -1)  # a pixel of no class is one pixel
    name = f"masks/b{suffix}"
    Image.fromarray(pixels).save(root / name)
    ((_, mask),) = thumbnails(written(report(root, [found("float-mask", name)]))[1])
    assert [tuple(color) for color in mask.reshape(-1, 3)] == [tuple(color) for color in colors]


def test_images_of_16_bits_are_shown_in_their_own_range(root):
    Image.fromarray(np.uint16([[1000] * 8, [3000] * 8] * 4)).save(root / "images/deep.png")
    one = found("wrong-bit-depth", "images/deep.png")
    ((alt, image),) = thumbnails(written(report(root, [one]))[1])
    assert alt == "image images/deep.png"
    assert image.min() < 20
    assert image.max() > 235


def test_files_that_cannot_be_shown_have_a_plain_place(root, monkeypatch):
    (root / "images/broken.png").write_bytes((root / IMAGE).read_bytes()[:60])
    (root / "images/empty.png").write_bytes(b"")
    findings = [
        found("unreadable-image", "images/broken.png"),
        found("empty-file", "images/empty.png"),
        found("unreadable-mask", "masks/gone.png"),
        found("missing-mask", "images/broken.png"),
        found("missing-image", MASK),
    ]
    _, page = written(report(root, findings, pairs={}))
    places = [a["aria-label"] for tag, a in page.tags if a.get("role") == "img"]
    assert places == [
        "image images/broken.png: cannot be shown",
        "image images/empty.png: cannot be shown",
        "mask masks/gone.png: not there",
        "image images/broken.png: cannot be shown",
        "There is no mask",
        "There is no image",
    ]
    assert [alt for alt, _ in thumbnails(page)] == [f"mask {MASK}"]
    monkeypatch.setattr("seg_datasets.doctor.thumbnails._MOST_PIXELS", 100)
    _, page = written(report(root, [found("alpha", IMAGE)]))
    places = [a["aria-label"] for tag, a in page.tags if a.get("role") == "img"]
    assert places[0] == f"image {IMAGE}: too large for a thumbnail"


def test_findings_about_splits_and_lists_show_their_images_or_none(root):
    files = tuple(f"images/{number}.png" for number in range(6))
    for file in files:
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(root / file)
    findings = [
        found("frames-across-splits", "val", files=files),
        found("class-absent", "masks", files=()),  # also the name of a folder
        found("missing-image", "train.txt"),
    ]
    (root / "train.txt").write_text("a\n")
    _, page = written(report(root, findings))
    assert [alt for alt, _ in thumbnails(page)] == [f"image {file}" for file in files[:4]]
    assert not [a for _, a in page.tags if a.get("role") == "img"]
    assert page.text("figcaption") == "0.png1.png2.png3.png"
    assert "6 files" in page.text("summary")


def test_an_invented_tree_of_a_dataset_is_shown(tmp_path):
    root = fake("CamVid", tmp_path / "camvid")
    image, mask = "CamVid/train/0001TP_006690.png", "CamVid/trainannot/0001TP_006690.png"
    assert (root / image).is_file()
    made = report(root, [found("class-absent", mask)], pairs={image: mask}, metadata=None)
    assert [alt for alt, _ in thumbnails(written(made)[1])] == [f"image {image}", f"mask {mask}"]


# ---- names -----------------------------------------------------------------------------------------------------------

NAMES = [
    "<script>alert(1)<!-- .png",
    "a&b \"double\" 'single' `x`.png",
    "صورة-001.png",
    "photo\u202egnp.exe",
    "line\nbreak\x1b[0m.png",
    "x" * 300 + ".png",
    "folder" * 30 + "/" + "name" * 30 + ".png",
    "caf\udce9\udcff.png",
]


SHOWN = [
    *NAMES[:3],
    r"photo\u202egnp.exe",
    r"line\x0abreak\x1b[0m.png",
    *NAMES[5:7],
    r"caf\xe9\xff.png",
]


@pytest.mark.parametrize(("name", "shown"), [*zip(NAMES, SHOWN, strict=True)], ids=range(len(NAMES)))
def test_any_file_name_is_shown_safely(root, name, shown):
    texts = {"detail": f"the image has no mask ({name})", "fix": f"Add {name}", "config": f"a = '{name}'"}
    text, page = written(report(root, [found("missing-mask", name, **texts)], pairs={name: name}))
    assert len(page.all("script")) == 1
    assert not any(bad in text for bad in ("\u202e", "\x1b", "<!-- ", "alert(1)<"))
    assert page.text("bdi").endswith(shown)
    assert f"({shown})" in page.text("p")
    assert all(bdi["dir"] == "ltr" for bdi in page.all("bdi"))


def test_a_file_whose_name_is_not_utf8_has_a_thumbnail(root):
    name = os.fsdecode(b"images/caf\xe9.png")
    try:
        (root / name).write_bytes((root / IMAGE).read_bytes())
    except OSError:
        pytest.skip("this file system has names of Unicode alone")
    _, page = written(report(root, [found("alpha", name)]))
    assert [alt for alt, _ in thumbnails(page)] == [r"image images/caf\xe9.png"]


def test_a_page_is_written_whole_or_not_at_all(root, monkeypatch):
    target = root / "new" / "report.html"
    write_page(report(root, []), target)
    before = target.read_text(encoding="utf-8")
    monkeypatch.setattr("pathlib.Path.replace", lambda self, other: (_ for _ in ()).throw(OSError(28, "disk is full")))
    with pytest.raises(WriteError, match=r"cannot write .*report\.html: disk is full"):
        write_page(report(root, [found("alpha", IMAGE)]), target)
    assert target.read_text(encoding="utf-8") == before
    assert [file.name for file in target.parent.iterdir()] == ["report.html"]
