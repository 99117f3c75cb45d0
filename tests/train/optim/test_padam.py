import copy
import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from seg_train.optim import padam
from seg_train.optim.padam import Padam

PARTIALS = [0.0, 0.05, 0.0625, 0.125, 0.25, 0.3, 0.5]
# shapes with an empty one, one of a single number, and a kernel
SHAPES = [(4, 3, 3, 3), (7,), (), (0, 5), (2, 6, 1, 1)]


def parameters(dtype=torch.float64, shapes=SHAPES, seed=0, **factory):
    generator = torch.Generator().manual_seed(seed)
    drawn = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    return [nn.Parameter(x.to(dtype, **factory)) for x in drawn]


def set_gradients(params, step):
    """Sets gradients of varying size, so that the maximum of the squares matters."""
    generator = torch.Generator().manual_seed(100 + step)
    for param in params:
        size = 10.0 if step % 7 == 0 else 0.1
        drawn = size * torch.randn(param.shape, generator=generator, dtype=torch.float64)
        param.grad = torch.empty_like(param).copy_(drawn)


def run(optimizer, params, steps, start=0):
    for step in range(start, start + steps):
        set_gradients(params, step)
        optimizer.step()


def transcription(params, steps, lr, betas, eps, weight_decay, partial):
    """Computes algorithm 1 with the authors' bias correction, element by element in float64."""
    values = [p.detach().double().numpy().copy() for p in params]
    for value, place in zip(values, range(len(params)), strict=True):
        m, v, peak = np.zeros_like(value), np.zeros_like(value), np.zeros_like(value)
        for step in range(steps):
            set_gradients(params, step)
            gradient = params[place].grad.double().numpy() + weight_decay * value
            t = step + 1
            for index in np.ndindex(value.shape):
                m[index] = betas[0] * m[index] + (1 - betas[0]) * gradient[index]
                v[index] = betas[1] * v[index] + (1 - betas[1]) * gradient[index] ** 2
                peak[index] = max(peak[index], v[index])
                correction = math.sqrt(1 - betas[1] ** t)
                denominator = (math.sqrt(peak[index]) + eps * correction) ** (2 * partial)
                value[index] -= lr * correction / (1 - betas[0] ** t) * m[index] / denominator
    return values


@pytest.fixture(params=["eager", "compiled"])
def compiled(request, monkeypatch):
    """Whether to compile; the compiled graph is run eagerly, since C++ compilation takes long."""
    if request.param == "eager":
        return False
    torch.compiler.reset()
    kernel = torch.compile(padam._update, dynamic=True, backend="eager", fullgraph=True)
    monkeypatch.setattr(padam, "_compiled_update", lambda: kernel)
    return True


@pytest.mark.smoke
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("partial", PARTIALS)
def test_step_equals_the_algorithm(partial, weight_decay, compiled):
    options = {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": weight_decay, "partial": partial}
    params = parameters()
    expected = transcription(params, 12, **options)
    run(Padam(params, **options, compile=compiled), params, 12)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().numpy(), value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_partial_of_a_half_is_adam_with_amsgrad(weight_decay, dtype, compiled):
    ours, theirs = parameters(dtype), parameters(dtype)
    options = {"lr": 1e-3, "betas": (0.9, 0.99), "eps": 1e-4, "weight_decay": weight_decay}
    run(Padam(ours, partial=0.5, **options, compile=compiled), ours, 60)
    run(torch.optim.Adam(theirs, amsgrad=True, **options), theirs, 60)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-14}
    for own, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, other, **tolerance)


def test_partial_of_zero_is_momentum_with_bias_correction():
    (param,) = parameters(shapes=[(5,)])
    momentum, expected = torch.zeros(5, dtype=torch.float64), param.detach().clone()
    optimizer = Padam([param], lr=0.1, partial=0.0)
    for step in range(5):
        set_gradients([param], step)
        momentum = 0.9 * momentum + 0.1 * param.grad
        expected -= 0.1 * math.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1)) * momentum
        optimizer.step()
    torch.testing.assert_close(param.detach(), expected)


