"""tools/count_tests reads ctest's report and never calls a run with failures, or without tests, a success."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

COUNT_TESTS = pathlib.Path(__file__).resolve().parents[2] / "tools/count_tests"


def count(attributes):
    """The exit code and output for a report whose suite has these attributes."""
    with tempfile.NamedTemporaryFile("w", suffix=".xml") as report:
        report.write(f"<testsuite name='any' {attributes}></testsuite>")
        report.flush()
        done = subprocess.run([sys.executable, COUNT_TESTS, report.name], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


class CountTests(unittest.TestCase):
    def test_all_passed(self):
        self.assertEqual(count("tests='7' failures='0' disabled='0' skipped='0'"), (0, "7 passed, 0 failed\n"))

    def test_a_failure_fails(self):
        self.assertEqual(count("tests='7' failures='2' disabled='0' skipped='0'"), (1, "5 passed, 2 failed\n"))

    def test_skipped_and_disabled_tests_did_not_pass(self):
        expected = (0, "4 passed, 0 failed, 3 skipped\n")
        self.assertEqual(count("tests='7' failures='0' disabled='1' skipped='2'"), expected)

    def test_no_tests_fails(self):
        self.assertEqual(count("tests='0' failures='0' disabled='0' skipped='0'"), (1, "0 passed, 0 failed\n"))

    def test_a_missing_report_fails(self):
        done = subprocess.run([sys.executable, COUNT_TESTS, "/nonexistent"], capture_output=True, check=False)
        self.assertNotEqual(done.returncode, 0)


if __name__ == "__main__":
    unittest.main()
