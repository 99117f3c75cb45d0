"""Pairing image and mask files by name."""

from seg_datasets.reading.pairs import describe_folder, files_by_stem


def test_files_by_stem_upper_case_suffix_is_found_and_order_is_by_stem(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt", ".d.png"):
        (tmp_path / name).touch()
    assert list(files_by_stem(tmp_path, (".png", ".jpg"))) == ["a", "b"]


def test_describe_folder_counts_matching_and_other_files(tmp_path):
    for name in ("a.png", "b.gif", "c.gif", "README"):
        (tmp_path / name).touch()
    description = describe_folder(tmp_path, (".png",), "images")
    assert description == f"{tmp_path}: 1 images, 3 other entries (.gif, no suffix)"