def test_large_parameters_in_strips_equal_small_ones(monkeypatch):
    shapes = [(40, 30), (1000,), (999,)]
    whole, strips = parameters(shapes=shapes), parameters(shapes=shapes)
    run(Padam(whole), whole, 4)
    monkeypatch.setattr(padam, "_STRIP", 7)
    run(Padam(strips), strips, 4)
    for one, other in zip(whole, strips, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-14, atol=0)


def test_update_of_other_devices_equals_that_of_the_cpu(monkeypatch):
    whole, portions = parameters(), parameters()
    run(Padam(whole, partial=0.1), whole, 3)
    run(Padam(whole), whole, 3)

    def move(batch, exponent):
        pieces = list(padam._portions(batch))
        assert len(pieces) > 1
        for portion in pieces:
            padam._move_together(portion, exponent)

    monkeypatch.setattr(padam, "_PORTION", 20)
    monkeypatch.setattr(padam, "_move_by_strips", move)
    run(Padam(portions, partial=0.1), portions, 3)
    run(Padam(portions), portions, 3)
    for one, other in zip(whole, portions, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


def test_memory_format_does_not_matter(compiled):
    plain, permuted = parameters(shapes=SHAPES[:1]), parameters(shapes=SHAPES[:1])
    permuted[0].data = permuted[0].data.to(memory_format=torch.channels_last)
    gradient_elsewhere = parameters(shapes=SHAPES[:1])
    gradient_elsewhere[0].data = gradient_elsewhere[0].data.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0)
    part = nn.Parameter(torch.zeros(4, 3, 3, 6, dtype=torch.float64)[..., ::2])  # leaves gaps in memory
    part.data.copy_(plain[0].data)
    optimizers = [Padam(p, compile=compiled) for p in (plain, permuted, gradient_elsewhere, [part])]
    for step in range(4):
        set_gradients(plain, step)
        permuted[0].grad = plain[0].grad.clone()
        gradient_elsewhere[0].grad = plain[0].grad.clone()
        part.grad = plain[0].grad.clone()
        for optimizer in optimizers:
            optimizer.step()
        if step == 1:  # the state must follow
            permuted[0].data = permuted[0].data.contiguous()
            gradient_elsewhere[0].data = gradient_elsewhere[0].data.to(memory_format=torch.channels_last)
    for other in (permuted[0], gradient_elsewhere[0], part):
        torch.testing.assert_close(other, plain[0], rtol=1e-12, atol=1e-14)


