"""tools/generate_zoo: the committed files are fresh, stale ones are told, and headers that say too little are refused."""

import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]

WINDOW = """\
#pragma once

namespace tilewise::zoo {

/// Sliding window.
///
///     keep(0 <= query - key
///          and query - key < size)
///
/// `size`: at least 1.
///
/// Source: "Longformer" (Beltagy et al. 2020)
/// Example: window(1024)
Variant window(std::int32_t size = 4, const std::vector<std::int32_t>& shape = {1, 2},
               bool wide = true) {
  return {};
}

}  // namespace tilewise::zoo
"""

TABLE_FACE = """\
/// The same with a table.
Variant window(const Table& sizes) {
  return {};
}

"""


def run_on(root, *options):
    """The exit code and what was printed."""
    done = subprocess.run([sys.executable, REPOSITORY / "tools/generate_zoo", *options, root], capture_output=True,
                          text=True, check=False)
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout


class GenerateZoo(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()
        (self.root / "include/tilewise").mkdir(parents=True)
        (self.root / "src/variant/zoo/common").mkdir(parents=True)

    def write(self, text, name="window.h"):
        (self.root / "src/variant/zoo" / name).write_text(text, encoding="utf-8")

    def read(self, path):
        return (self.root / path).read_text(encoding="utf-8")

    def assert_refused(self, text, reason):
        self.write(text)
        code, printed = run_on(self.root)
        self.assertEqual(code, 1)
        self.assertIn(f"window.h: {reason}", printed)
        self.assertFalse((self.root / "include/tilewise/zoo.h").exists())

    def test_this_trees_files_are_fresh(self):
        self.assertEqual(run_on(REPOSITORY, "--check"), (0, ""))

    def test_check_tells_what_is_missing_and_what_is_stale(self):
        self.write(WINDOW)
        code, printed = run_on(self.root, "--check")
        self.assertEqual(code, 1)
        self.assertEqual(len(printed.splitlines()), 4)
        self.assertFalse((self.root / "include/tilewise/zoo.h").exists())
        self.assertEqual(run_on(self.root)[0], 0)
        self.assertEqual(run_on(self.root, "--check"), (0, ""))
        self.write(WINDOW.replace("Sliding", "Gliding"))
        code, printed = run_on(self.root, "--check")
        self.assertEqual(code, 1)
        self.assertIn("include/tilewise/zoo.h", printed)
        self.assertIn("src/variant/zoo/registry.cc", printed)

    def test_header_keeps_comment_and_signature(self):
        self.write(WINDOW)
        run_on(self.root)
        comment = WINDOW[WINDOW.index("///"):WINDOW.index("Variant")]
        self.assertIn(comment + "Variant window(std::int32_t size = 4, const std::vector<std::int32_t>& shape = {1, 2},\n"
                      "               bool wide = true);\n", self.read("include/tilewise/zoo.h"))

    def test_registry_holds_texts_arguments_and_call(self):
        self.write(WINDOW)
        run_on(self.root)
        registry = self.read("src/variant/zoo/registry.cc")
        self.assertIn('.summary = "Sliding window."', registry)
        self.assertIn(r'.source = "\"Longformer\" (Beltagy et al. 2020)"', registry)
        joined = re.sub(r'"\s*"', "", registry)
        self.assertIn(r'.mathematics = "keep(0 <= query - key\n     and query - key < size)"', joined)
        self.assertIn('.example = "window(1024)"', registry)
        self.assertIn('{"size", ArgumentKind::integer, true, double{4}}', registry)
        self.assertIn('{"shape", ArgumentKind::integers, true, std::vector<std::int32_t>{1, 2}}', registry)
        self.assertIn('{"wide", ArgumentKind::integer, true, 1.0}', registry)
        call = " ".join(registry[registry.index("return window("):].split(";")[0].split())
        self.assertEqual(call, 'return window(integer(given[0], "window", "size"), integers(given[1], "window", "shape"), '
                         'flag(given[2], "window", "wide"))')

    def test_entries_are_sorted_by_name(self):
        self.write(WINDOW)
        self.write(WINDOW.replace("window(", "axial("), "axial.h")
        run_on(self.root)
        registry = self.read("src/variant/zoo/registry.cc")
        self.assertLess(registry.index('.name = "axial"'), registry.index('.name = "window"'))

    def test_table_face_is_public_but_no_entry(self):
        self.write(WINDOW.replace("/// Sliding", TABLE_FACE + "/// Sliding"))
        run_on(self.root)
        self.assertIn("Variant window(const Table& sizes);", self.read("include/tilewise/zoo.h"))
        self.assertEqual(self.read("src/variant/zoo/registry.cc").count(".name ="), 1)

    def test_long_texts_are_cut_without_loss(self):
        sentence = "Word " * 21 + '"quoted".'
        self.write(WINDOW.replace("Sliding window.", sentence))
        run_on(self.root)
        joined = re.sub(r'"\n\s*"', "", self.read("src/variant/zoo/registry.cc"))
        self.assertIn('.summary = "' + sentence.replace('"', '\\"') + '"', joined)

    def test_headers_that_say_too_little_are_refused(self):
        self.assert_refused(WINDOW.replace("Variant window", "Variant pane"), "expected one documented function")
        self.assert_refused(WINDOW.replace("Sliding window.\n", "Sliding\n/// window.\n"), "the comment begins with one line")
        self.assert_refused(re.sub("///  +", "/// ", WINDOW), "the comment states no mathematics")
        self.assert_refused(WINDOW.replace("/// Source: ", "/// From "), "expected one line 'Source: ...'")
        self.assert_refused(WINDOW.replace(" 2020", ""), "the source names no year")
        self.assert_refused(WINDOW.replace("/// Example: window(1024)\n", ""), "expected one line 'Example: ...'")
        self.assert_refused(WINDOW.replace("Example: window", "Example: pane"), "the example is 'pane(1024)'")
        self.assert_refused(WINDOW.replace("bool wide = true", "float wide"), "parameter 'float wide'")
        self.assert_refused(WINDOW.replace("/// Sliding", TABLE_FACE.replace("const Table& sizes", "bool b") + "/// Sliding"),
                            "expected one documented function")


if __name__ == "__main__":
    unittest.main()
