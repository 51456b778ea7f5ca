"""tools/check_layers passes on this tree and fails on every kind of include against the ranks."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def run_on(root):
    """The exit code and the lines printed."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "tools/check_layers", root], capture_output=True, text=True, check=False
    )
    assert not done.stderr, done.stderr
    return done.returncode, done.stdout.splitlines()


class CheckLayers(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = pathlib.Path(folder.name).resolve()

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def assert_passes(self):
        self.assertEqual(run_on(self.root), (0, []))

    def assert_breach(self, place, rule):
        """Exactly one breach, at that file:line, whose message holds `rule`."""
        code, lines = run_on(self.root)
        self.assertEqual(code, 1)
        self.assertEqual(len(lines), 2, lines)
        self.assertTrue(lines[0].startswith(place + ":"), lines[0])
        self.assertIn(rule, lines[0])

    def test_this_tree_passes(self):
        self.assertEqual(run_on(REPOSITORY), (0, []))

    def test_includes_along_the_arrows_pass(self):
        self.write("include/tilewise/error.h", "#include <string>\n")
        self.write("src/core/fail.h", '#include <fmt/format.h>\n#include "tilewise/error.h"\n')
        self.write("src/tiles/walk.cc", '#include "core/fail.h"\n#include "tiles/box.h"\n#include "variant/graph.h"\n')
        self.write("apps/cli/table.h", "")
        self.write("apps/cli/main.cc", '#include "table.h"\n#include "tilewise/error.h"\n')
        self.assert_passes()

    def test_upwards_fails_with_file_line_and_rule(self):
        self.write("src/core/fail.h", '#pragma once\n\n#include "variant/graph.h"\n')
        self.assert_breach("src/core/fail.h:3", "core includes only include, core")

    def test_sideways_fails(self):
        self.write("src/reference/oracle.cc", '#include "tiles/walk.h"\n')
        self.assert_breach("src/reference/oracle.cc:1", "reference includes only")

    def test_angle_brackets_do_not_hide_a_breach(self):
        self.write("src/core/fail.h", "#  include <variant/graph.h>\n")
        self.assert_breach("src/core/fail.h:1", "core includes only")

    def test_a_relative_path_does_not_hide_a_breach(self):
        self.write("src/variant/graph.h", "")
        self.write("src/core/fail.h", '#include "../variant/graph.h"\n')
        self.assert_breach("src/core/fail.h:1", "core includes only")

    def test_public_headers_include_no_source(self):
        self.write("include/tilewise/variant.h", '#include "core/fail.h"\n')
        self.assert_breach("include/tilewise/variant.h:1", "include includes only include")

    def test_apps_include_public_headers_only(self):
        self.write("apps/cli/main.cc", '#include "core/fail.h"\n')
        self.assert_breach("apps/cli/main.cc:1", "apps includes only include, apps")

    def test_one_app_does_not_include_another(self):
        self.write("apps/server/http.h", "")
        self.write("apps/cli/main.cc", '#include "../server/http.h"\n')
        self.assert_breach("apps/cli/main.cc:1", "apps/cli does not include apps/server")

    def test_python_includes_public_headers_only(self):
        self.write("python/module.cc", '#include "attention/plan.h"\n')
        self.assert_breach("python/module.cc:1", "python includes only include, python")

    def test_device_code_includes_itself(self):
        self.write("src/cuda/device/mma.cuh", "")
        self.write("src/cuda/device/forward.cu", '#include "cuda/device/mma.cuh"\n#include "mma.cuh"\n')
        self.assert_passes()

    def test_device_code_includes_no_other_layer(self):
        self.write("src/cuda/device/forward.cu", '#include "core/philox.h"\n')
        self.assert_breach("src/cuda/device/forward.cu:1", "src/cuda/device includes nothing outside")

    def test_device_code_includes_no_other_part_of_cuda(self):
        self.write("src/cuda/plan/tile_choice.h", "")
        self.write("src/cuda/device/forward.cu", '#include "cuda/plan/tile_choice.h"\n')
        self.assert_breach("src/cuda/device/forward.cu:1", "src/cuda/device includes nothing outside")

    def test_device_code_includes_no_system_header(self):
        self.write("src/cuda/device/forward.cu", "#include <cstdint>\n")
        self.assert_breach("src/cuda/device/forward.cu:1", "src/cuda/device includes nothing outside")

    def test_a_folder_without_a_rank_fails(self):
        self.write("src/helpers/all.h", "")
        self.assert_breach("src/helpers/all.h:1", "has no rank")

    def test_an_include_of_a_folder_without_a_rank_fails(self):
        (self.root / "src/helpers").mkdir(parents=True)
        self.write("src/core/fail.h", '#include "helpers/all.h"\n')
        self.assert_breach("src/core/fail.h:1", "core includes only")

    def test_quotes_are_for_files_of_the_tree(self):
        self.write("src/core/fail.h", '#include "fmt/format.h"\n')
        self.assert_breach("src/core/fail.h:1", "no file of this tree")

    def test_an_include_by_macro_fails(self):
        self.write("src/core/fail.h", "#include TILEWISE_CONFIG\n")
        self.assert_breach("src/core/fail.h:1", "macro")

    def test_the_build_follows_the_ranks(self):
        self.write("src/tiles/CMakeLists.txt", "tilewise_add_layer(tiles SOURCES walk.cc DEPENDS variant)\n")
        self.assert_passes()
        self.write("src/tiles/CMakeLists.txt", "\ntilewise_add_layer(tiles\n  DEPENDS cpu SOURCES walk.cc)\n")
        self.assert_breach("src/tiles/CMakeLists.txt:2", "DEPENDS cpu")


if __name__ == "__main__":
    unittest.main()
