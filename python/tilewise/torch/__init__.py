"""Tilewise for PyTorch: attention with gradients, and drop-ins for what people already call.

>>> import torch, tilewise as tw, tilewise.torch
>>> q, k, v = (torch.randn(1, 4, 128, 64, requires_grad=True) for _ in range(3))
>>> tw.attention(q, k, v, tw.zoo.window(32)).sum().backward()
"""

import torch

from tilewise._attention import compute_by
from tilewise.torch._attention import attention
from tilewise.torch._flash import flash_attn_func, flash_attn_varlen_func, flash_attn_with_kvcache
from tilewise.torch._flex import flex_attention
from tilewise.torch._patch import patch
from tilewise.torch._sdpa import scaled_dot_product_attention

__all__ = [
    "attention", "flash_attn_func", "flash_attn_varlen_func", "flash_attn_with_kvcache", "flex_attention", "patch",
    "scaled_dot_product_attention",
]

# Known from now on, so that torch.compile finds it without looking for it.
compute_by(torch.Tensor, attention)
compute_by(torch.nn.Parameter, attention)
