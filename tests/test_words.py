"""The words of the project: what `scripts/check_words.py` finds, and that none of it is left."""

import runpy
from pathlib import Path

import pytest

WORDS = runpy.run_path(str(Path(__file__).resolve().parent.parent / "scripts" / "check_words.py"))
BRITISH = ["grey", "colour", "licence", "labelled", "behaviour"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("A picture of two data sets.", ["picture", "data sets"]),
        ("a whole\n    # number, one data-set", ["whole number", "data-set"]),
        ("initialised_anew, NormaliseLabels, isaid", ["initialised", "anew", "normalise"]),
        ("Otherwise raise; noise is precise, pairwise, a promise to exercise", []),
        ("seg: fix this, then resume; hatch run fix; images of a fixed size", []),
        ("it fixes the options, as the schedule asks; the scheduler", ["fixes", "schedule"]),
        ("grey, colour, licence, labelled, behaviour; gray, color, license, labeled", BRITISH),
    ],
)
def test_find_words_in_prose_and_names(text, found):
    assert [finding.found for finding in WORDS["find_words"](text)] == found


def test_find_words_names_line_and_replacement_and_spares_what_is_allowed():
    text = 'one\nfacts["licence"]\ntwo pictures\n'
    first, second = WORDS["find_words"](text, "a.py")
    assert str(first) == "a.py:2: 'licence'; write: license"
    assert str(second) == "a.py:3: 'pictures'; write: image"
    assert WORDS["find_words"](text, "a.py", ("licence",)) == [second]


def test_no_word_is_left_that_the_project_does_not_use():
    said = WORDS["check"]()
    assert not said, "\n".join(said)
