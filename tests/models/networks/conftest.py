"""Which of the slow promises of the contract are tested by default."""

import pytest

# Export to ONNX takes 5 to 15 s per network: by default one network for each kind of operation that exporters treat in
# a way of their own: convolutions alone, unpooling, attention, sampling along a flow, pooling to a grid, attention by
# channel. `hatch run models` exports all of them.
ONNX = {"enet", "fcn_resnet18", "segformer_b0", "sfnet_resnet18", "stdc1", "upernet_resnet18"}


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(items):
    for item in items:
        if item.name.startswith("test_onnx_any_size[") and item.callspec.params["name"] not in ONNX:
            item.add_marker(pytest.mark.full)
