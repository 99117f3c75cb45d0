"""The report of a check as a page: findings by kind with what to do, lines for a config, and thumbnails."""

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from seg_core import html
from seg_core.errors import counted
from seg_core.files.atomic import write_text
from seg_core.files.suffixes import IMAGE_SUFFIXES
from seg_core.html import Choice, Fact, Markup, element, join
from seg_core.labels.palette import default_palette
from seg_datasets.__about__ import __version__
from seg_datasets.doctor.kinds import ERROR, KINDS
from seg_datasets.doctor.report import CONFIG_TABLE, DataFinding, Report
from seg_datasets.doctor.thumbnails import NO_CLASS, SIDE, Thumbnails

__all__ = ["MOST_BYTES", "MOST_THUMBNAILS", "write_page"]

MOST_THUMBNAILS = 200
"""Thumbnails on a page, at most."""
MOST_BYTES = 5_000_000
"""Size of a page, about; findings beyond are counted only."""

_THUMBNAIL_BYTES = 2_000_000  # of the bytes of a page
_FRAME_BYTES = 100_000  # style, facts and sections
_SHOWN = 6  # findings of a group, and groups of a kind, before the others are folded
_MOST_FILES = 4  # of one finding, that are shown
_MOST_INLINE, _MOST_NAMES = 3, 30  # of one finding, that are named in its text, or folded

# kinds of masks; files of the others are images, unless a pair tells otherwise
_OF_MASKS = frozenset(
    (
        *("missing-image", "unreadable-mask", "size-mismatch", "rgb-mask", "color-mask", "float-mask", "binary-0-255"),
        *("off-by-one", "id-out-of-range", "jpeg-mask", "all-ignored", "expanded-palette", "permuted-palette"),
        *("class-absent", "antialiased-mask"),
    )
)


def write_page(report: Report, path: str | os.PathLike[str]) -> None:
    """Writes a report as one HTML file that needs no other file and no network.

    Findings are listed by kind, with what was found, what to do, and the line of a config that does it. The first
    findings of each kind have thumbnails: each image beside its mask in the colors of its classes, at most 160 pixels a
    side and 200 in all. Files that cannot be decoded are shown as an empty frame. A page has at most about 5 MB; it
    says how many thumbnails and findings are left out.

    Args:
        report: the result of `check`; its files are read again for the thumbnails.
        path: the file to write, such as `report.html`.

    Raises:
        WriteError: if it cannot be written.
    """
    write_text(path, _page(report))


@dataclass
class _Listed:
    """What is written of the findings, by their places in the report."""

    places: set[int]
    tiles: dict[int, Markup]
    thumbnails: int = 0
    has_masks: bool = False

    @property
    def is_partly_shown(self) -> bool:
        return len(self.tiles) < len(self.places)


def _page(report: Report) -> str:
    listed = _listed(report)
    kinds: dict[str, list[int]] = defaultdict(list)
    for place, finding in enumerate(report.findings):
        kinds[finding.kind].append(place)
    errors = sum(finding.severity == ERROR for finding in report.findings)
    # the folder of one's own files says more than the class that reads them
    name = report.root.resolve().name if report.name == "FolderDataset" else report.name
    warnings = len(report.findings) - errors
    numbers = f"{errors:,} error{'' if errors == 1 else 's'}, {warnings:,} warning{'' if warnings == 1 else 's'}"
    title = f"{name or report.name}: {numbers}"
    body = [_facts(report, errors), *_notes(report), *_verdict(report, errors)]
    if report.findings:
        choices = [Choice(kind, kind, len(places), _worst(report, places)) for kind, places in kinds.items()]
        body.append(html.filter_bar("kind", "Kinds of findings", choices))
    if listed.has_masks:
        body.append(_legend(report))
    body += _left_out(report, listed)
    body += [_section(report, kind, places, listed) for kind, places in kinds.items()]
    lead = element("p", html.file_name(str(report.root)), class_="faint")
    files, seconds = report.summary.get("files"), report.summary.get("seconds")
    read = "" if files is None or seconds is None else f"{counted(files, 'file')} read in {seconds:.1f} s. "
    return html.page(title, lead, *body, footer=f"{read}Written by seg-datasets {__version__}.")


def _worst(report: Report, places: Sequence[int]) -> str:
    return min((report.findings[place].severity for place in places), key=lambda severity: severity != ERROR)


# ---- facts -----------------------------------------------------------------------------------------------------------


def _facts(report: Report, errors: int) -> Markup:
    warnings = len(report.findings) - errors
    facts = [
        Fact(f"{errors:,}", "errors" if errors != 1 else "error", "error" if errors else "good"),
        Fact(f"{warnings:,}", "warnings" if warnings != 1 else "warning", "warning" if warnings else "good"),
    ]
    splits = report.summary.get("splits") or {}
    facts += [
        Fact(f"{count:,}", f"pairs of {split}" if count != 1 else f"pair of {split}") for split, count in splits.items()
    ]
    classes = report.summary.get("classes")
    if classes is not None:
        facts.append(Fact(f"{len(classes):,}", "classes" if len(classes) != 1 else "class"))
    return html.cards(facts)