def test_groups_keep_their_own_options(compiled):
    params, alone = parameters(), parameters()
    options = [{"lr": 0.3, "partial": 0.3, "weight_decay": 0.1}, {"betas": (0.5, 0.9)}, {}, {"lr": 0.0}, {"eps": 0.1}]
    groups = [{"params": [p], **o} for p, o in zip(params, options, strict=True)]
    run(Padam(groups, lr=0.2, compile=compiled), params, 5)
    for param, own in zip(alone, options, strict=True):
        optimizer = Padam([param], **{"lr": 0.2, **own})
        for step in range(5):
            set_gradients(alone, step)
            optimizer.step()
    for one, other in zip(params, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
    assert torch.equal(params[3], parameters()[3])


def test_parameters_without_gradient_do_not_change_and_count_no_step():
    params = parameters(shapes=[(3,), (4,)])
    optimizer = Padam(params)
    params[0].grad = torch.ones(3, dtype=torch.float64)
    before = params[1].detach().clone()
    optimizer.step()
    assert torch.equal(params[1], before)
    assert params[1] not in optimizer.state
    assert not torch.equal(params[0], parameters(shapes=[(3,)])[0])
    # the other parameter's first step counts as its first, whenever it comes
    params[1].grad = torch.ones(4, dtype=torch.float64)
    optimizer.step()
    (fresh,) = [nn.Parameter(before.clone())]
    fresh.grad = torch.ones(4, dtype=torch.float64)
    Padam([fresh]).step()
    torch.testing.assert_close(params[1], fresh)


def test_step_is_seen_by_autograd(compiled):
    # a graph that needs the old value must raise, not give a wrong gradient
    param = nn.Parameter(torch.ones(3))
    loss = (param**2).sum()
    param.grad = torch.ones(3)
    Padam([param], compile=compiled).step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_gradients_and_options_are_not_changed(compiled):
    params = parameters()
    optimizer = Padam(params, weight_decay=0.5, compile=compiled)
    set_gradients(params, 0)
    gradients = [p.grad.clone() for p in params]
    options = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    optimizer.step()
    assert all(torch.equal(p.grad, g) for p, g in zip(params, gradients, strict=True))
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == options


def test_gradient_of_zero_moves_nothing_even_without_eps():
    # 0 / 0 must not reach parameters that the loss does not depend on
    param = nn.Parameter(torch.ones(3))
    param.grad = torch.zeros(3)
    Padam([param], eps=1e-8).step()
    assert torch.equal(param.detach(), torch.ones(3))


@pytest.mark.smoke
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_saved_and_loaded_state_continues_like_an_uninterrupted_run(dtype, compiled):
    straight, resumed = parameters(dtype), parameters(dtype)
    run(Padam(straight, lr=0.05, weight_decay=0.1), straight, 10)
    first = Padam(resumed, lr=0.05, weight_decay=0.1)
    run(first, resumed, 6)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    fresh = [nn.Parameter(p.detach().clone()) for p in resumed]
    second = Padam(fresh, lr=7.0)
    second.load_state_dict(torch.load(file, weights_only=True))
    assert second.param_groups[0]["lr"] == 0.05
    run(second, fresh, 4, start=6)
    for one, other in zip(straight, fresh, strict=True):
        assert torch.equal(one, other)


def test_state_dict_copy_is_independent():
    params = parameters(torch.bfloat16)
    optimizer = Padam(params)
    run(optimizer, params, 2)
    state = copy.deepcopy(optimizer.state_dict())
    run(optimizer, params, 1)
    optimizer.load_state_dict(state)
    kept = optimizer.state[params[0]]
    assert float(kept["step"]) == 2
    assert kept["exp_avg"].dtype == torch.float32
    assert torch.equal(kept["exp_avg"], state["state"][0]["exp_avg"])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_state_in_float32(dtype, compiled):
    half, single = parameters(dtype, shapes=[(50,)]), parameters(shapes=[(50,)])
    single[0].data = half[0].data.float()
    mine, theirs = Padam(half, compile=compiled), Padam(single)
    for step in range(20):
        set_gradients(single, step)
        # squares of these would be 0 in float16
        single[0].grad = (1e-4 * single[0].grad).to(dtype).float()
        half[0].grad = single[0].grad.to(dtype)
        mine.step()
        theirs.step()
        single[0].data = half[0].data.float()  # so that only the rounding of one step is compared
        torch.testing.assert_close(mine.state[half[0]]["max_exp_avg_sq"], theirs.state[single[0]]["max_exp_avg_sq"])
    assert mine.state[half[0]]["max_exp_avg_sq"].dtype == torch.float32
    assert float(mine.state[half[0]]["max_exp_avg_sq"].min()) > 0
    assert half[0].dtype == dtype
    assert half[0].isfinite().all()


def test_half_precision_steps_are_those_of_float32_rounded():
    half, single = parameters(torch.bfloat16, shapes=[(50,)]), parameters(shapes=[(50,)])
    single[0].data = half[0].data.float()
    set_gradients(single, 0)
    half[0].grad = single[0].grad.bfloat16()
    single[0].grad = half[0].grad.float()
    Padam(half).step()
    Padam(single).step()
    torch.testing.assert_close(half[0], single[0].bfloat16(), rtol=0.008, atol=0)


def test_closure_gives_its_loss_and_runs_with_gradients():
    (param,) = parameters(shapes=[(3,)])
    optimizer = Padam([param])
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = (param**2).sum()
        loss.backward()
        calls.append(loss)
        return loss

    before = (param**2).sum()
    assert optimizer.step(closure) == before
    assert len(calls) == 1
    assert (param**2).sum() < before


def test_learning_rate_of_a_scheduler_is_used():
    params, expected = parameters(), parameters()
    optimizer = Padam(params, lr=0.4)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    reference = Padam(expected, lr=0.4)
    for step in range(3):
        set_gradients(params, step)
        optimizer.step()
        scheduler.step()
        reference.param_groups[0]["lr"] = 0.4 * 0.5**step
        set_gradients(expected, step)
        reference.step()
    for one, other in zip(params, expected, strict=True):
        assert torch.equal(one, other)


def test_training_lowers_the_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1))
    optimizer = Padam(model.parameters(), lr=0.1)
    x = torch.randn(64, 4)
    y = x[:, :1] * x[:, 1:2]
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


