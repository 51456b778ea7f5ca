"""`tilewise explain` against facts that were worked out elsewhere. Argument: the program."""

import math
import pathlib
import resource
import signal
import struct
import tempfile
import unittest
import xml.etree.ElementTree
import zlib

from program import answer, run


def png_pixels(path):
    """Size and palette indices of an 8-bit palette PNG without interlace."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert (depth, kind) == (8, 3)
    body, at = b"", 8
    while at < len(data):
        size, name = struct.unpack(">I4s", data[at:at + 8])
        if name == b"IDAT":
            body += data[at + 8:at + 8 + size]
        at += size + 12
    raw = zlib.decompress(body)
    rows = [raw[y * (width + 1):(y + 1) * (width + 1)] for y in range(height)]
    assert all(row[0] == 0 for row in rows), "a filtered row"
    return width, height, [row[1:] for row in rows]


class ExplainSoftmax(unittest.TestCase):
    def test_worked_example(self):
        blocks = answer("explain", "softmax")["example"]["blocks"]
        q, k, v = 1, [1, 2, 3], [2, 4, 8]
        for seen, block in enumerate(blocks, start=1):
            maximum = max(q * key for key in k[:seen])
            weights = [math.exp(q * key - maximum) for key in k[:seen]]
            self.assertAlmostEqual(block["denominator"], sum(weights), places=5)
            numerator = sum(w * value for w, value in zip(weights, v))
            self.assertAlmostEqual(block["numerator"][0], numerator, places=5)
            self.assertAlmostEqual(block["output"][0], numerator / sum(weights), places=5)
        self.assertEqual(len(blocks), 3)

    def test_ladder(self):
        steps = {step["step"]: step for step in answer("explain", "softmax", "--queries", "64", "--keys", "96")["steps"]}
        self.assertEqual(list(steps), ["plain_sums", "maximum_first", "online", "chunks", "tiled"])
        self.assertGreater(steps["plain_sums"]["non_finite_large_scores"], 0)
        self.assertIsNone(steps["plain_sums"]["largest_error_large_scores"])
        for name in list(steps)[1:]:
            self.assertEqual(steps[name]["non_finite_large_scores"], 0)
        self.assertLess(steps["tiled"]["bytes_read"], steps["chunks"]["bytes_read"] / 10)

    def test_text_has_every_step(self):
        text = run("explain", "softmax").stdout
        for word in ("plain_sums", "tiled", "Q = [1]", "6.4809", "FlashAttention"):
            self.assertIn(word, text)


class ExplainAttention(unittest.TestCase):
    def test_causal_tiles(self):
        told = answer("explain", "attention", "--variant", "causal", "--queries", "1024", "--tile-queries", "64",
                      "--tile-keys", "64")
        self.assertEqual((told["tiles"]["empty"], told["tiles"]["partial"], told["tiles"]["full"]), (120, 16, 120))
        self.assertEqual(told["entries"], {"least": 1024 * 1025 // 2, "most": 1024 * 1025 // 2, "all": 1024 * 1024})

    def test_traffic_of_plain_attention(self):
        told = answer("explain", "attention", "--queries", "256", "--keys", "512", "--heads", "2", "--dim", "64",
                      "--dtype", "float32")
        scores = 256 * 512
        self.assertEqual(told["traffic"]["forward"]["standard"]["read"], 2 * 4 * (256 * 64 + 2 * 512 * 64 + 2 * scores))
        self.assertEqual(told["traffic"]["forward"]["tiled"]["read"], 2 * 4 * (256 * 64 + 2 * 2 * 512 * 64))

    def test_every_named_variant(self):
        for entry in answer("variants"):
            with self.subTest(entry["name"]):
                told = answer("explain", "attention", "--variant", entry["example"], "--queries", "256", "--heads", "4")
                tiles = told["tiles"]
                self.assertEqual(tiles["empty"] + tiles["partial"] + tiles["full"], tiles["rows"] * tiles["columns"])
                self.assertEqual(len(told["key"]), 32)

    def test_tables_are_told_of(self):
        text = run("explain", "attention", "--variant", "table b: float32[?]; score(s + b[head])").stdout
        self.assertIn("table float32 b [8] is to be bound", text)

    def test_parameters(self):
        variant = "param size: int in [1, 4096]; keep(query - key < size and query >= key)"
        told = answer("explain", "attention", "--variant", variant, "--parameter", "size=1", "--queries", "100")
        self.assertEqual(told["entries"]["least"], 100)
        self.assertIn("--parameter size=NUMBER", run("explain", "attention", "--variant", variant).stderr)
        self.assertIn("'x' is not a number",
                      run("explain", "attention", "--variant", variant, "--parameter", "size=x").stderr)

    def test_parameters_are_given_once(self):
        variant = "param size: int in [1, 4096]; keep(query - key < size)"
        for given, told in ((["size=1", "size=2"], "'size' has a value already"),
                            (["size=1", "sise=2"], "no parameter 'sise'"), (["size"], "expected NAME=VALUE"),
                            (["size=0"], "expected 1 to 4096")):
            with self.subTest(given):
                options = [word for assignment in given for word in ("--parameter", assignment)]
                result = run("explain", "attention", "--variant", variant, *options)
                self.assertEqual(result.returncode, 2)
                self.assertIn(told, result.stderr)

    def test_reads_outside_of_a_table_are_refused(self):
        for variant in ("table b: float32[2] = [1, 2]; score(s + b[query])",
                        "table b: float32[?]; score(s + b[query - key])"):
            with self.subTest(variant):
                result = run("explain", "attention", "--variant", variant)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn("table 'b'", result.stderr)

    def test_plots(self):
        with tempfile.TemporaryDirectory() as folder:
            png, svg = pathlib.Path(folder, "map.png"), pathlib.Path(folder, "map.svg")
            for path in (png, svg):
                result = run("explain", "attention", "--variant", "causal()", "--queries", "512", "--plot", str(path))
                self.assertEqual(result.returncode, 0, result.stderr)
            width, height, rows = png_pixels(png)
            self.assertEqual((width, height), (128, 128))  # 4 x 4 tiles of 32 pixels
            tiles = [[rows[y * 32][x * 32] for x in range(4)] for y in range(4)]
            self.assertEqual(tiles, [[2 if x < y else 1 if x == y else 0 for x in range(4)] for y in range(4)])
            self.assertTrue(xml.etree.ElementTree.parse(svg).getroot().tag.endswith("svg"))
            self.assertEqual(sorted(path.name for path in pathlib.Path(folder).iterdir()), ["map.png", "map.svg"])

    def test_a_plot_that_cannot_be_written_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            missing = run("explain", "attention", "--plot", f"{folder}/no/such/map.png")
            self.assertEqual(missing.returncode, 1)
            self.assertIn("could not be opened", missing.stderr)
            self.assertEqual(run("explain", "attention", "--plot", f"{folder}/map.gif").returncode, 2)

            def small_files():  # as on a full disk: writes beyond 1 KiB fail
                resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

            full = run("explain", "attention", "--variant", "causal & keep(query % 7 != key % 5)", "--queries", "9999",
                       "--plot", f"{folder}/map.svg", preexec_fn=small_files)
            self.assertEqual(full.returncode, 1, full.stderr)
            self.assertIn("could not be written", full.stderr)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])

    def test_empty_and_odd_sizes(self):
        for queries, keys in (("0", "0"), ("1", "1"), ("127", "129"), ("5", "0")):
            with self.subTest(queries=queries, keys=keys):
                sizes = ("--queries", queries, "--keys", keys)
                self.assertEqual(run("explain", "attention", *sizes).returncode, 0)
                self.assertEqual(run("explain", "attention", *sizes, "--device", "cpu", "--backward").returncode, 0)


if __name__ == "__main__":
    unittest.main()
