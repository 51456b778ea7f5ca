"""`tilewise inspect` on files whose bytes are written here. Argument: the program."""

import json
import pathlib
import struct
import tempfile
import unittest

from program import answer, run


def safetensors_file(header, data=b""):
    encoded = json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def gguf_text(text):
    return struct.pack("<Q", len(text)) + text


class Inspect(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name) / "model"

    def test_safetensors(self):
        self.file.write_bytes(safetensors_file(
            {"__metadata__": {"format": "pt"}, "a.w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}},
            bytes(12)))
        told = answer("inspect", self.file)
        self.assertEqual((told["format"], told["parameters"]), ("safetensors", 6))
        self.assertEqual(told["settings"], [{"name": "format", "type": "string", "value": "pt"}])
        tensor = told["tensors"][0]
        self.assertEqual((tensor["name"], tensor["storage"], tensor["shape"], tensor["bytes"]),
                         ("a.w", "bfloat16", [2, 3], 12))
        self.assertEqual(tensor["offset"] + 12, self.file.stat().st_size)
        self.assertIn("a.w", run("inspect", self.file).stdout)

    def test_gguf(self):
        settings = [(b"general.architecture", struct.pack("<I", 8) + gguf_text(b"llama")),
                    (b"x", struct.pack("<IIQ8I", 9, 4, 8, *range(8))),
                    (b"eps", struct.pack("<If", 6, 1e-5))]
        file = b"GGUF" + struct.pack("<IQQ", 3, 1, len(settings))
        file += b"".join(gguf_text(key) + value for key, value in settings)
        file += gguf_text(b"w") + struct.pack("<IQQIQ", 2, 32, 2, 8, 0)
        file += bytes(-len(file) % 32)
        self.file.write_bytes(file + bytes(68))
        told = answer("inspect", self.file)
        self.assertEqual((told["format"], told["architecture"]), ("GGUF version 3", "llama"))
        self.assertEqual([setting["value"] for setting in told["settings"]],
                         ["llama", "8 elements: 0, 1, 2, 3, 4, 5, ...", "1e-05"])
        self.assertEqual(told["settings"][1]["type"], "array of uint32")
        self.assertEqual(told["tensors"], [{"name": "w", "storage": "q8_0", "shape": [2, 32], "offset": len(file),
                                            "bytes": 68}])

    def test_text_from_a_file_does_not_steer_the_terminal(self):
        self.file.write_bytes(safetensors_file({"\x1b[2J\x9b\n": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}}))
        text = run("inspect", self.file).stdout
        for character in "\x1b\x9b":
            self.assertNotIn(character, text)

    def test_damaged_files_are_errors(self):
        for content, told in ((b"", "neither GGUF"), (b"hello", "neither GGUF"), (b"GGUF\3\0\0\0", "past the end"),
                              (safetensors_file({"a": 1}), "expected an object")):
            with self.subTest(content):
                self.file.write_bytes(content)
                result = run("inspect", self.file)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn(told, result.stderr)
                self.assertIn(str(self.file), result.stderr)
        result = run("inspect", self.file.parent / "none")
        self.assertEqual(result.returncode, 1)
        self.assertIn("No such file", result.stderr)


if __name__ == "__main__":
    unittest.main()
