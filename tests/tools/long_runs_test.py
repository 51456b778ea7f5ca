"""The scripts of long runs refuse what they cannot run before they install or build anything."""

import os
import pathlib
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Refusals(unittest.TestCase):
    def expect_refused(self, message, script, *arguments, **environment):
        result = subprocess.run([ROOT / "tools" / script, *arguments], capture_output=True, text=True, check=False,
                                timeout=60, env={**os.environ, **environment})
        self.assertEqual((result.returncode, result.stdout), (2, ""))
        self.assertIn(message, result.stderr)

    def test_numbers(self):
        self.expect_refused("calls is 'many'; expected a whole number", "attention_long", "many")
        self.expect_refused("seed is '-1'; expected a whole number", "attention_long", "10", "-1")
        self.expect_refused("TILEWISE_FUZZ_INPUTS is '1e6'; expected", "fuzz_long", TILEWISE_FUZZ_INPUTS="1e6")

    def test_presets(self):
        self.expect_refused("there is no preset 'asn' to run tests under; expected asan, tsan,", "sanitize", "asn")


if __name__ == "__main__":
    unittest.main()
