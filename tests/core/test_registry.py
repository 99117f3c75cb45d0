import warnings
from importlib.metadata import EntryPoint

import pytest

from seg_core import registry as registry_module
from seg_core.catalog import Entry
from seg_core.errors import InvalidArgumentError, UnknownNameError
from seg_core.registry import Registry, resolve_target

TABLE = {"enet": "collections:OrderedDict", "fcn_resnet50": Entry("fractions:Fraction", summary="a fraction")}


def make_registry(**tables):
    registry = Registry("model")
    for package, table in tables.items():
        registry.add_table(package, table)
    return registry


def test_get_known_name_imports_target():
    from fractions import Fraction

    assert make_registry(a=TABLE).get("fcn_resnet50") is Fraction


def test_entry_known_name_does_not_import():
    registry = make_registry(a={"broken": "no_such_module_anywhere:thing"})
    assert registry.entry("broken").target == "no_such_module_anywhere:thing"
    with pytest.raises(ModuleNotFoundError):
        registry.get("broken")


def test_get_unknown_name_suggests_nearest_and_lists():
    with pytest.raises(UnknownNameError, match=r"model 'Enett'. Did you mean 'enet'\? Known: enet, fcn_resnet50"):
        make_registry(a=TABLE).get("Enett")


def test_get_unknown_name_in_empty_registry_hints_at_installation():
    with pytest.raises(UnknownNameError, match="is the package that has them installed"):
        make_registry().get("enet")


def test_names_are_sorted_and_counted():
    registry = make_registry(a=TABLE, b={"bisenet": "m:a"})
    assert registry.names() == list(registry) == ["bisenet", "enet", "fcn_resnet50"]
    assert len(registry) == 3
    assert "enet" in registry
    assert "pidnet" not in registry


def test_get_name_of_two_packages_is_an_error_naming_both():
    registry = make_registry(first=TABLE, second={"enet": "m:a", "other": "fractions:Fraction"})
    assert registry.names() == ["enet", "fcn_resnet50", "other"]
    assert registry.get("other")
    with pytest.raises(InvalidArgumentError, match="'enet' is defined by both first and second"):
        registry.get("enet")


def test_add_table_of_the_same_package_twice_changes_nothing():
    registry = make_registry(a=TABLE)
    registry.add_table("a", TABLE)
    assert registry.get("enet")


def test_register_object_and_decorator_are_found():
    registry = make_registry(a=TABLE)
    registry.register("mine", dict)

    @registry.register("ours")
    def ours():
        return 1

    registry.register("by_target", "fractions:Fraction")
    assert registry.get("mine") is dict
    assert registry.get("ours") is ours
    assert registry.get("by_target").__name__ == "Fraction"
    assert registry.origin("mine") == "register()"


def test_register_taken_name_names_its_owner():
    with pytest.raises(InvalidArgumentError, match="'enet' is already registered by a"):
        make_registry(a=TABLE).register("enet", dict)


def test_resolve_target_of_wrong_form_raises():
    with pytest.raises(InvalidArgumentError, match="'package.module:attribute', got 'fractions.Fraction'"):
        resolve_target("fractions.Fraction")


def discovering(monkeypatch, **values):
    points = [EntryPoint(name=n, value=v, group="seg_core.models") for n, v in values.items()]
    monkeypatch.setattr(registry_module, "entry_points", lambda group: points)
    return Registry("model", "seg_core.models")


def test_discovery_broken_third_party_table_warns_and_keeps_the_rest(monkeypatch):
    monkeypatch.setattr(registry_module, "GOOD", {"net": "fractions:Fraction"}, raising=False)
    registry = discovering(monkeypatch, bad="no_such_module_anywhere:TABLE", good="seg_core.registry:GOOD")
    with pytest.warns(UserWarning, match="the model catalog of package 'bad'.*No module named 'no_such_module"):
        assert registry.names() == ["net"]


def test_discovery_value_that_is_no_mapping_warns(monkeypatch):
    registry = discovering(monkeypatch, odd="fractions:Fraction")
    with pytest.warns(UserWarning, match="package 'odd'.*must name a mapping, got"):
        assert len(registry) == 0


def test_discovery_happens_once_and_on_use(monkeypatch):
    calls = []
    monkeypatch.setattr(registry_module, "entry_points", lambda group: calls.append(group) or [])
    registry = Registry("model", "seg_core.models")
    assert not calls
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        registry.names()
        registry.names()
    assert calls == ["seg_core.models"]
