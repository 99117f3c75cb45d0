"""Code of a user's own: its import, names "module:attribute" in registries, and what a model file may not do."""

import os
import sys

import pytest
import torch
from torch import nn

import seg_core
from seg_core import BuildSpec, DatasetMetadata, Preprocessing, load_model, own_code, save_model
from seg_core.errors import InvalidArgumentError, UnknownNameError, UsageError
from seg_core.own_code import import_code, import_modules, import_target, is_target
from seg_core.registry import BACKBONES, LOADERS, MODELS, Registry

CODE = """
import os
from os import getcwd
from torch import nn

class Net(nn.Module):
    def __init__(self, num_classes, width=2):
        super().__init__()
        self.head = nn.Conv2d(3, num_classes, 1)

    def forward(self, images):
        return {"out": self.head(images)}

def build(*, weights=None, num_classes=2, aux_loss=None, weights_backbone=None, variant=None, width=2):
    return Net(num_classes, width)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the module `code_of_mine`."""
    (tmp_path / "code_of_mine.py").write_text(CODE)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a:b", True),
        ("a.b_1.c:D", True),
        ("ä:ö", True),
        ("a", False),
        ("a:b.c", False),
        (".a:b", False),
        ("a:", False),
        ("1a:b", False),
        ("a:b:c", False),
        ("a b:c", False),
        ("a:b\n", False),
        (None, False),
    ],
)
def test_only_an_import_path_of_one_attribute_is_a_target(name, expected):
    assert is_target(name) is expected


def test_registry_resolves_names_of_imported_modules(folder):
    import_code("code_of_mine", [folder])
    registry = Registry("model")
    assert "code_of_mine:build" in registry
    assert registry.get("code_of_mine:build") is sys.modules["code_of_mine"].build
    assert registry.entry("code_of_mine:Net").target == "code_of_mine:Net"
    assert registry.origin("code_of_mine:Net") == "code_of_mine"
    assert registry.names() == [], "a name that was used is not one of the catalog"


def test_registry_never_imports_a_module_itself(folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    assert "code_of_mine:build" not in MODELS
    for ask in (MODELS.get, MODELS.entry, MODELS.origin):
        with pytest.raises(UnknownNameError, match=r"--import code_of_mine .*seg_core.import_code\('code_of_mine'\)"):
            ask("code_of_mine:build")
    assert "code_of_mine" not in sys.modules


@pytest.mark.parametrize(
    "name", ["os:system", "subprocess:run", "builtins:exec", "torch:load", "seg_core.own_code:sys"]
)
def test_functions_of_modules_that_the_process_has_anyway_are_no_names(name):
    for registry in (MODELS, BACKBONES, LOADERS):
        assert name not in registry
        with pytest.raises(UnknownNameError, match="never imported only because a file names it"):
            registry.get(name)


def test_what_an_own_module_has_imported_from_elsewhere_is_no_name(folder):
    import_code("code_of_mine", [folder])
    for name in ("getcwd",):
        assert f"code_of_mine:{name}" not in MODELS
        with pytest.raises(InvalidArgumentError, match="is not defined in the package 'code_of_mine'"):
            MODELS.get(f"code_of_mine:{name}")


def test_a_target_that_is_named_alone_lets_no_other_be_named(folder):
    assert import_target("code_of_mine:build", [folder]) is MODELS.get("code_of_mine:build")
    assert "code_of_mine:Net" not in MODELS
    with pytest.raises(UnknownNameError):
        MODELS.get("code_of_mine:Net")
    import_code("code_of_mine")
    import_target("code_of_mine:build")
    assert "code_of_mine:Net" in MODELS


def test_what_cannot_be_called_is_no_name(folder):
    import_code("code_of_mine", [folder])
    for name in ("os", "nn", "__file__"):
        assert f"code_of_mine:{name}" not in MODELS
        with pytest.raises(InvalidArgumentError, match=r"code_of_mine.py\) is a .*must be a class or a function"):
            import_target(f"code_of_mine:{name}")


def test_missing_attribute_names_the_file_and_the_nearest(folder):
    import_code("code_of_mine", [folder])
    with pytest.raises(InvalidArgumentError, match=r"code_of_mine.py\) has no 'biuld'. Did you mean 'build'"):
        MODELS.get("code_of_mine:biuld")
    with pytest.raises(InvalidArgumentError, match=r"code_of_mine.py\) has no 'xyzzy'$"):
        import_target("code_of_mine:xyzzy")
    own_code._modules.clear()
    with pytest.raises(InvalidArgumentError):
        import_target("code_of_mine:xyzzy", [folder])
    assert "code_of_mine:build" not in MODELS, "a name that is wrong allows nothing"
    with pytest.raises(InvalidArgumentError, match="'fractions' must read 'package.module:attribute'"):
        import_target("fractions")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ny = 1 / 0\n", r"ZeroDivisionError: division by zero \(.*broken_code.py, line 2\)"),
        ("def f(:\n", r"SyntaxError: .*\(.*broken_code.py, line 1\)"),
        (
            "import not_there_at_all\n",
            r"ModuleNotFoundError: No module named 'not_there_at_all' \(.*broken_code.py, li",
        ),
        ("\nimport sys\nsys.exit()\n", r"SystemExit \(.*broken_code.py, line 3\)"),
        ("from os import nothing_of_it\n", r"ImportError: cannot import name .*\(.*broken_code.py, line 1\)"),
        ("import helper_of_broken\n", r"ValueError: deep \(.*helper_of_broken.py, line 2\)"),
    ],
)
def test_failed_import_has_reason_file_and_line(tmp_path, text, words):
    (tmp_path / "broken_code.py").write_text(text)
    (tmp_path / "helper_of_broken.py").write_text("\nraise ValueError('deep')\n")
    with pytest.raises(InvalidArgumentError, match=f"(?s)module 'broken_code' cannot be imported: {words}"):
        import_code("broken_code", [tmp_path])
    assert "broken_code:x" not in MODELS


