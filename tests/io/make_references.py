"""Writes data/: a GGUF file with a tensor of each storage type that holds weights, and their elements as another
implementation reads them.

Made with Python 3.11 and gguf 0.19, in a virtual environment of its own.

- every_type.gguf: tensors [3, 256] named as their type: normal numbers quantised by the package where it quantises, else
  (the K types) random bits under random scales.
- every_type.f32: the elements that the package dequantises, float32 [tensors, 3, 256], in the file's order.
"""

import pathlib

import gguf
import numpy

DATA = pathlib.Path(__file__).parent / "data"
ROWS, COLUMNS = 3, 256
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
# Where a K type's block of 256 has its float16 scales.
SCALES = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}


def stored(name, random):
    kind = gguf.GGMLQuantizationType[name]
    if name not in SCALES:
        values = (random.standard_normal((ROWS, COLUMNS)) * 10.0 ** random.integers(-3, 3, (ROWS, 1))).astype("<f4")
        return gguf.quants.quantize(values, kind)
    block = gguf.GGML_QUANT_SIZES[kind][1]
    rows = random.integers(0, 256, (ROWS, block), dtype=numpy.uint8)
    for at in SCALES[name]:
        scales = (random.standard_normal(ROWS) * 0.01).astype("<f2")
        rows[:, at:at + 2] = scales.view(numpy.uint8).reshape(ROWS, 2)
    return rows


def main():
    random = numpy.random.default_rng(1)
    DATA.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(DATA / "every_type.gguf", "none")
    elements = []
    for name in TYPES:
        kind, data = gguf.GGMLQuantizationType[name], stored(name, random)
        writer.add_tensor(name, data, raw_dtype=kind)
        elements.append(gguf.quants.dequantize(data, kind).astype("<f4").reshape(ROWS, COLUMNS))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (DATA / "every_type.f32").write_bytes(numpy.stack(elements).tobytes())


if __name__ == "__main__":
    main()
