"""What bench/record_cpu refuses, before it measures anything."""

import pathlib
import subprocess
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Refusals(unittest.TestCase):
    def expect_refused(self, part, *arguments):
        result = subprocess.run([sys.executable, ROOT / "bench/record_cpu", *arguments], capture_output=True, text=True,
                                check=False)
        self.assertEqual(result.returncode, 2, result.stderr)
        self.assertIn(part, result.stderr)
        self.assertNotIn("Traceback", result.stderr)

    def test_parts(self):
        self.expect_refused("there is no part 'speed', expected attention, zoo, figure3, sparse, torch", "speed")

    def test_cores(self):
        self.expect_refused("--core is 100000; expected one that this process may use: ", "--core", "100000")

    def test_a_python_with_torch(self):
        self.expect_refused("part torch needs --torch PYTHON", "torch")
        for python in ("/nowhere/python", "/bin/false"):
            self.expect_refused(f"--torch is {python}; expected a Python that can import torch", "torch", "--torch", python)


if __name__ == "__main__":
    unittest.main()