def test_missing_module_says_where_it_was_searched(tmp_path):
    with pytest.raises(InvalidArgumentError, match=f"there is no module 'no_such_code' in {tmp_path} or among"):
        import_code("no_such_code.inner", [tmp_path])
    for name in ("my-code", "a/b.py", "", "a:b"):
        with pytest.raises(InvalidArgumentError, match="no name of a module|give the module alone"):
            import_code(name, [tmp_path])


def test_module_that_was_imported_from_elsewhere_is_no_silent_substitute(folder, tmp_path):
    import_code("code_of_mine", [folder])
    other = tmp_path / "other"
    other.mkdir()
    (other / "code_of_mine.py").write_text("")
    with pytest.raises(InvalidArgumentError, match=f"imported before {other}.*rename one of them, or start a new proc"):
        import_code("code_of_mine", [other])
    import_code("code_of_mine", [folder, other])  # the first folder counts


def test_folders_come_first_in_their_order_and_once(folder, tmp_path):
    before = list(sys.path)
    second = tmp_path / "second"
    second.mkdir()
    own_code.add_folders([folder, second, tmp_path / "missing", folder])
    own_code.add_folders([second, folder])
    assert sys.path == [os.path.realpath(folder), os.path.realpath(second), *before]


def test_package_and_its_modules_are_found(tmp_path):
    package = tmp_path / "package_of_mine"
    package.mkdir()
    (package / "__init__.py").write_text("from package_of_mine.nets import build\n")
    (package / "nets.py").write_text(CODE)
    import_code("package_of_mine", [tmp_path])
    assert "package_of_mine:build" in MODELS, "its own module defines it"
    assert "package_of_mine.nets:build" not in MODELS, "each module is named"
    import_code("package_of_mine.nets", [tmp_path])
    assert "package_of_mine.nets:build" in MODELS


def test_option_of_commands_finds_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    import_modules(["code_of_mine"])
    assert "code_of_mine:build" in MODELS
    with pytest.raises(
        UsageError, match="--import no_such_code: module 'no_such_code' cannot be imported: there is no"
    ):
        import_modules(["no_such_code"])


# ---- model files -----------------------------------------------------------------------------------------------------


def write_file(folder, path, builder="code_of_mine:build", **arguments):
    """Writes a model file of the own builder, then forgets the module."""
    module = import_code("code_of_mine", [folder])
    network = module.build(num_classes=2)
    network.build_spec = BuildSpec("code_of_mine:build", "", {"num_classes": 2})
    save_model(network, path, metadata=DatasetMetadata("Two", ("a", "b")), preprocessing=Preprocessing())
    if builder != "code_of_mine:build" or arguments:
        content = torch.load(path, weights_only=True)
        content |= {"builder": builder, "arguments": {"num_classes": 2, **arguments}}
        torch.save(content, path)
    own_code._modules.clear()
    sys.modules.pop("code_of_mine")


def test_model_file_of_own_code_loads_once_the_user_has_imported_it(folder, tmp_path):
    file = tmp_path / "model.pt"
    write_file(folder, file)
    with pytest.raises(UnknownNameError, match=r"model 'code_of_mine:build'.*If you trust.*--import code_of_mine"):
        load_model(file)
    assert "code_of_mine" not in sys.modules
    seg_core.import_code("code_of_mine", [folder])
    assert isinstance(load_model(file), sys.modules["code_of_mine"].Net)


@pytest.mark.parametrize("trusted", [False, True])
def test_model_file_cannot_run_what_it_names(folder, tmp_path, trusted):
    file, trace = tmp_path / "model.pt", tmp_path / "trace"
    write_file(folder, file, "os:system", command=f"touch {trace}")
    if trusted:
        import_code("code_of_mine", [folder])
    with pytest.raises(UnknownNameError, match="'os:system' is code of the module 'os'"):
        load_model(file, verify=False)
    assert not trace.exists()


