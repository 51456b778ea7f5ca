"""`pip install .` in a fresh virtual environment, then the README's tour as written."""

import os
import pathlib
import subprocess
import sys
import sysconfig

import pytest
from conftest import REPOSITORY, python_of

pytest.importorskip("scikit_build_core")
pytest.importorskip("torch")


def run(*command, **options):
    done = subprocess.run([str(each) for each in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_pip_install_and_the_readmes_tour(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    folder = tmp_path / "fresh"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    fresh = folder / "bin/python"
    # What pip would download, several gigabytes, is what runs this test: the package's needs, and what builds it.
    site = pathlib.Path(run(fresh, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    needs = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (site / "needs.pth").write_text(needs, encoding="utf-8")
    run(sys.executable, "-m", "pip", "--python", fresh, "install", "--no-build-isolation", "--no-index", REPOSITORY,
        env=environment)
    program = tmp_path / "tour.py"
    program.write_text("import tilewise\nprint(tilewise.__file__)\n" + python_of("README.md"), encoding="utf-8")
    told = run(fresh, program, env={**environment, "OMP_NUM_THREADS": "2"}, cwd=tmp_path)
    assert told.startswith(str(site)), told
    assert "keep(query >= key and query - key < 256) & score(30 * tanh(s / 30))" in told
