"""`tilewise bench`: what it measures adds up, draws and refuses. Argument: the program."""

import pathlib
import resource
import signal
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

from program import PROGRAM, answer, run


def can_start(address_space):
    limits = (address_space, address_space)
    return run("device", "--no-measure", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, limits)).returncode == 0


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

    def test_too_many_threads(self):
        for threads in ("-1", "1025"):
            result = run("bench", "attention", *self.TINY, "--threads", threads)
            self.assertEqual(result.returncode, 2)
            self.assertIn(f"--threads is {threads}, expected 0 to 1024", result.stderr)

    def test_threads_that_the_system_does_not_start(self):
        """Stacks of 8 MiB do not fit. Those that were started must not wait for the others for ever."""
        most = 1 << 31
        if not can_start(most):
            self.skipTest("the program needs more address space, as with a sanitizer")
        result = run("bench", "attention", *self.TINY, "--threads", "1000",
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)))
        self.assertEqual(result.returncode, 1)
        self.assertIn("1000 threads could not be started", result.stderr)

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
                self.assertGreaterEqual(row[method]["measured_bytes"], 0)
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


if __name__ == "__main__":
    unittest.main()
