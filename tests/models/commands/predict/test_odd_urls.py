"""URLs that are none as images of `seg predict`, and as weights: one sentence before anything is asked or written."""

import pytest

import seg_models
from seg_core.errors import InvalidArgumentError, UserError
from seg_models.commands.predict.jobs import Outputs, find_jobs
from seg_models.inference.downloads import local_file
from seg_models.inference.input_paths import url_stem, url_suffix

ODD = [
    "http://[::1",
    "http://[::1/a.png",
    "http://h:x/a.png",
    "http://h/a\0.png",
    "http://h/\ud800.png",
    "http://h/a%00.png",
    f"https://{'a' * 64}.org/a.png",
    "https:///a.png",
]


@pytest.mark.parametrize("url", ODD)
@pytest.mark.parametrize("suffix", ["", ".mp4"])
def test_odd_url_is_one_sentence(tmp_path, url, suffix):
    with pytest.raises(UserError) as error:
        find_jobs([url + suffix], tmp_path / "out", Outputs(".png", None))
    assert str(error.value).isprintable()
    assert isinstance(url_suffix(url + suffix), str)
    if "%00" not in url:
        with pytest.raises(InvalidArgumentError, match="is not a URL"), local_file(url, "image"):
            pass
    assert not list(tmp_path.iterdir())


def test_url_stem_is_the_name_without_its_suffix():
    assert url_stem("https://example.org/a/b%20c.d.png?size=2#e") == "b c.d"
    assert url_stem("https://example.org/") == ""


@pytest.mark.parametrize("url", ["https://h/a.pth", "file:///a.pth", "data:;base64,AAAA.pth", "http://[::1/a.pth"])
def test_url_as_weights_is_not_fetched(url, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(InvalidArgumentError, match="look like a file, but there is no such file.*; give the path"):
        seg_models.get_model("fcn_resnet50", weights=url, weights_backbone=None)
