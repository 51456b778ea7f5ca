"""patch(): Tilewise in place of PyTorch's own attention, in a `with` block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional

from tilewise.torch._sdpa import scaled_dot_product_attention


@contextlib.contextmanager
def patch() -> Iterator[None]:
    """Within the block torch.nn.functional.scaled_dot_product_attention, and flex_attention where this PyTorch has it,
    are Tilewise's.

    What has imported the function by name before keeps PyTorch's.

    >>> import torch, tilewise.torch
    >>> with tilewise.torch.patch():
    ...     o = torch.nn.functional.scaled_dot_product_attention(*[torch.randn(1, 2, 16, 8)] * 3, is_causal=True)
    """
    from tilewise.torch._flex import flex_attention

    places: list[tuple[object, str, object]] = [
        (torch.nn.functional, "scaled_dot_product_attention", scaled_dot_product_attention)
    ]
    try:
        import torch.nn.attention.flex_attention as flex
    except ImportError:
        pass
    else:
        places.append((flex, "flex_attention", flex_attention))
    originals = [(module, name, getattr(module, name)) for module, name, _ in places]
    for module, name, ours in places:
        setattr(module, name, ours)
    try:
        yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
