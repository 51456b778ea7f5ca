"""The exceptions that the library's errors become. Each is also the built-in exception that fits it."""

from __future__ import annotations


class Error(Exception):
    """What every failure in Tilewise derives from; its text names the argument, its value and what was expected."""

    code = ""


class InvalidArgument(Error, ValueError):
    """A value, shape, dtype or combination that the call does not take."""

    code = "invalid_argument"


class ParseError(Error, ValueError):
    """Text that does not read: a variant, a model file."""

    code = "parse"


class Unsupported(Error, NotImplementedError):
    """Well-formed, but nothing here computes it; the text says who refused it and why."""

    code = "unsupported"


class OutOfMemory(Error, MemoryError):
    """An allocation failed."""

    code = "out_of_memory"


class FileError(Error, OSError):
    """A file could not be read or written."""

    code = "io"


class DeviceError(Error, RuntimeError):
    """A GPU, its driver or its compiler failed or is missing."""

    code = "device"


BY_CODE: dict[str, type[Error]] = {
    kind.code: kind for kind in (InvalidArgument, ParseError, Unsupported, OutOfMemory, FileError, DeviceError)
}