def test_unknown_builder_of_a_file_hints_at_code_that_registers_it(folder, tmp_path):
    file = tmp_path / "model.pt"
    write_file(folder, file, "net_of_mine")
    with pytest.raises(
        UnknownNameError, match=r"unknown model 'net_of_mine'.*If your own code registers .*--import MOD"
    ):
        load_model(file, verify=False)
    MODELS.register("net_of_mine", import_code("code_of_mine", [folder]).build)
    assert isinstance(load_model(file, verify=False), nn.Module)


# ---- what a model file could not name --------------------------------------------------------------------------------


@pytest.fixture
def second(folder):
    """The module `hall_of_mine` that has names of `code_of_mine`."""
    text = "import functools\nfrom code_of_mine import build\nsmall = functools.partial(build, width=1)\n"
    (folder / "hall_of_mine.py").write_text(f"{text}lone = lambda **options: build(num_classes=2)\n")
    yield folder
    sys.modules.pop("hall_of_mine", None)


def test_name_that_another_module_defines_needs_the_import_of_both(second, tmp_path):
    write_file(second, tmp_path / "model.pt", "hall_of_mine:build")
    import_code("hall_of_mine", [second])
    with pytest.raises(UnknownNameError, match=r"^model 'hall_of_mine:build' is not defined .*--import code_of_mine"):
        load_model(tmp_path / "model.pt", verify=False)
    import_code("code_of_mine", [second])
    assert isinstance(load_model(tmp_path / "model.pt", verify=False), nn.Module)


def test_names_are_checked_by_the_rule_of_loading(second):
    module = import_code("hall_of_mine", [second])
    own_code.check_defined_here("hall_of_mine:lone", module.lone)
    assert "hall_of_mine:lone" in MODELS
    with pytest.raises(InvalidArgumentError, match="name it there: 'code_of_mine:build'"):
        own_code.check_defined_here("hall_of_mine:build", module.build)
    told = "is a functools.partial.*write a function in hall_of_mine"
    with pytest.raises(InvalidArgumentError, match=told):
        own_code.check_defined_here("hall_of_mine:small", module.small)
    with pytest.raises(InvalidArgumentError, match=told):
        MODELS.get("hall_of_mine:small")


def test_attribute_that_the_module_lacks_is_no_fault_of_the_file(folder, tmp_path):
    write_file(folder, tmp_path / "model.pt", "code_of_mine:other")
    import_code("code_of_mine", [folder])
    with pytest.raises(InvalidArgumentError, match=r"has no 'other'") as caught:
        load_model(tmp_path / "model.pt", verify=False)
    assert "installed packages" not in str(caught.value)


def test_unknown_builder_of_a_file_tells_the_import_before_the_known_names(folder, tmp_path):
    write_file(folder, tmp_path / "model.pt", "net_of_nobody")
    with pytest.raises(UnknownNameError) as caught:
        load_model(tmp_path / "model.pt", verify=False)
    assert str(caught.value).index("--import MODULE") < str(caught.value).index("Known: ")


@pytest.mark.parametrize(
    ("name", "better"),
    [
        ("my_code2.build", "write 'my_code2:build'"),
        ("my_code2::build", "write 'my_code2:build'"),
        ("./my_code2:build", "write 'my_code2:build'"),
        ("my_code2 : build", "write 'my_code2:build'"),
        ("nets/my_code2.py:build", "write 'nets.my_code2:build'"),
        ("my_code2:", "after the colon, as in 'my_code2:build'"),
        ("my_code2.py", "after the colon, as in 'my_code2:build'"),
        ("reg:Outer.Inner", "write Inner = Outer.Inner at the end of that module, and name 'reg:Inner'"),
    ],
)
def test_misspelled_import_path_is_told_without_the_known_names(name, better):
    with pytest.raises(UnknownNameError) as caught:
        MODELS.get(name)
    assert better in str(caught.value)
    assert "Known" not in str(caught.value)


def test_name_of_a_catalog_behind_that_of_a_module_is_told():
    registry = Registry("optimizer")
    registry.register("AdamW", "torch.optim:AdamW")
    for name in ("torch.optim.AdamW", "optim::AdamW"):
        with pytest.raises(UnknownNameError, match="Did you mean 'AdamW'.$"):
            registry.get(name)


@pytest.mark.parametrize("name", ["fcn_resnet5", "timm:resnet.a1", "deeplab v3", "", "voc.2012", "a/b", None])
def test_other_unknown_names_get_no_advice_on_import_paths(name):
    assert own_code.spelling_hint(name) == ""


@pytest.mark.parametrize("name", ["code_of_mine.py", "./code_of_mine.py", "./code_of_mine"])
def test_path_of_a_module_is_told_as_its_name(folder, name):
    with pytest.raises(InvalidArgumentError, match="as in import, as code_of_mine"):
        import_code(name, [folder])