@pytest.mark.parametrize("exponent", [0.0, 0.03125, 0.0625, 0.1, 0.125, 0.25, 0.5, 0.75, 1.0])
def test_roots_equal_the_power(exponent):
    base = torch.logspace(-30, 30, 200, dtype=torch.float64)
    torch.testing.assert_close(padam._power_(base.clone(), exponent), base**exponent, rtol=1e-14, atol=0)


def test_one_kernel_is_compiled_for_all_shapes_steps_and_rates(monkeypatch):
    torch.compiler.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    kernel = torch.compile(padam._update, dynamic=True, backend=backend, fullgraph=True)
    monkeypatch.setattr(padam, "_compiled_update", lambda: kernel)
    params = parameters(torch.float32, shapes=[(9,), (4, 3, 3, 3), (20, 5), (2,), ()])
    optimizer = Padam([{"params": params[:2]}, {"params": params[2:], "lr": 0.3, "betas": (0.5, 0.9)}], compile=True)
    run(optimizer, params, 3)
    optimizer.param_groups[0]["lr"] = 0.01
    run(optimizer, params, 3, start=3)
    assert len(graphs) == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": -0.1}, "lr must be a finite number of at least 0, got -0.1"),
        ({"lr": math.nan}, "lr must be a finite number of at least 0, got nan"),
        ({"eps": -1e-8}, "eps must be a finite number of at least 0, got -1e-08"),
        ({"weight_decay": math.inf}, "weight_decay must be a finite number of at least 0, got inf"),
        ({"partial": 0.6}, "partial must be between 0 (SGD with momentum) and 0.5 (Adam with amsgrad), got 0.6"),
        ({"partial": -0.1}, "partial must be between 0"),
        ({"betas": (0.9, 1.0)}, "betas must be two numbers >= 0 and < 1, got (0.9, 1.0)"),
        ({"betas": (0.9,)}, "betas must be two numbers"),
    ],
)
def test_option_out_of_range_says_what_is_allowed(options, words):
    params = parameters(shapes=[(2,)])
    with pytest.raises(ValueError) as caught:
        Padam(params, **options)
    assert words in str(caught.value)
    with pytest.raises(ValueError) as caught:
        Padam([{"params": params, **options}])
    assert words in str(caught.value)


def test_sparse_gradient_says_what_to_do():
    embedding = nn.Embedding(5, 3, sparse=True)
    optimizer = Padam(embedding.parameters())
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(ValueError, match=r"dense gradients, .* shape \(5, 3\) .*sparse_coo; build .* sparse=False"):
        optimizer.step()


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, of the caches that are left out
def test_compile_without_a_compiler_says_what_to_do():
    torch.compiler.reset()
    padam._compiled_update.cache_clear()
    params = parameters(shapes=[(3,)])
    set_gradients(params, 0)
    # torch's own patch: monkeypatch does not restore an option that is an alias of another one
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/c++"), "force_disable_caches": True}),
        pytest.raises(ImportError, match=r"compile=True: torch cannot compile here \(.*\+\+.*\); .* or remove compile"),
    ):
        Padam(params, compile=True).step()
    padam._compiled_update.cache_clear()
    assert not torch._inductor.config.force_disable_caches


def test_complex_parameter_is_an_error():
    param = nn.Parameter(torch.ones(2, dtype=torch.complex64))
    param.grad = torch.ones_like(param)
    with pytest.raises(ValueError, match="takes real parameters .* got a parameter of type torch.complex64"):
        Padam([param]).step()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("partial", PARTIALS)
def test_cuda_step_equals_the_algorithm(partial, compiled):
    settings = {"lr": 0.1, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.1, "partial": partial}
    expected = transcription(parameters(), 6, **settings)
    params = [nn.Parameter(p.detach().cuda()) for p in parameters()]
    run(Padam(params, **settings, compile=compiled), params, 6)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.detach().cpu().numpy(), value, rtol=1e-9, atol=1e-11)
