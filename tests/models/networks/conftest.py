"""Which of the slow promises of the contract are tested by default; `hatch run models` tests all of them."""

import pytest

# promise -> the networks it is tested for by default: one for each kind of operation that exporters and compilers treat
# in a way of their own
BY_DEFAULT = {
    # plain convolutions, unpooling, two outputs of several strides; 5 to 20 s each
    "test_onnx_any_size": {"enet", "fcn_resnet18", "stdc1"},
    # the same, attention, sampling along a flow, pooling to a grid; 3 to 9 s each
    "test_compile_whole_graph": {"enet", "fcn_resnet18", "segformer_b0", "sfnet_lite_resnet18", "upernet_resnet18"},
}


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(items):
    for item in items:
        networks = BY_DEFAULT.get(getattr(item, "originalname", None))
        if networks is not None and item.callspec.params["name"] not in networks:
            item.add_marker(pytest.mark.full)
