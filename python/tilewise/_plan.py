"""Plan: attention of one shape, prepared for many calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tilewise import _core
from tilewise._options import options_of, variant_of
from tilewise._typing import Array
from tilewise._variant import Variant


class Plan:
    """How attention of a shape is computed on a device; for repeated calls into arrays that the caller keeps.

    dtypes, heads and head dimensions are those of every call; `b`, `s_q` and `s_kv` are the most that any call has.
    `backward`: whether backward() will be called; `deterministic`: with the same bits every time on a GPU, too.
    `tables`: for each table that the variant reads without clamping, its extents, by name.

    >>> import numpy as np, tilewise as tw
    >>> plan = tw.Plan(tw.zoo.causal(), dtype="float32", h_q=2, h_kv=1, d_qk=8, s_q=16, s_kv=16)
    >>> q, k, v = (np.ones((1, h, 16, 8), np.float32) for h in (2, 1, 1))
    >>> o = plan.forward(q, k, v, np.empty_like(q))
    """

    def __init__(
        self,
        variant: Variant | str | None = None,
        *,
        dtype: str = "float32",
        kv_dtype: str | None = None,
        b: int = 1,
        h_q: int = 1,
        h_kv: int | None = None,
        d_qk: int = 64,
        d_v: int | None = None,
        s_q: int = 0,
        s_kv: int = 0,
        backward: bool = False,
        deterministic: bool = False,
        query_offset: int | None = None,
        query_tokens: int | None = None,
        key_tokens: int | None = None,
        tables: Mapping[str, tuple[int, ...]] | None = None,
        device: str = "cpu",
    ) -> None:
        self._variant = variant_of(variant)
        extents = [(table, list(array.shape)) for table, array in self._variant._arrays
                   if table.name not in (tables or {})]
        for table in self._variant._recipe.tables:
            if tables and table.name in tables:
                extents.append((table, list(tables[table.name])))
        shape = _core.PlanShape()
        shape.dtype = dtype
        if kv_dtype is not None:
            shape.kv_dtype = kv_dtype
        shape.b, shape.h_q, shape.h_kv = b, h_q, h_q if h_kv is None else h_kv
        shape.d_qk, shape.d_v = d_qk, d_qk if d_v is None else d_v
        shape.s_q, shape.s_kv = s_q, s_kv
        shape.backward, shape.deterministic = backward, deterministic
        shape.query_offset, shape.query_tokens, shape.key_tokens = query_offset, query_tokens, key_tokens
        shape.set_tables(extents)
        self._plan = _core.plan(self._variant._recipe, device, shape)

    @property
    def variant(self) -> Variant:
        """What is computed."""
        return self._variant

    @property
    def workspace_bytes(self) -> int:
        """Bytes of working memory that a call needs; a thread keeps them between calls."""
        return self._plan.workspace_bytes

    @property
    def instruction_set(self) -> str:
        """The instruction set of the kernels that run, such as "avx512"; a GPU's architecture, such as "sm_90a"."""
        return self._plan.instruction_set

    def explain(self) -> str:
        """The backend, its tiles and predicted traffic, and why other backends were not taken."""
        return self._plan.explain()

    def __repr__(self) -> str:
        return f"<tilewise.Plan of {self._variant} for {self.instruction_set}>"

    def forward(self, q: Array, k: Array, v: Array, o: Array, lse: Array | None = None, **options: Any) -> Array:
        """Computes o, and lse where it is given, into the caller's arrays. Options are those of attention()."""
        _, made = options_of(self._variant, q.ndim, **options)
        if not _core.forward_planned(self._plan, q, k, v, o, lse, made):
            raise ValueError("the last axis of q, k and v is contiguous in a plan's calls; copy the arrays")
        return o

    def backward(
        self,
        q: Array,
        k: Array,
        v: Array,
        o: Array,
        lse: Array,
        d_o: Array,
        *,
        d_lse: Array | None = None,
        d_q: Array | None = None,
        d_k: Array | None = None,
        d_v: Array | None = None,
        d_tables: Mapping[str, Array] | None = None,
        d_parameters: Mapping[str, Array] | None = None,
        **options: Any,
    ) -> None:
        """Computes the gradients for which arrays are given, from o and lse of a forward pass with the same inputs."""
        _, made = options_of(self._variant, q.ndim, **options)
        gradients = _core.Gradients()
        gradients.d_q, gradients.d_k, gradients.d_v = d_q, d_k, d_v
        recipe = self._variant._recipe
        if d_tables:
            gradients.tables = [(each, d_tables[each.name]) for each in recipe.tables if each.name in d_tables]
        if d_parameters:
            gradients.parameters = [(each, d_parameters[each.name]) for each in recipe.parameters
                                    if each.name in d_parameters]
        _core.backward_planned(self._plan, q, k, v, o, lse, d_o, d_lse, made, gradients)