def _notes(report: Report) -> Iterator[Markup]:
    for note in report.summary.get("notes") or ():
        yield element("p", note, class_="faint")


def _verdict(report: Report, errors: int) -> Iterator[Markup]:
    if not report.findings:
        yield element("p", element("b", "Nothing wrong was found.", class_="good"), class_="panel")
    elif errors:
        yield element(
            "p",
            "Correct the errors before training: with them a network learns something else than you mean, or the data "
            "cannot be read. Warnings may be meant so.",
        )
    else:
        yield element("p", "There are no errors. Look at the warnings: what they tell may be meant so.")


def _legend(report: Report) -> Markup:
    metadata = report.metadata
    marks = [
        element("li", element("i", class_="stripes"), "ignored"),
        html.swatch(NO_CLASS, "no class"),
    ]
    if metadata is None:
        names = report.summary.get("classes") or ()
        colors: Sequence[Sequence[int]] = default_palette(len(names))
    else:
        names, colors = metadata.labels, metadata.colors
    swatches = [html.swatch(color, name) for color, name in zip(colors, names, strict=True)]
    return html.folded(
        f"Colors of the masks: {counted(len(swatches), 'class', 'classes')}",
        element("ul", *marks, *swatches, class_="swatches"),
    )


def _left_out(report: Report, listed: _Listed) -> Iterator[Markup]:
    unlisted = len(report.findings) - len(listed.places)
    if unlisted:
        yield element(
            "p",
            f"This page lists {len(listed.places):,} of {len(report.findings):,} findings, to stay at about "
            f"{MOST_BYTES // 1_000_000} MB; all are in the JSON that ",
            element("code", "seg datasets check"),
            " writes with ",
            element("code", "--json FILE"),
            ".",
            class_="faint",
        )
    if listed.is_partly_shown:
        yield element(
            "p",
            f"{counted(listed.thumbnails, 'thumbnail')} of the first findings of each kind are shown; the others are "
            "listed without.",
            class_="faint",
        )


# ---- findings --------------------------------------------------------------------------------------------------------


def _in_turn(report: Report) -> list[int]:
    """Returns the places of the findings: the first of each kind, the second of each, ...; so no kind is left out."""
    turns: dict[str, int] = defaultdict(int)
    order = []
    for place, finding in enumerate(report.findings):
        order.append((turns[finding.kind], place))
        turns[finding.kind] += 1
    return [place for _, place in sorted(order)]


def _listed(report: Report) -> _Listed:
    """Writes the findings as far as a page holds them."""
    listed = _Listed(set(), {})
    thumbnails = Thumbnails(report)
    masks = {mask: image for image, mask in report.pairs.items()}
    text_bytes = tile_bytes = 0
    groups: set[tuple[str, str, str]] = set()
    for place in _in_turn(report):
        finding = report.findings[place]
        group = (finding.kind, finding.fix, finding.config)
        # the advice of a group is there once
        text_bytes += _size(_item(finding, None, True)) + (0 if group in groups else _size(_advice(finding)))
        groups.add(group)
        if text_bytes > MOST_BYTES - _THUMBNAIL_BYTES - _FRAME_BYTES:
            break
        listed.places.add(place)
        files = _files(report, finding, masks)
        if not files or listed.thumbnails + len(files) > MOST_THUMBNAILS or tile_bytes > _THUMBNAIL_BYTES:
            continue
        tiles = join(_tile(report, thumbnails, file, is_mask, len(finding.files) > 1) for file, is_mask in files)
        tile_bytes += _size(tiles)
        listed.tiles[place] = tiles
        listed.thumbnails += len(files)
        listed.has_masks |= any(is_mask for _, is_mask in files)
    return listed


def _size(text: str) -> int:
    return len(text.encode())


def _files(report: Report, finding: DataFinding, masks: dict[str, str]) -> list[tuple[str, bool]]:
    """Returns the files of a finding that are shown, "" for a missing partner, and whether each is a mask."""
    # a finding may be about a split, or a list of names
    files = [
        file
        for file in finding.files or (finding.file,)
        if file in masks or file in report.pairs or file.lower().endswith(IMAGE_SUFFIXES)
    ]
    if len(files) != 1:
        return [(file, _is_mask(report, finding, file, masks)) for file in files[:_MOST_FILES]]
    file = files[0]
    if file in masks:
        return [(masks[file], False), (file, True)]
    if file in report.pairs:
        return [(file, False), (report.pairs[file], True)]
    is_mask = _is_mask(report, finding, file, masks)
    shown = [(file, is_mask)]
    if finding.kind in ("missing-mask", "missing-image"):
        shown.insert(0 if is_mask else 1, ("", not is_mask))
    return shown


