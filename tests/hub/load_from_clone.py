"""torch.hub from this clone, in an environment with only torch and torchvision; `hatch run hub:test` runs it.

A plain script, because that environment has no pytest. `test_entrypoints.py` covers the details.
"""

import importlib.metadata
from pathlib import Path

import torch

CLONE = str(Path(__file__).resolve().parents[2])


def main() -> None:
    installed = {distribution.metadata["Name"].lower() for distribution in importlib.metadata.distributions()}
    unexpected = installed & {"seg-core", "seg-models", "seg-train", "matplotlib", "pydantic", "accelerate", "rich"}
    assert not unexpected, f"this environment must hold only torch and torchvision, found {sorted(unexpected)}"

    for name in torch.hub.load(CLONE, "list_models", source="local"):
        model = torch.hub.load(CLONE, name, source="local", num_classes=5).eval()
        with torch.inference_mode():
            logits = model(torch.rand(1, 3, 65, 97))["out"]
        assert logits.shape == (1, 5, 65, 97), f"{name} gave {tuple(logits.shape)}"
        print(f"{name}: {tuple(logits.shape)}")

    weights = torch.hub.load(CLONE, "get_model_weights", "fcn_resnet50", source="local")
    member = torch.hub.load(CLONE, "get_weight", "FCN_ResNet50_Weights.DEFAULT", source="local")
    assert member is weights.DEFAULT
    print(f"weights: {member!r}")


if __name__ == "__main__":
    main()
