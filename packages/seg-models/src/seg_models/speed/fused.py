"""Folds batch norms into convolutions, and on a CPU lets oneDNN compute convolution, sum and activation in one pass.

Works on the graph that torch.export records for images of one shape, so it needs no knowledge of a network's modules.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

__all__ = ["fuse"]

_aten = torch.ops.aten
_NORMS = (_aten._native_batch_norm_legit_no_training.default, _aten.batch_norm.default)
_PRELU, _POOL = _aten.prelu.default, _aten.max_pool2d.default
_POOL_POSITIONS = _aten.max_pool2d_with_indices.default
_FEW_CHANNELS = 8
_ROW = 2048  # elements of a row of PReLU
_CONV, _TRANSPOSED = _aten.conv2d.default, _aten.conv_transpose2d.input

# activation -> its name in oneDNN's operators, and the positions of its scalars among the arguments with their defaults
_ACTIVATIONS: Mapping[Any, tuple[str, tuple[tuple[int, float], ...]]] = {
    _aten.relu.default: ("relu", ()),
    _aten.sigmoid.default: ("sigmoid", ()),
    _aten.tanh.default: ("tanh", ()),
    _aten.hardswish.default: ("hardswish", ()),
    _aten.hardsigmoid.default: ("hardsigmoid", ()),
    _aten.silu.default: ("swish", ()),
    _aten.leaky_relu.default: ("leaky_relu", ((1, 0.01),)),
    _aten.hardtanh.default: ("hardtanh", ((1, -1.0), (2, 1.0))),
}


def fuse(module: nn.Module, images: Tensor, exact: Mapping[str, Tensor]) -> Callable[[Tensor], Tensor]:
    """Returns a function that computes what `module` computes, for images of this shape and type only.

    Args:
        module: maps images to logits, in eval mode, with parameters of one type.
        images: an example (N, C, H, W), channels last, of the type of the parameters. The function itself takes
            float32 images where this is a reduced precision.
        exact: parameters and buffers by name in their own precision, from which folded weights are computed.

    Raises:
        Exception: of any kind, if the module cannot be exported.
    """
    with torch.no_grad():
        program = torch.export.export(module, (images,), strict=False).run_decompositions({})
        graph_module = program.module()
        assert isinstance(graph_module, fx.GraphModule)
        editor = _Editor(graph_module, exact)
        editor.drop_guards()
        if images.dtype in (torch.bfloat16, torch.float16):
            editor.keep_exact_before_positions(images.dtype)
        editor.fold_norms()
        editor.widen_prelus()
        editor.pool_by_slices()
        if images.device.type == "cpu" and torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
            editor.fuse_convolutions()
        editor.finish()
    return graph_module


def prelu_of_rows(features: Tensor, slope: Tensor, repeated: Tensor) -> Tensor:
    """Returns PReLU of features (N, C, H, W) with a slope per channel, equal to torch's.

    Args:
        features: floating point, fast if channels last.
        slope: (C,).
        repeated: the slopes of a row of several pixels, whose number divides that of the pixels.
    """
    if not features.is_contiguous(memory_format=torch.channels_last):
        return torch.prelu(features, slope)
    by_pixel = features.permute(0, 2, 3, 1)
    return torch.prelu(by_pixel.view(-1, len(repeated)), repeated).view(by_pixel.shape).permute(0, 3, 1, 2)


def pool_by_slices(features: Tensor) -> Tensor:
    """Returns the maximum of each 2x2 square of features (N, C, H, W) of even height and width."""
    columns = torch.maximum(features[..., ::2], features[..., 1::2])
    return torch.maximum(columns[:, :, ::2], columns[:, :, 1::2])


class _Editor:
    """Edits a graph whose operations have no side effects: a value may be computed later than recorded."""

    def __init__(self, graph_module: fx.GraphModule, exact: Mapping[str, Tensor]) -> None:
        self._module = graph_module
        self._graph = graph_module.graph
        self._exact = exact
        self._count = 0

    def drop_guards(self) -> None:
        """Drops the check that images are those of the example: which shape is computed is decided outside."""
        for node in list(self._graph.nodes):
            if node.op == "call_module" and not node.users:
                self._graph.erase_node(node)

    def keep_exact_before_positions(self, dtype: torch.dtype) -> None:
        """Lets the graph take float32 images, and computes in float32 all that decides about positions.

        Where max pooling returns the positions of its maxima (ENet), rounding moves some of them, and whole values of
        the decoder with them. Everything else stays in the reduced precision, `dtype`.
        """
        exact = {node for node in self._graph.nodes if node.op == "placeholder"}
        waiting = [node for node in self._graph.nodes if node.target is _POOL_POSITIONS]
        while waiting:
            node = waiting.pop()
            if node not in exact and node.op != "get_attr":
                exact.add(node)
                waiting += node.all_input_nodes
        exact |= {user for node in exact for user in node.users if user.target is operator.getitem}
        if any(isinstance(each, torch.dtype) for node in exact for each in (*node.args, *node.kwargs.values())):
            exact = {node for node in exact if node.op == "placeholder"}  # a type is written into the graph
        for node in [each for each in self._graph.nodes if each in exact]:
            for constant in {each for each in node.all_input_nodes if each.op == "get_attr"}:
                with self._graph.inserting_before(node):
                    node.replace_input_with(constant, self._constant(self._exact_tensor(constant)))
            node.meta["val"] = _widened(node.meta.get("val"))
            others = [user for user in node.users if user not in exact]
            found = _value_of(node)
            if others and found is not None and found.is_floating_point():
                with self._graph.inserting_after(node):
                    rounded = self._graph.call_function(_aten.to.dtype, (node, dtype))
                rounded.meta["val"] = found.to(dtype)
                for user in others:
                    user.replace_input_with(node, rounded)

    def fold_norms(self) -> None:
        """Folds each batch norm into the convolution before it, if nothing else reads that one's result."""
        for node in list(self._graph.nodes):
            if node.target not in _NORMS or (node.target is _aten.batch_norm.default and node.args[5]):
                continue
            conv = node.args[0]
            results = [node] if node.target is _aten.batch_norm.default else list(node.users)
            if len(conv.users) != 1 or not self._is_convolution(conv) or len(results) != 1:
                continue
            if results[0] is not node and not (results[0].target is operator.getitem and results[0].args[1] == 0):
                continue
            weight, bias = conv.args[1], _argument(conv, 2)
            gamma, beta, mean, var = (self._value(each) for each in node.args[1:5])
            kernel, eps = self._value(weight), node.args[-1] if node.target is _NORMS[0] else node.args[7]
            if kernel is None or mean is None or var is None:
                continue
            scale = (var + eps).rsqrt() * (1 if gamma is None else gamma)
            shape = (1, -1, 1, 1) if conv.target is _TRANSPOSED else (-1, 1, 1, 1)
            shift = -mean * scale + (0 if beta is None else beta)
            if bias is not None:
                shift = shift + self._value(bias) * scale
            dtype = self._tensor(weight).dtype
            with self._graph.inserting_before(conv):
                folded = self._constant((kernel * scale.view(shape)).to(dtype))
                offset = self._constant(shift.to(dtype))
            conv.args = (conv.args[0], folded, offset, *conv.args[3:])
            results[0].replace_all_uses_with(conv)
            if results[0] is not node:
                self._graph.erase_node(results[0])
            self._graph.erase_node(node)

    def fuse_convolutions(self) -> None:
        """Replaces 2D convolutions, with the sum and the activation that follow, by oneDNN's operator for them."""
        pack: Any = torch._C._nn.mkldnn_reorder_conv2d_weight
        for conv in list(self._graph.nodes):
            if conv.op != "call_function" or conv.target is not _CONV:
                continue
            images, kernel = _value_of(conv.args[0]), self._tensor(conv.args[1])
            if images is None or kernel is None or isinstance(_argument(conv, 4), str):
                continue
            if kernel.dtype not in (torch.float32, torch.bfloat16) or images.dtype != kernel.dtype:
                continue
            stride, padding, dilation = (
                _pair(_argument(conv, at), default) for at, default in ((3, 1), (4, 0), (5, 1))
            )
            groups = _argument(conv, 6) or 1
            packed = pack(
                kernel.contiguous(memory_format=torch.channels_last).to_mkldnn(),
                padding,
                stride,
                dilation,
                groups,
                list(images.shape),
            )
            last, other, activation = self._followers(conv)
            name, scalars = activation
            with self._graph.inserting_before(last):
                weight = self._constant(packed)
                where = (weight, _argument(conv, 2), padding, stride, dilation, groups)
                if other is None:
                    new = self._graph.call_function(
                        torch.ops.mkldnn._convolution_pointwise.default,
                        (conv.args[0], *where, name, scalars, ""),
                    )
                else:
                    new = self._graph.call_function(
                        torch.ops.mkldnn._convolution_pointwise.binary,
                        (conv.args[0], other, *where, "add", None, None if name == "none" else name, scalars, ""),
                    )
            new.meta = dict(last.meta)
            last.replace_all_uses_with(new)
            self._graph.eliminate_dead_code()

    def widen_prelus(self) -> None:
        """Computes each PReLU in bf16 over long rows; torch's kernel leaves its vector path for few channels."""
        for node in list(self._graph.nodes):
            features, slope = (
                (_value_of(node.args[0]), self._tensor(node.args[1])) if node.target is _PRELU else (None, None)
            )
            if features is None or slope is None or slope.dtype != torch.bfloat16 or features.ndim != 4:
                continue
            channels, pixels = features.shape[1], features.shape[0] * features.shape[2] * features.shape[3]
            if slope.numel() != channels:
                continue
            most = max(1, _ROW // channels)
            repeats = next(count for count in range(min(most, pixels), 0, -1) if pixels % count == 0)
            with self._graph.inserting_before(node):
                repeated = self._constant(slope.repeat(repeats))
                new = self._graph.call_function(prelu_of_rows, (node.args[0], node.args[1], repeated))
            new.meta = dict(node.meta)
            node.replace_all_uses_with(new)
            self._graph.erase_node(node)

    def pool_by_slices(self) -> None:
        """Computes 2x2 max pooling of few channels by slices; torch's kernel is ten times slower for images."""
        for node in list(self._graph.nodes):
            features = _value_of(node.args[0]) if node.target is _POOL else None
            if features is None or features.ndim != 4 or features.shape[1] > _FEW_CHANNELS:
                continue
            if features.shape[2] % 2 or features.shape[3] % 2 or not self._is_pool_of_pairs(node):
                continue
            with self._graph.inserting_before(node):
                new = self._graph.call_function(pool_by_slices, (node.args[0],))
            new.meta = dict(node.meta)
            node.replace_all_uses_with(new)
            self._graph.erase_node(node)

    @staticmethod
    def _is_pool_of_pairs(node: fx.Node) -> bool:
        kernel, stride = _pair(_argument(node, 1), 1), _pair(_argument(node, 2) or _argument(node, 1), 1)
        padding, dilation = _pair(_argument(node, 3), 0), _pair(_argument(node, 4), 1)
        return (kernel, stride, padding, dilation) == ([2, 2], [2, 2], [0, 0], [1, 1])

    def _followers(self, conv: fx.Node) -> tuple[fx.Node, Any, tuple[str, list[Any]]]:
        """Returns the last operation to fuse with a convolution, what is added, and the activation."""
        last, other = conv, None  # type: tuple[fx.Node, Any]
        follower = _only_user(conv)
        if follower is not None and follower.target is _aten.add.Tensor and not follower.kwargs:
            summands = [each for each in follower.args if each is not conv]
            found = _value_of(summands[0]) if len(summands) == 1 else None
            own = _value_of(conv)
            if found is not None and own is not None and (found.shape, found.dtype) == (own.shape, own.dtype):
                last, other = follower, summands[0]
                follower = _only_user(follower)
        if follower is not None and follower.target in _ACTIVATIONS and not follower.kwargs:
            name, scalars = _ACTIVATIONS[follower.target]
            if other is not None and name != "relu":  # after a sum oneDNN's operator knows no other activation
                return last, other, ("none", [])
            values = [default if (given := _argument(follower, at)) is None else given for at, default in scalars]
            return follower, other, (name, values)
        return last, other, ("none", [])

    def finish(self) -> None:
        self._graph.eliminate_dead_code()
        self._module.delete_all_unused_submodules()
        used = {str(node.target) for node in self._graph.nodes if node.op == "get_attr"}
        for number in range(self._count):  # weights that were folded twice
            if f"_folded_{number}" not in used:
                delattr(self._module, f"_folded_{number}")
        self._graph.lint()
        self._module.recompile()

    def _is_convolution(self, node: fx.Node) -> bool:
        if node.target is _TRANSPOSED:
            return (_argument(node, 6) or 1) == 1
        return node.target is _CONV

    def _tensor(self, node: Any) -> Any:
        """Returns the parameter or buffer that a node stands for, else None."""
        if not isinstance(node, fx.Node) or node.op != "get_attr":
            return None
        return operator.attrgetter(str(node.target))(self._module)

    def _exact_tensor(self, node: fx.Node) -> Tensor:
        found: Tensor = self._tensor(node)
        return self._exact.get(str(node.target), found).to(found.device)

    def _value(self, node: Any) -> Tensor | None:
        """Returns the values of a parameter as float64, from its own precision."""
        found = self._tensor(node)
        return None if found is None else self._exact.get(str(node.target), found).to(found.device, torch.float64)

    def _constant(self, value: Tensor) -> fx.Node:
        name = f"_folded_{self._count}"
        self._count += 1
        self._module.register_buffer(name, value, persistent=False)
        return self._graph.get_attr(name)


def _argument(node: fx.Node, place: int) -> Any:
    return node.args[place] if len(node.args) > place else None


def _pair(value: Any, default: int) -> list[int]:
    found = [default] if value is None else list(value) if isinstance(value, list | tuple) else [value]
    return found * 2 if len(found) == 1 else found


def _value_of(node: Any) -> Any:
    """Returns the recorded tensor (shape and type alone) that a node computes, else None."""
    found = node.meta.get("val") if isinstance(node, fx.Node) else None
    return found if isinstance(found, Tensor) else None


def _widened(value: Any) -> Any:
    """Returns a recorded tensor, or several, with floating-point ones as float32."""
    if isinstance(value, tuple | list):
        return tuple(_widened(each) for each in value)
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
