"""Archives: unpacking, refused members, and downloads from a server on this machine."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
import zipfile

import pytest

from seg_core.errors import CorruptFileError, InvalidArgumentError, WriteError
from seg_datasets import ADE20K, BDD100K, LoveDA
from seg_datasets.doctor.fake import fake
from seg_datasets.reading.archives import Archive, fetch_archives, unpack
from tests.datasets.trees import with_archives

FILES = {"top/images/a.jpg": b"image", "top/masks/a.png": b"mask" * 1000, "b.txt": b""}


def make_zip(path, files=FILES, links=()):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("top")
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in links:
            info = zipfile.ZipInfo(name)
            info.create_system = 3
            info.external_attr = 0o120777 << 16
            archive.writestr(info, target)
    return path


def make_tar(path, files=FILES, links=(), kinds=()):
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in links:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
        for name, kind in kinds:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "b.txt"
            archive.addfile(info)
    return path


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_unpack_writes_every_member_and_nothing_else(tmp_path, name):
    make = make_zip if name.endswith("zip") else make_tar
    unpack(make(tmp_path / name), tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == FILES


def test_unpack_into_a_folder_with_files_replaces_only_those_with_the_same_name(tmp_path):
    for name in ("top/images/a.jpg", "top/images/mine.jpg"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_bytes(b"old")
    unpack(make_zip(tmp_path / "a.zip"), tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == {**FILES, "top/images/mine.jpg": b"old"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.txt", "leaves the folder"),
        ("top/../../evil.txt", "leaves the folder"),
        ("..\\evil.txt", "leaves the folder"),
        ("/tmp/evil.txt", "absolute path"),
        ("\\evil.txt", "absolute path"),
        ("C:/evil.txt", "absolute path"),
    ],
)
@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_unpack_member_outside_is_refused_before_anything_is_written(tmp_path, make, name, words):
    path = make(tmp_path / "a", {"first.txt": b"x", name: b"evil"})
    with pytest.raises(CorruptFileError, match=rf"has the member .*evil.txt', .*{words}; nothing was unpacked"):
        unpack(path, tmp_path / "deep" / "out", progress=False)
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "deep", "out"] or contents(tmp_path).keys() == {"a"}


@pytest.mark.parametrize("make", [make_zip, make_tar])
def test_unpack_link_is_refused(tmp_path, make):
    path = make(tmp_path / "a", links=[("top/link", "/etc/passwd")])
    with pytest.raises(CorruptFileError, match="'top/link', a link or a device"):
        unpack(path, tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == {}


@pytest.mark.parametrize("kind", [tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_unpack_hard_link_or_device_is_refused(tmp_path, kind):
    path = make_tar(tmp_path / "a.tar", kinds=[("odd", kind)])
    with pytest.raises(CorruptFileError, match="'odd', a link or a device"):
        unpack(path, tmp_path / "out", progress=False)


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tgz"])
def test_unpack_damaged_archive_error_names_it_and_leaves_nothing(tmp_path, name):
    path = (make_zip if name.endswith("zip") else make_tar)(tmp_path / name, {"top/a.png": bytes(range(256)) * 400})
    content = bytearray(path.read_bytes())
    content = content[: len(content) // 2] if name != "a.zip" else content
    if name == "a.zip":
        content[60:70] = bytes(10)  # inside the compressed data: the checksum fails
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=rf"{name} cannot be unpacked: .*; delete it and download it again"):
        unpack(path, tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == {}


def test_unpack_disk_full_error_says_how_much_is_needed(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(WriteError, match=r"needs 0.0 GB unpacked, .* has 0.0 GB free; free some space"):
        unpack(make_zip(tmp_path / "a.zip"), tmp_path / "out", progress=False)
    assert contents(tmp_path / "out") == {}


def test_unpack_progress_reaches_100_percent(tmp_path, capsys):
    unpack(make_zip(tmp_path / "a.zip"), tmp_path / "out")
    err = capsys.readouterr().err
    assert f"unpacking {tmp_path / 'a.zip'} into {tmp_path / 'out'}" in err
    assert "100 % of 0.0 MB" in err


# ------------------------------------------------------------------------------------------------------------ downloads


def zipped(folder, path):
    """Zips a fake tree, as its authors would serve it."""
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder))
    return path


@pytest.fixture
def served_loveda(tmp_path, serve, monkeypatch):
    """LoveDA with its archives, md5 included, on a server on this machine."""
    tree = fake("LoveDA", tmp_path / "tree")
    site = tmp_path / "site"
    site.mkdir()
    url = serve(site)
    archives = []
    for split in ("Train", "Val", "Test"):
        (tmp_path / split).mkdir()
        (tree / split).rename(tmp_path / split / split)
        path = zipped(tmp_path / split, site / f"{split}.zip")
        digest = "md5:" + hashlib.md5(path.read_bytes()).hexdigest()
        archives.append(Archive(f"{url}/{split}.zip", digest, splits=(split.lower(),)))
    monkeypatch.setattr(
        LoveDA, "editions", {key: with_archives(edition, archives) for key, edition in LoveDA.editions.items()}
    )
    return site


def test_download_fetches_and_unpacks_only_the_archive_of_the_split(served_loveda, tmp_path):
    root = tmp_path / "data" / "loveda"
    dataset = LoveDA(root, "val", download=True)
    image, mask = dataset[0]
    assert image.shape[-2:] == mask.shape
    assert sorted(p.name for p in root.iterdir() if not p.name.startswith(".")) == [
        "Val",
        "Val.zip",
        "seg-manifest.json",
    ]
    assert json.loads((root / ".seg-unpacked.json").read_text()) == {"Val.zip": (root / "Val.zip").stat().st_size}


def test_download_again_needs_no_server(served_loveda, tmp_path):
    root = tmp_path / "data"
    LoveDA(root, "train", download=True)
    for path in served_loveda.iterdir():
        path.unlink()
    assert len(LoveDA(root, "train", download=True)) > 0


def test_download_unpacked_by_hand_needs_no_server(served_loveda, tmp_path):
    root = fake("LoveDA", tmp_path / "by-hand")
    for path in served_loveda.iterdir():
        path.unlink()
    assert len(LoveDA(root, "val", download=True)) > 0
    assert not (root / ".seg-unpacked.json").exists()


def test_download_wrong_hash_unpacks_nothing(served_loveda, tmp_path):
    path = served_loveda / "Train.zip"
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(CorruptFileError, match="expected the md5 [0-9a-f]{32}, got the md5 .*root= of the unpacked"):
        LoveDA(tmp_path / "data", "train", download=True)
    assert not (tmp_path / "data" / "Train").exists()


def test_download_file_not_on_server_error_says_what_to_do(served_loveda, tmp_path):
    (served_loveda / "Train.zip").unlink()
    with pytest.raises(WriteError, match=r"cannot fetch http.*Train.zip: .*status 404.*download it by hand"):
        LoveDA(tmp_path / "data", "train", download=True)


def test_download_without_public_archives_error_says_how_to_get_them(tmp_path):
    with pytest.raises(
        InvalidArgumentError,
        match=r"BDD100K cannot be downloaded automatically: get .*, and pass the unpacked folder as root",
    ):
        BDD100K(tmp_path, download=True)


def test_download_interrupted_is_resumed(tmp_path):
    body = make_zip(tmp_path / "a.zip", {"top/a.bin": bytes(range(256)) * 2000}).read_bytes()
    ranges = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            requested = self.headers.get("Range")
            ranges.append(requested)
            start = int(requested.removeprefix("bytes=").removesuffix("-")) if requested else 0
            self.send_response(206 if requested else 200)
            self.send_header("ETag", '"one"')
            self.send_header("Content-Length", str(len(body) - start))
            if requested:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            self.wfile.write(body[start:] if requested else body[: len(body) // 2])
            self.close_connection = True

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        archives = (Archive(f"http://127.0.0.1:{server.server_port}/data.zip", into="deep"),)
        with pytest.raises(WriteError, match="Try again: the partial file is kept"):
            fetch_archives(archives, tmp_path / "out", "train", progress=False)
        assert not (tmp_path / "out" / "deep").exists()
        fetch_archives(archives, tmp_path / "out", "train", progress=False)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert ranges == [None, f"bytes={len(body) // 2}-"]
    assert (tmp_path / "out" / "deep" / "top" / "a.bin").read_bytes() == bytes(range(256)) * 2000


def test_archives_have_the_official_urls():
    (train_val, test) = ADE20K.edition.layout.archives
    assert train_val.url == "http://data.csail.mit.edu/places/ADEchallenge/ADEChallengeData2016.zip"
    assert (train_val.splits, test.splits) == (("train", "val"), ("test",))
