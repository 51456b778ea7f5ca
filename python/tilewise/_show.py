"""Pictures of masks: which tiles are empty, partial or full."""

from __future__ import annotations

import struct
import zlib

import numpy
import numpy.typing

EMPTY, PARTIAL, FULL = 0, 1, 2
_SIGNS = "·▒█"
_COLOURS = ((247, 247, 244), (238, 170, 92), (45, 78, 126))  # red, green, blue of empty, partial and full
_PIXELS = 640


class TileMap:
    """The class of every tile of one sequence and head: 0 is empty, 1 partial, 2 full.

    `print(tiles)` draws it; in a notebook it is a picture.
    """

    def __init__(self, classes: numpy.typing.NDArray[numpy.uint8], tile: tuple[int, int]) -> None:
        self.classes = classes  # [rows of queries, columns of keys]
        self.tile = tile

    @property
    def empty(self) -> int:
        """Tiles of which no entry is kept."""
        return int((self.classes == EMPTY).sum())

    @property
    def partial(self) -> int:
        """Tiles of which some entries are kept, or that could not be decided."""
        return int((self.classes == PARTIAL).sum())

    @property
    def full(self) -> int:
        """Tiles of which all entries are kept."""
        return int((self.classes == FULL).sum())

    @property
    def kept_share(self) -> float:
        """Tiles that are not empty over all tiles: what share of the work is left."""
        return (self.partial + self.full) / self.classes.size if self.classes.size else 0.0

    def __str__(self) -> str:
        return "\n".join("".join(_SIGNS[each] for each in row) for row in self.classes)

    def __repr__(self) -> str:
        rows, columns = self.classes.shape
        return (f"<tilewise.TileMap {rows} x {columns} tiles of {self.tile[0]} x {self.tile[1]}: {self.empty} empty, "
                f"{self.partial} partial, {self.full} full>")

    def _repr_png_(self) -> bytes:
        return self.png()

    def png(self, pixels_wide: int = _PIXELS) -> bytes:
        """The picture as a PNG file's bytes: rows are queries, columns keys; partial tiles orange, full ones blue."""
        rows, columns = self.classes.shape
        side = max(1, pixels_wide // max(rows, columns, 1))
        colours = numpy.array(_COLOURS, numpy.uint8)[self.classes]
        pixels = colours.repeat(side, axis=0).repeat(side, axis=1)
        if side >= 6:  # a line between tiles where there is room for one
            pixels[side - 1 :: side] = pixels[side - 1 :: side] // 16 * 15
            pixels[:, side - 1 :: side] = pixels[:, side - 1 :: side] // 16 * 15
        return _png(pixels)

    def save(self, file: str) -> None:
        """Writes the picture."""
        with open(file, "wb") as opened:
            opened.write(self.png())


def _png(pixels: numpy.typing.NDArray[numpy.uint8]) -> bytes:
    """A PNG file of [height, width, 3] bytes (W3C, Portable Network Graphics, 2003)."""
    height, width = pixels.shape[:2]

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    lines = b"".join(b"\0" + row.tobytes() for row in pixels)  # each behind its filter, none
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines, 9))
            + chunk(b"IEND", b""))
