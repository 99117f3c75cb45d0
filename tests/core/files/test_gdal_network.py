"""GDAL is led to no URL and to no other file, whatever a file or what is beside it says."""

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("rasterio")

import rasterio

from seg_core import ImageChannels
from seg_core.errors import CorruptFileError, InvalidArgumentError, UserError
from seg_core.files.channel_files import read_channels
from seg_core.files.gdal import open_gdal_file, quiet_gdal
from seg_core.files.images import Once
from seg_core.files.rasters import open_raster
from seg_models.inference.reading import read_file

PIXELS = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
GRAY = ImageChannels(("gray",), range=(0, 255))


@pytest.fixture
def url():
    """A server that counts its requests; the test fails if there was one."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    server.asked = asked
    yield address
    server.shutdown()
    thread.join()
    server.server_close()
    assert asked == []


def vrt(source, *, relative=0, extra="", subclass=""):
    return (
        f'<VRTDataset rasterXSize="16" rasterYSize="16">{extra}<VRTRasterBand dataType="Byte" band="1"{subclass}>'
        f'<SimpleSource><SourceFilename relativeToVRT="{relative}">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def tiff(path, **options):
    with quiet_gdal(), rasterio.open(path, "w", "GTiff", 16, 16, 3, dtype="uint8", **options) as file:
        file.write(PIXELS.transpose(2, 0, 1))
    return path


def read_all(path):
    """Reads a file at every door; returns the errors."""
    errors = []

    def by_parts(**options):
        with open_raster(path, allow_vrt=True, **options) as raster:
            raster.read(0, 0, 8, 8)
            if raster.valid is not None:
                raster.valid(0, 0, 8, 8)

    for read in (
        by_parts,
        lambda: by_parts(channels=GRAY),
        lambda: read_channels(path, GRAY, allow_vrt=True),
        lambda: read_file(path, str(path), 10**6, Once(), allow_vrt=True),
    ):
        try:
            read()
        except UserError as error:
            errors.append(error)
    return errors


@pytest.mark.filterwarnings("ignore")
def test_the_server_counts_what_gdal_asks_for(tmp_path):
    """What the tests below look for is found where nothing prevents it."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    content = (
        b"P6\n#" + vrt(f"/vsicurl/http://127.0.0.1:{server.server_port}/a.tif").encode() + b"\n2 2\n255\n" + b"0" * 12
    )
    (tmp_path / "a.ppm").write_bytes(content)
    try:
        with rasterio.open(tmp_path / "a.ppm") as file:
            assert file.driver == "VRT"
            with pytest.raises(rasterio.errors.RasterioIOError):
                file.read()
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert asked


def test_a_file_that_gdal_takes_for_a_vrt_is_what_its_first_bytes_say(url, tmp_path):
    path = tmp_path / "a.ppm"
    path.write_bytes(b"P6\n#" + vrt(f"/vsicurl/{url}/a.tif").encode() + b"\n2 2\n255\n" + bytes(range(12)))
    with open_raster(path) as raster:
        np.testing.assert_array_equal(raster.read(0, 0, 2, 2).ravel(), range(12))
    assert len(read_all(path)) == 2  # of gray: it has three channels


@pytest.mark.parametrize("name", ["a.xml", "a.tif", "a.vrt", "a.png", "a.wms", "a.mrf"])
@pytest.mark.parametrize("kind", ["vrt", "wms", "wmts", "mrf"])
def test_descriptions_of_services_are_refused_under_any_name(kind, name, url, tmp_path):
    text = {
        "vrt": vrt(f"/vsicurl/{url}/a.tif"),
        "wms": f'<GDAL_WMS><Service name="WMS"><ServerUrl>{url}/?</ServerUrl><Layers>a</Layers></Service></GDAL_WMS>',
        "wmts": f"<GDAL_WMTS><GetCapabilitiesUrl>{url}/c.xml</GetCapabilitiesUrl></GDAL_WMTS>",
        "mrf": f"<MRF_META><CachedSource><Source>/vsicurl/{url}/a</Source></CachedSource><Raster>"
        '<Size x="16" y="16"/></Raster></MRF_META>',
    }[kind]
    (tmp_path / name).write_text(text)
    errors = read_all(tmp_path / name)
    assert len(errors) == 4
    assert all(isinstance(error, CorruptFileError) and name in str(error) for error in errors)


SOURCES = (
    "/vsicurl/{url}/a.tif",
    "{url}/a.tif",
    "GTIFF_DIR:1:/vsicurl/{url}/a.tif",
    "../other/a.tif/../../vsi/a",
    "/etc/passwd",
    "inner.vrt",
    "/vsizip/a.zip/a.tif",
    "a.tif\n",
    "",
)


