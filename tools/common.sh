# Shared by the scripts of tools/; sourced, with `set -euo pipefail` on and the repository's root as current folder.

say() { printf '== %s\n' "$*" >&2; }

# Lists of tools/: one name a line, then a comment.
read_list() { sed -e 's/#.*//' -e '/^[[:space:]]*$/d' -e 's/[[:space:]]*$//' "$1"; }

# install_missing_packages [list...]: installs what tools/packages.txt and the lists name and the machine lacks; touches
# neither apt nor the network when it lacks nothing.
install_missing_packages() {
  local list package missing=() as_root=()
  if ! command -v dpkg-query > /dev/null; then
    say "No dpkg here: taking the tools and libraries of tools/packages.txt $* as installed by other means."
    return
  fi
  while read -r package; do
    [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2> /dev/null || true)" == installed ]] ||
      missing+=("$package")
  done < <(for list in tools/packages.txt "$@"; do read_list "$list"; done)
  ((${#missing[@]})) || return 0

  if ((EUID != 0)); then
    if ! command -v sudo > /dev/null; then
      say "Missing packages: ${missing[*]}"
      say "Installing them takes root, and this user has no sudo. Run this as root:"
      say "  apt-get update && apt-get install ${missing[*]}"
      exit 1
    fi
    as_root=(sudo)
  fi
  say "Installing ${missing[*]}"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# Prints the path of the machine's libnvrtc, or nothing.
find_nvrtc() {
  local candidate
  for candidate in /usr/local/cuda/lib64/libnvrtc.so /usr/local/cuda-*/lib64/libnvrtc.so /usr/lib/*/libnvrtc.so{,.[0-9]*} \
    build/python/lib/python3*/site-packages/nvidia/*/lib/libnvrtc.so.[0-9]*; do
    if [[ -e "$candidate" ]]; then
      realpath "$candidate"
      return
    fi
  done
}

# install_python_packages <regular expression> [list]: installs, under build/python, those of the list, by default
# tools/python_packages.txt, whose lines match and that are not there yet. Each is listed with its version, so pip looks
# for no others.
install_python_packages() {
  local package missing=()
  while read -r package; do
    compgen -G "build/python/lib/python3*/site-packages/$(sed -e 's/-/_/g' -e 's/==/-/' <<< "$package").dist-info" \
      > /dev/null || missing+=("$package")
  done < <(read_list "${2:-tools/python_packages.txt}" | grep -E "$1")
  ((${#missing[@]})) || return 0
  say "Installing ${missing[*]} under build/python"
  [[ -x build/python/bin/pip ]] || python3 -m venv build/python || return 1
  build/python/bin/pip install --quiet --disable-pip-version-check --no-deps "${missing[@]}"
}

# Sets TILEWISE_NVRTC to a libnvrtc for the tests, from a virtual environment under build/ where the machine has none.
provide_nvrtc() {
  [[ -z "${TILEWISE_NVRTC:-}" ]] || return 0
  TILEWISE_NVRTC="$(find_nvrtc)"
  if [[ -z "$TILEWISE_NVRTC" ]]; then
    if install_python_packages '^nvidia-'; then
      TILEWISE_NVRTC="$(find_nvrtc)"
    else
      say "NVRTC could not be installed; tests that compile CUDA text will be skipped, or fail where CI=true."
    fi
  fi
  [[ -z "$TILEWISE_NVRTC" ]] || export TILEWISE_NVRTC
}

# Sets TILEWISE_MODELS to a folder with the models, and TILEWISE_PYTHON to a Python with the reference tokenizers and
# templates, that tests run on.
provide_models() {
  [[ -z "${TILEWISE_MODELS:-}" || -z "${TILEWISE_PYTHON:-}" ]] || return 0
  if install_python_packages '^(llm-|gt-|tokenizers|sentencepiece|jinja2|markupsafe)'; then
    TILEWISE_PYTHON="$PWD/build/python/bin/python"
    TILEWISE_MODELS="$(echo "$PWD"/build/python/lib/python3*/site-packages)"
    export TILEWISE_PYTHON TILEWISE_MODELS
  else
    say "Models could not be installed; tests that read them will be skipped, or fail where CI=true."
  fi
}

# Sets python_options to what CMake needs to build and test the Python package, with the frameworks that it is tested
# beside (several gigabytes, once). TILEWISE_PYTHON_TESTS=0 leaves all of it out.
provide_frameworks() {
  python_options=(-DTILEWISE_PYTHON=OFF)
  [[ "${TILEWISE_PYTHON_TESTS:-1}" != 0 ]] || return 0
  if install_python_packages . tools/python_frameworks.txt; then
    python_options=(-DTILEWISE_PYTHON=ON "-DPython_EXECUTABLE=$PWD/build/python/bin/python")
  else
    say "Python frameworks could not be installed; the Python package is not tested, which fails where CI=true."
    [[ "${CI:-}" != true ]]
  fi
}

# configure <preset> [cmake argument...]: quiet unless it fails.
configure() {
  local preset="$1" log
  shift
  mkdir -p "build/$preset"
  log="build/$preset/configure.log"
  cmake --preset "$preset" "$@" > "$log" 2>&1 || { cat "$log" >&2; exit 1; }
}

# expect_count <what it is> <value>: ends the script unless the value is a whole number.
expect_count() {
  [[ "$2" =~ ^[0-9]+$ ]] && return
  echo "${0#./}: $1 is '$2'; expected a whole number" >&2
  exit 2
}

# jobs: how many things to do at once.
jobs_at_once() { echo "${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}"; }

# run_tests <preset> [ctest argument...]: runs the preset's tests; the last line printed is
# "N passed, N failed" or "N passed, N failed, N skipped". Returns 1 when a test failed or none ran.
run_tests() {
  local preset="$1" report="$PWD/build/$1/tests.xml" status=0
  shift
  rm -f "$report"
  ctest --preset "$preset" --parallel "$(jobs_at_once)" --output-junit "$report" "$@" || status=1
  python3 tools/count_tests "$report" || status=1
  return "$status"
}
