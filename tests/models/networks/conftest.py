"""Which of the slow promises of the contract are tested by default; `hatch run models` tests all of them."""

import pytest

# promise -> the networks it is tested for by default: one for each kind of operation that exporters and compilers treat
# in a way of their own
BY_DEFAULT = {
    # unpooling; it is exported on the way; 5 to 20 s each
    "test_onnx_any_size": {"enet"},
    # attention, sampling along a flow, pooling to a grid; 5 to 10 s each
    "test_export_any_size": {"pspnet_resnet18", "segformer_b0", "sfnet_lite_resnet18"},
    # the same; 3 to 7 s each
    "test_compile_whole_graph": {"enet", "segformer_b0", "sfnet_lite_resnet18"},
    # where a processor does not compute in bfloat16, 1 s each and more
    "test_autocast_channels_last_stays_near_full_precision": {"enet", "fast_scnn", "segformer_b0", "stdc1"},
}


@pytest.hookimpl(tryfirst=True)  # before tests are deselected by their marks
def pytest_collection_modifyitems(items):
    for item in items:
        networks = BY_DEFAULT.get(getattr(item, "originalname", None)) if item.path.name == "test_contract.py" else None
        if networks is not None and item.callspec.params["name"] not in networks:
            item.add_marker(pytest.mark.full)
