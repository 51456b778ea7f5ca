"""Types that annotations share."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable


@runtime_checkable
class SupportsDLPack(Protocol):
    """An array that others can read without a copy."""

    def __dlpack__(self) -> Any: ...

    def __dlpack_device__(self) -> tuple[Any, int]: ...


# An array of NumPy, PyTorch, JAX or another library with DLPack. Their annotations do not agree on one protocol.
Array: TypeAlias = Any

ArrayT = TypeVar("ArrayT")
