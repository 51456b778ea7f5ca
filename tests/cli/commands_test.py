"""The other commands of `tilewise`, their help, and what all of them refuse. Argument: the program."""

import json
import os
import pathlib
import subprocess
import tempfile
import unittest

from program import PROGRAM, answer, run


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

    def test_a_damaged_entry_is_made_anew(self):
        with tempfile.TemporaryDirectory() as parent:
            folder = pathlib.Path(parent, "kernels")
            first = self.compile(folder)
            files = sorted(folder.rglob("*.kernel"))
            files[0].write_bytes(files[0].read_bytes()[:100])
            files[1].write_bytes(bytes(files[1].stat().st_size))
            again = self.compile(folder)
            self.assertEqual([kernel["kernel"] for kernel in first], [kernel["kernel"] for kernel in again])
            self.assertNotEqual({kernel["seconds"] for kernel in again}, {0})
            self.assertEqual(sorted(folder.rglob("*.kernel")), files)
            self.assertEqual({kernel["seconds"] for kernel in self.compile(folder)}, {0})

    def test_a_folder_that_cannot_be_filled(self):
        with tempfile.TemporaryDirectory() as parent:
            path = pathlib.Path(parent, "file")
            path.write_text("no folder")
            result = run("compile", str(path), *self.WHAT)
            self.assertEqual(result.returncode, 1)
            if "NVRTC" not in result.stderr:
                self.assertIn(f"{path} cannot be filled", result.stderr)
                self.assertIn("Not a directory", result.stderr)

    def test_refusals(self):
        with tempfile.TemporaryDirectory() as folder:
            for arguments, part in ((("--gpu", "hopper"), "hopper"), (("--dtype", "float64"), "float64"),
                                    (("--dim", "12"), "12"), (("--variant", "windw(3)"), "windw"),
                                    (("--heads", "0"), "--heads is 0, expected at least 1\n")):
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

    def test_unknown_words_are_named(self):
        for arguments, part in ((["foo"], "'foo' is not known here; expected one of explain, bench,"),
                                (["explain", "foo"], "'foo' is not known here; expected one of softmax, attention"),
                                (["embed", "--model", "m", "--text"], "'text' is given without a name")):
            with self.subTest(arguments):
                result = run(*arguments)
                self.assertEqual(result.returncode, 2)
                self.assertIn(part, result.stderr)

    def test_wrong_sizes(self):
        for option, value in (("--queries", "-1"), ("--keys", "-1"), ("--batch", "0"), ("--heads", "0"),
                              ("--kv-heads", "3"), ("--kv-heads", "0"), ("--tile-keys", "0"), ("--head", "8"),
                              ("--sequence", "1"), ("--dim", "0"), ("--dim-v", "-1"), ("--dtype", "float31"),
                              ("--queries", "many"), ("--queries", "99999999999999999999")):
            with self.subTest(option):
                result = run("explain", "attention", option, value)
                self.assertEqual(result.returncode, 2, result.stdout)
                self.assertIn(value, result.stderr)

    def test_what_is_no_number_is_told(self):
        for arguments, told in ((("--queries", "many"), "--queries: 'many' is not a whole number"),
                                (("--queries", "2.5"), "--queries: '2.5' is not a whole number"),
                                (("--dim", "64,8x"), "--dim: '8x' is not a whole number"),
                                (("--dim", ""), "--dim: '' is not a whole number"),
                                (("--seconds", "1s"), "--seconds: '1s' is not a number")):
            with self.subTest(arguments):
                result = run("bench", "attention", *arguments)
                self.assertEqual(result.returncode, 2)
                self.assertIn(told, result.stderr)

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            result = subprocess.run([PROGRAM, "variants"], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        self.assertEqual(result.returncode, 1)
        self.assertIn("standard output", result.stderr)


if __name__ == "__main__":
    unittest.main()