@pytest.mark.parametrize("relative", [0, 1])
@pytest.mark.parametrize("source", SOURCES)
def test_a_mosaic_leads_to_image_files_of_this_machine_alone(source, relative, url, tmp_path):
    tiff(tmp_path / "a.tif")
    (tmp_path / "inner.vrt").write_text(vrt(f"/vsicurl/{url}/a.tif"))
    (tmp_path / "m.vrt").write_text(vrt(source.format(url=url), relative=relative))
    errors = read_all(tmp_path / "m.vrt")
    assert len(errors) == 4
    assert all(isinstance(error, CorruptFileError) and "m.vrt" in str(error) for error in errors)


@pytest.mark.parametrize(
    "text",
    [
        vrt("a.tif", relative=1, subclass=' subClass="VRTDerivedRasterBand"'),
        vrt("a.tif", relative=1, subclass=' subClass="VRTRawRasterBand"'),
        vrt("a.tif", relative=1, extra="<GDALWarpOptions><SourceDataset>b.tif</SourceDataset></GDALWarpOptions>"),
        vrt("a.tif", relative=1, extra='<Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">b</MDI></Metadata>'),
        '<!DOCTYPE x [<!ENTITY a "b">]>' + vrt("a.tif", relative=1),
        vrt("a.tif", relative=1)[:-5],
        vrt("a.tif", relative=1).replace("<VRTDataset ", '<VRTDataset subClass="VRTWarpedDataset" '),
    ],
    ids=["derived", "raw", "warp", "overviews", "entity", "cut", "warped"],
)
def test_a_mosaic_holds_nothing_but_parts_of_images(text, url, tmp_path):
    tiff(tmp_path / "a.tif")
    (tmp_path / "m.vrt").write_text(text)
    errors = read_all(tmp_path / "m.vrt")
    assert len(errors) == 4
    assert all("is no plain mosaic of image files" in str(error) for error in errors)


def test_a_plain_mosaic_is_read_if_it_is_allowed(url, tmp_path):
    tiff(tmp_path / "a.tif")
    for source, relative in (("a.tif", 1), (tmp_path / "a.tif", 0)):
        (tmp_path / "m.vrt").write_text(vrt(source, relative=relative))
        read = read_channels(tmp_path / "m.vrt", GRAY, allow_vrt=True)[0]
        np.testing.assert_array_equal(read[..., 0], PIXELS[..., 0])
        for refused in (
            lambda: read_channels(tmp_path / "m.vrt", GRAY),
            lambda: open_raster(tmp_path / "m.vrt").__enter__(),
            lambda: open_gdal_file(tmp_path / "m.vrt").__enter__(),
        ):
            with pytest.raises(
                InvalidArgumentError, match=r"m.vrt is a VRT.*--allow-vrt of seg predict, allow_vrt=True"
            ):
                refused()


@pytest.mark.parametrize("suffix", [".msk", ".ovr", ".msk.ovr", ".aux", ".MSK"])
def test_files_beside_an_image_are_images_too(suffix, url, tmp_path):
    path = tiff(tmp_path / "a.tif")
    (tmp_path / f"a.tif{suffix}").write_text(vrt(f"/vsicurl/{url}/a.tif"))
    if suffix == ".msk.ovr":
        Image.fromarray(PIXELS[..., 0]).save(tmp_path / "a.tif.msk", "TIFF")
    errors = read_all(path)
    assert errors
    assert all(f"a.tif{suffix} beside it" in str(error) for error in errors)


def test_metadata_name_no_other_file(url, tmp_path):
    path = tiff(tmp_path / "a.tif")
    item = f'<MDI key="OVERVIEW_FILE">/vsicurl/{url}/a.ovr</MDI>'
    (tmp_path / "a.tif.aux.xml").write_text(f'<PAMDataset><Metadata domain="OVERVIEWS">{item}</Metadata></PAMDataset>')
    assert all("a.tif.aux.xml beside it" in str(error) for error in read_all(path))
    with quiet_gdal(), rasterio.open(tmp_path / "b.tif", "w", "GTiff", 16, 16, 1, dtype="uint8") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=f"/vsicurl/{url}/a.ovr")
    errors = read_all(tmp_path / "b.tif")
    assert errors
    assert all("names another file as its overviews" in str(error) for error in errors)


def test_a_relative_path_is_a_path(url, tmp_path, monkeypatch):
    name = f"GTIFF_DIR:1:/vsicurl/{url}/a.tif"
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).parent.mkdir(parents=True)
    tiff((tmp_path / name).absolute())
    with open_raster(name) as raster:
        np.testing.assert_array_equal(raster.read(0, 0, 16, 16), PIXELS)
