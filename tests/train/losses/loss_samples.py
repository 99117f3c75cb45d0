"""Inputs that the tests of several losses share, and helpers around them."""

import torch

NUM_CLASSES = 5


def sample(dtype=torch.float64, num_classes=NUM_CLASSES, scale=3.0):
    """Returns logits of `num_classes` classes and a target of classes 0 to 3, about a third of it ignored."""
    generator = torch.Generator().manual_seed(3)
    logits = scale * torch.randn(2, num_classes, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 4, (2, 5, 6), generator=generator)
    target[torch.rand(2, 5, 6, generator=generator) < 0.3] = 255
    return logits.to(dtype), target


def with_float64_weight(options):
    """Returns options whose weight is a float64 tensor; from a list it would be float32."""
    return {k: torch.tensor(v, dtype=torch.float64) if k == "weight" else v for k, v in options.items()}


def value_and_gradient(loss, logits, target):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    return value.detach(), gradient


def larger_batch(dtype=torch.float64):
    """Returns logits of 4 classes that need gradients, a target with ignored value 4, and slopes of pixel losses."""
    generator = torch.Generator().manual_seed(5)
    logits = (4 * torch.randn(3, 4, 30, 41, generator=generator, dtype=dtype)).requires_grad_()
    target = torch.randint(0, 5, (3, 30, 41), generator=generator)
    return logits, target, torch.rand(3, 30, 41, generator=generator, dtype=dtype)
