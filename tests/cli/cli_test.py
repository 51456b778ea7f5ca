"""Calls `tilewise` and holds its answers to facts that were worked out elsewhere. Argument: the program."""

import json
import math
import os
import pathlib
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
import zlib

PROGRAM = sys.argv.pop(1)


def run(*arguments, **options):
    return subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, check=False, timeout=120, **options)


def answer(*arguments):
    result = run(*arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


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
                self.assertEqual(run("explain", "attention", "--queries", queries, "--keys", keys).returncode, 0)


class BenchAttention(unittest.TestCase):
    TINY = ("--queries", "64", "--dim", "16", "--seconds", "0", "--rounds", "1")

    def test_rows(self):
        told = answer("bench", "attention", *self.TINY, "--heads", "2", "--kv-heads", "1", "--variant", "causal()")
        self.assertEqual((told["heads"], told["kv_heads"], told["machine"]["threads"]), (2, 1, 1))
        self.assertEqual([(row["variant"], row["direction"]) for row in told["rows"]],
                         [("plain", "forward"), ("causal()", "forward"), ("plain", "backward"), ("causal()", "backward")])
        for row in told["rows"]:
            kept = 65 / 128 if row["variant"] == "causal()" else 1
            flops = 2 * (16 + 16) * 2 * 64 * 64 * kept * (2.5 if row["direction"] == "backward" else 1)
            self.assertEqual(row["entries_kept"], kept)
            self.assertEqual((row["dim"], row["queries"], row["keys"], row["tiles_kept"]), (16, 64, 64, 1))
            self.assertAlmostEqual(row["gflops_best"] * row["seconds_best"] * 1e9, flops, delta=1)
            self.assertLessEqual(row["seconds_best"], row["seconds_median"])
            self.assertGreaterEqual(row["turns"], 1)
            self.assertGreater(row["peak_gflops"], 0)

    def test_every_dtype_and_instruction_set(self):
        usable = [isa for isa in answer("device", "--no-measure")["instruction_sets"] if isa != "baseline"]
        for isa in usable:
            for dtype in ("float32", "float16", "bfloat16"):
                with self.subTest(isa, dtype=dtype):
                    told = answer("bench", "attention", *self.TINY, "--isa", isa, "--dtype", dtype, "--variant", "plain")
                    self.assertIn(told["rows"][0]["instruction_set"], usable[:usable.index(isa) + 1])

    def test_odd_sizes(self):
        for queries, keys in (("1", "1"), ("3", "130"), ("127", "5")):
            with self.subTest(queries=queries, keys=keys):
                rows = answer("bench", "attention", "--queries", queries, "--keys", keys, *self.TINY[2:])["rows"]
                self.assertEqual(rows[0]["keys"], int(keys))

    def test_tables_and_parameters(self):
        variant = "param size: real in [0, 9]; table b: float32[?]; score(s * size + b[head])"
        rows = answer("bench", "attention", *self.TINY, "--variant", variant, "--parameter", "size=2")["rows"]
        self.assertEqual(len(rows), 4)
        self.assertIn("--parameter size=NUMBER", run("bench", "attention", *self.TINY, "--variant", variant).stderr)
        stray = run("bench", "attention", *self.TINY, "--variant", variant, "--parameter", "sise=2")
        self.assertIn("no variant has a parameter 'sise'", stray.stderr)

    def test_processor_time_is_one_threads(self):
        told = answer("bench", "attention", *self.TINY, "--cpu-time")
        self.assertEqual(told["machine"]["clock"], "processor")
        result = run("bench", "attention", *self.TINY, "--cpu-time", "--threads", "2")
        self.assertEqual(result.returncode, 2)
        self.assertIn("--threads is 2, expected 1 with --cpu-time", result.stderr)

    def test_plots(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "attention.svg")
            result = run("bench", "attention", *self.TINY, "--plot", str(path))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertTrue(xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg"))
            self.assertEqual(run("bench", "attention", "--plot", f"{folder}/no/such.svg").returncode, 1)
            self.assertEqual([entry.name for entry in pathlib.Path(folder).iterdir()], ["attention.svg"])

    def test_refusals_come_before_any_work(self):
        for option, value in (("--queries", "0"), ("--keys", "-1"), ("--batch", "0"), ("--heads", "0"),
                              ("--kv-heads", "3"), ("--dim", "0"), ("--dtype", "float64"), ("--direction", "up"),
                              ("--seconds", "-1"), ("--rounds", "0"), ("--threads", "-1"), ("--isa", "sse9"),
                              ("--variant", "windw(3)"), ("--queries", "many"), ("--device", "gpu"),
                              ("--device", "cuda:x")):
            with self.subTest(option):
                result = run("bench", "attention", option, value)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn(value, result.stderr)
                self.assertNotIn("[1/", result.stderr)
                self.assertEqual(result.stdout, "")


class BenchFigure3(unittest.TestCase):
    TINY = ("--lengths", "64,256", "--dim", "16", "--seconds", "0", "--block", "64")

    def test_rows(self):
        told = answer("bench", "figure3", *self.TINY, "--heads", "2", "--threads", "2")
        self.assertEqual([row["length"] for row in told["rows"]], [64, 256])
        for row in told["rows"]:
            self.assertEqual(row["standard"]["extra_bytes"], 2 * 2 * 4 * row["length"] ** 2)
            for method in ("standard", "tilewise", "block_sparse"):
                self.assertGreater(row[method]["seconds_best"], 0)
                self.assertLessEqual(row[method]["seconds_best"], row[method]["seconds_median"])
        # Four blocks; each sees those that differ in no bit or in one.
        self.assertEqual(told["rows"][1]["block_sparse"]["tiles_kept"], 3 / 4)
        self.assertEqual(told["rows"][1]["tilewise"]["tiles_kept"], 1)

    def test_a_time_limit_leaves_out_what_would_take_longer(self):
        rows = answer("bench", "figure3", "--lengths", "64,1000000", "--seconds", "0", "--time-limit", "5")["rows"]
        self.assertIn("seconds_best", rows[0]["tilewise"])
        for method in ("tilewise", "block_sparse"):
            self.assertEqual(rows[1][method], {"skipped": "time limit"})
        self.assertIn(rows[1]["standard"]["skipped"], ("does not fit", "time limit"))

    def test_plots(self):
        with tempfile.TemporaryDirectory() as folder:
            png, svg = pathlib.Path(folder, "figure.png"), pathlib.Path(folder, "figure.svg")
            for path in (png, svg):
                result = run("bench", "figure3", *self.TINY, "--plot", str(path))
                self.assertEqual(result.returncode, 0, result.stderr)
                self.assertIn(str(path), result.stdout)
            self.assertEqual(png.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")
            self.assertTrue(xml.etree.ElementTree.parse(svg).getroot().tag.endswith("svg"))
            self.assertEqual(sorted(path.name for path in pathlib.Path(folder).iterdir()), ["figure.png", "figure.svg"])

    def test_a_plot_that_cannot_be_written_is_told_before_any_work(self):
        with tempfile.TemporaryDirectory() as folder:
            for path, status in ((f"{folder}/no/such/figure.png", 1), (f"{folder}/figure.gif", 2)):
                result = run("bench", "figure3", *self.TINY, "--plot", path)
                self.assertEqual(result.returncode, status)
                self.assertIn(path, result.stderr)
                self.assertNotIn("[1/", result.stderr)
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])

    def test_an_interrupted_run_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            process = subprocess.Popen([PROGRAM, "bench", "figure3", "--seconds", "60", "--plot", f"{folder}/figure.png"],
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            self.assertIn("128 tokens", process.stderr.readline())
            process.send_signal(signal.SIGINT)
            told, _ = process.communicate(timeout=60)
            self.assertNotEqual(process.returncode, 0)
            self.assertEqual(told, "")
            self.assertEqual(list(pathlib.Path(folder).iterdir()), [])

    def test_refusals_come_before_any_work(self):
        for option, value in (("--lengths", "0"), ("--lengths", "256,128"), ("--lengths", "99999999"), ("--dim", "0"),
                              ("--heads", "-1"), ("--block", "0"), ("--seconds", "-1"), ("--time-limit", "-1"),
                              ("--threads", "-3"), ("--isa", "sse9")):
            with self.subTest(option, value=value):
                result = run("bench", "figure3", option, value)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn(value.split(",")[-1], result.stderr)
                self.assertEqual(result.stdout, "")


class BenchCache(unittest.TestCase):
    def test_rows(self):
        told = answer("bench", "cache", "--page-tokens", "16,1,4")
        self.assertEqual([row["page_tokens"] for row in told["rows"]], [1, 4, 16])
        for row in told["rows"]:
            # Half a page a sequence, whose mean length is 1,024.5 tokens; that of 1,000 sequences is near it.
            self.assertAlmostEqual(row["pages_percent"] * 1024.5 / 100, (row["page_tokens"] - 1) / 2,
                                   delta=0.1 * row["page_tokens"])
            # Of the longest length half is unused on average; of a power of two between a half and nothing.
            self.assertAlmostEqual(row["stretch_percent"], 100, delta=10)
            self.assertAlmostEqual(row["doubling_percent"], 100 / 3, delta=5)
        self.assertEqual(told["rows"][0]["pages_percent"], 0)
        self.assertLess(told["rows"][2]["pages_percent"], 1)

    def test_plot_and_refusals(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "cache.svg")
            result = run("bench", "cache", "--sequences", "20", "--page-tokens", "1,16", "--plot", str(path))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(str(path), result.stdout)
            self.assertTrue(xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg"))
            self.assertEqual(run("bench", "cache", "--plot", f"{folder}/no/such.svg").returncode, 1)
        for option, value in (("--page-tokens", "0"), ("--sequences", "-1"), ("--longest", "1000001"), ("--seed", "-1")):
            with self.subTest(option):
                result = run("bench", "cache", option, value)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn(value, result.stderr)


class BenchSparse(unittest.TestCase):
    TINY = ("--dim", "16", "--seconds", "0")

    def test_rows(self):
        rows = answer("bench", "sparse", *self.TINY, "--lengths", "512,2048")["rows"]
        self.assertEqual([row["variant"] for row in rows], ["dense", "Longformer", "BigBird"] * 4)
        self.assertEqual([row["queries"] for row in rows], [512] * 6 + [2048] * 6)
        self.assertEqual([row["direction"] for row in rows], (["forward"] * 3 + ["backward"] * 3) * 2)
        for row in rows:
            self.assertAlmostEqual(row["time_of_share"] * row["tiles_kept"],
                                   row["seconds_best"] / next(one["seconds_best"] for one in rows if
                                                              one["variant"] == "dense" and
                                                              one["queries"] == row["queries"] and
                                                              one["direction"] == row["direction"]))
        # 32 blocks of 64: the first row and column whole, then a band of three and three random ones.
        bigbird = next(row for row in rows if row["variant"] == "BigBird" and row["queries"] == 2048)
        band = sum(min(i + 1, 31) - max(i - 1, 1) + 1 for i in range(1, 32))
        self.assertEqual(bigbird["tiles_kept"], (32 + 31 + band + 31 * 3) / 32**2)
        self.assertEqual(bigbird["entries_kept"], bigbird["tiles_kept"])

    def test_plots(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "sparse.svg")
            result = run("bench", "sparse", *self.TINY, "--lengths", "128,256", "--plot", str(path))
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertTrue(xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg"))
            self.assertEqual(run("bench", "sparse", "--plot", f"{folder}/no/such.svg").returncode, 1)
            self.assertEqual([entry.name for entry in pathlib.Path(folder).iterdir()], ["sparse.svg"])

    def test_refusals_come_before_any_work(self):
        for option, value in (("--lengths", "0"), ("--lengths", "512,128"), ("--lengths", "1048577"), ("--dim", "0"),
                              ("--heads", "0"), ("--dtype", "float64"), ("--seconds", "-1"), ("--threads", "-3")):
            with self.subTest(option, value=value):
                result = run("bench", "sparse", option, value)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn(value.split(",")[-1], result.stderr)
                self.assertNotIn("[1/", result.stderr)


class Refusals(unittest.TestCase):
    def test_a_caret_marks_the_place(self):
        result = run("explain", "attention", "--variant", "keep(query >= kay)")
        self.assertEqual(result.returncode, 2)
        lines = result.stderr.splitlines()
        shown = next(i for i, line in enumerate(lines) if "keep(query >= kay)" in line)
        self.assertEqual(lines[shown + 1].index("^"), lines[shown].index("kay"))
        self.assertIn("did you mean 'key'", result.stderr)

    def test_wrong_words(self):
        for arguments, hint in ((["varaints"], "'variants'"), (["explain", "sofmax"], "'softmax'"),
                                (["variants", "causl"], "'causal'"), (["explain", "softmax", "--blok", "2"], "'--block'"),
                                (["explain", "attention", "--variant", "windw(3)"], "'window'")):
            with self.subTest(arguments):
                result = run(*arguments)
                self.assertEqual(result.returncode, 2)
                self.assertIn(f"did you mean {hint}", result.stderr)
                self.assertEqual(result.stdout, "")

    def test_wrong_sizes(self):
        for option, value in (("--queries", "-1"), ("--keys", "-1"), ("--batch", "0"), ("--heads", "0"),
                              ("--kv-heads", "3"), ("--kv-heads", "0"), ("--tile-keys", "0"), ("--head", "8"),
                              ("--sequence", "1"), ("--dim", "0"), ("--dim-v", "-1"), ("--dtype", "float31"),
                              ("--queries", "many")):
            with self.subTest(option):
                result = run("explain", "attention", option, value)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn(value, result.stderr)

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            result = subprocess.run([PROGRAM, "variants"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("standard output", result.stderr)


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


class Compile(unittest.TestCase):
    """Needs NVRTC, as TILEWISE_NVRTC names it; TILEWISE_REQUIRE_NVRTC=1 insists on it."""

    WHAT = ("--gpu", "sm_90a,sm_80", "--variant", "causal()", "--dim", "16")

    def compile(self, folder):
        result = run("compile", str(folder), *self.WHAT, "--json")
        if result.returncode != 0 and "NVRTC" in result.stderr and "TILEWISE_REQUIRE_NVRTC" not in os.environ:
            self.skipTest(result.stderr.splitlines()[0])
        self.assertEqual(result.returncode, 0, result.stderr)
        return json.loads(result.stdout)["kernels"]

    def test_a_folder_is_filled_once(self):
        with tempfile.TemporaryDirectory() as parent:
            folder = pathlib.Path(parent, "kernels")
            first = self.compile(folder)
            self.assertEqual({kernel["architecture"] for kernel in first}, {"sm_90a", "sm_80"})
            self.assertLessEqual({"write", "gather", "classify", "order", "forward"},
                                 {kernel["kernel"] for kernel in first})
            files = sorted(path.name for path in folder.rglob("*.kernel"))
            self.assertGreaterEqual(len(files), 6)  # three programs, two architectures
            again = self.compile(folder)
            self.assertEqual([kernel["kernel"] for kernel in first], [kernel["kernel"] for kernel in again])
            self.assertEqual({kernel["seconds"] for kernel in again}, {0})
            self.assertEqual(files, sorted(path.name for path in folder.rglob("*.kernel")))

    def test_refusals(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, part in ((("--gpu", "hopper"), "hopper"), (("--dtype", "float64"), "float64"),
                                    (("--dim", "12"), "12"), (("--variant", "windw(3)"), "windw")):
                with self.subTest(part):
                    result = run("compile", folder, *arguments)
                    self.assertIn(result.returncode, (1, 2))
                    self.assertIn(part, result.stderr)


class Tune(unittest.TestCase):
    def test_refusals(self):
        for arguments, part in ((("--device", "cpu"), "cuda"), (("--variant", "windw(3)"), "windw"),
                                (("--dtype", "float7"), "float7"), (("--device", "cuda:99"), "GPU")):
            with self.subTest(part):
                result = run("tune", "--dim", "64", *arguments)
                self.assertIn(result.returncode, (1, 2))
                self.assertIn(part, result.stderr)
                self.assertEqual(result.stdout, "")


class Others(unittest.TestCase):
    def test_device(self):
        told = answer("device", "--no-measure")
        self.assertGreaterEqual(told["processors"], 1)
        self.assertIn("baseline", told["instruction_sets"])
        self.assertEqual([gpu["multiprocessors"] for gpu in told["known_gpus"]], [108, 132, 132])
        self.assertNotIn("measured", told)

    def test_help_has_examples(self):
        for command in ([], ["explain", "softmax"], ["explain", "attention"], ["variants"], ["device"],
                        ["bench", "attention"], ["bench", "figure3"], ["bench", "sparse"], ["inspect"], ["compile"], ["tune"]):
            with self.subTest(command):
                result = run(*command, "--help")
                self.assertEqual(result.returncode, 0)
                self.assertIn("tilewise ", result.stdout.split("Examples:")[-1].split("Start here:")[-1])

    def test_variants_have_everything(self):
        for entry in answer("variants"):
            for field in ("summary", "source", "mathematics", "example"):
                self.assertTrue(entry[field], entry["name"])


if __name__ == "__main__":
    unittest.main()
