"""Exported files: a network as ONNX, as a program of torch.export or for OpenVINO, verified beside the original."""
