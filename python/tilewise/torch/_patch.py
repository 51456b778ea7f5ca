"""patch(): Tilewise in place of PyTorch's own attention, in a `with` block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional

from tilewise.torch._sdpa import scaled_dot_product_attention


def _without_compiled_graphs_of_others() -> contextlib.AbstractContextManager[Any]:
    """PyTorch's own functions that call attention, such as multi_head_attention_forward, are nodes of torch.compile's
    graphs, and its cache on disk finds graphs by such names: it would mix those with Tilewise and those without."""
    found: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
    with contextlib.suppress(ImportError, AttributeError):  # of a PyTorch that has no such cache
        from torch._functorch import config

        found = config.patch(enable_autograd_cache=False)  # type: ignore[attr-defined]
    return found


@contextlib.contextmanager
def patch() -> Iterator[None]:
    """Within the block torch.nn.functional.scaled_dot_product_attention, and flex_attention where this PyTorch has it,
    are Tilewise's.

    What has imported the function by name before keeps PyTorch's, and what torch.compile compiles within the block keeps
    Tilewise's.

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
        with _without_compiled_graphs_of_others():
            yield
    finally:
        for module, name, original in originals:
            setattr(module, name, original)