def _is_mask(report: Report, finding: DataFinding, file: str, masks: dict[str, str]) -> bool:
    return file in masks or (file not in report.pairs and finding.kind in _OF_MASKS)


def _tile(report: Report, thumbnails: Thumbnails, file: str, is_mask: bool, is_named: bool) -> Markup:
    noun = "mask" if is_mask else "image"
    caption = file.rpartition("/")[2] if is_named else noun
    if not file:
        return html.empty_tile(f"no {noun}", f"There is no {noun}", noun)
    drawn = (thumbnails.mask if is_mask else thumbnails.image)(report.root / file)
    alt = f"{noun} {file}"
    if isinstance(drawn, str):
        return html.empty_tile(drawn, f"{alt}: {drawn}", caption)
    return html.tile(drawn, alt, caption, is_exact=is_mask, side=SIDE)


def _section(report: Report, kind: str, places: Sequence[int], listed: _Listed) -> Markup:
    """Writes the findings of one kind."""
    severities = {report.findings[place].severity for place in places}
    worst = _worst(report, places)
    groups: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for place in places:
        finding = report.findings[place]
        if place in listed.places:
            groups[finding.severity, finding.fix, finding.config].append(place)
    written = [_group(report, group, listed, len(severities) > 1) for group in groups.values()]
    parts = [*written[:_SHOWN]]
    if len(written) > _SHOWN:
        count = sum(len(group) for group in list(groups.values())[_SHOWN:])
        parts.append(html.folded(f"{count:,} more of this kind", *written[_SHOWN:]))
    unlisted = len(places) - sum(map(len, groups.values()))
    if unlisted:
        parts.append(element("p", f"and {unlisted:,} more that this page does not list", class_="faint"))
    head = element(
        "div",
        html.badge(worst, worst),
        element("h2", kind),
        element("span", f"{len(places):,}", class_="faint"),
        class_="panel-head",
    )
    return element(
        "section",
        head,
        element("p", _sentence(KINDS[kind].meaning), class_="faint"),
        *parts,
        class_="panel",
        id=f"kind-{kind}",
        data_kind=kind,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _group(report: Report, places: Sequence[int], listed: _Listed, is_mixed: bool) -> Markup:
    """Writes the findings of one kind about which the same is to be done."""
    findings = [report.findings[place] for place in places]
    first = findings[0]
    parts = [element("p", html.badge(first.severity, first.severity))] if is_mixed else []
    parts.append(_advice(first))
    # many files often have the very same fault
    is_same = len(findings) > 1 and len({finding.detail for finding in findings}) == 1
    if is_same:
        parts.append(_detail(first))
    items = [
        _item(finding, listed.tiles.get(place), not is_same) for place, finding in zip(places, findings, strict=True)
    ]
    parts.append(element("ul", *items[:_SHOWN], class_="items"))
    if len(items) > _SHOWN:
        rest = element("ul", *items[_SHOWN:], class_="items")
        parts.append(html.folded(f"{len(items) - _SHOWN:,} more like these", rest))
    return element("div", *parts, class_="group")


def _item(finding: DataFinding, tiles: Markup | None, has_detail: bool) -> Markup:
    text = element("div", _text(finding, has_detail), class_="text")
    return element("li", text, *([] if tiles is None else [element("div", tiles, class_="tiles")]))


def _advice(finding: DataFinding) -> Markup:
    parts = [element("p", element("b", "What to do: "), finding.fix)]
    if finding.config:
        where = f"Or in the config, below [{CONFIG_TABLE}]: "
        parts.append(element("p", element("b", where), html.copyable(finding.config_line)))
        parts.append(element("p", element("b", "Or for seg train: "), html.copyable(finding.train_option)))
    return element("div", *parts, class_="advice")


def _text(finding: DataFinding, has_detail: bool) -> Markup:
    """Writes the file of a finding, and what was found."""
    parts = [element("h3", html.file_name(finding.file))]
    if has_detail:
        parts.append(_detail(finding))
    others = [file for file in finding.files if file != finding.file]
    names = [part for file in others[:_MOST_NAMES] for part in (", ", html.file_name(file))][1:]
    if len(others) > _MOST_NAMES:
        names.append(f" and {len(others) - _MOST_NAMES:,} more")
    is_split = finding.file not in finding.files
    if len(others) > _MOST_INLINE:
        summary = f"{len(others):,} {'files' if is_split else 'other files'}"
        parts.append(html.folded(summary, element("p", *names, class_="faint")))
    elif others:
        parts.append(element("p", "Files: " if is_split else "Also: ", *names, class_="faint"))
    return join(parts)


def _detail(finding: DataFinding) -> Markup:
    # a file name at its start is kept as it is
    return element("p", re.sub("^the (?=(image|mask|file)s? )", "The ", finding.detail))
