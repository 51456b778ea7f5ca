# Finds the kept libraries. docs/decisions/dependencies.md says why each is here; tools/packages.txt names the packages.

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(hwy REQUIRED)
find_package(nlohmann_json REQUIRED)

# utf8proc: Debian's package ships no CMake configuration. By its name alone, since an installed static tilewise hands it
# on to machines where it may lie elsewhere.
find_path(UTF8PROC_INCLUDE_DIR utf8proc.h REQUIRED)
set(UTF8PROC_LIBRARY utf8proc)

# OpenBLAS, whose own CMake configuration would hand an installed static tilewise the path of a library on this machine.
find_path(OPENBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-pthread REQUIRED)
add_library(tilewise_openblas_headers INTERFACE)
target_include_directories(tilewise_openblas_headers SYSTEM INTERFACE "${OPENBLAS_INCLUDE_DIR}")
set(OPENBLAS_LIBRARY openblas)

# xxHash, header only: Debian's package ships no CMake configuration.
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
add_library(tilewise_xxhash INTERFACE)
target_include_directories(tilewise_xxhash SYSTEM INTERFACE "${XXHASH_INCLUDE_DIR}")
target_compile_definitions(tilewise_xxhash INTERFACE XXH_INLINE_ALL)

if(TILEWISE_CLI)
  find_package(CLI11 REQUIRED)
  find_package(PNG REQUIRED)
  find_package(PkgConfig REQUIRED)
  pkg_check_modules(CAIRO REQUIRED cairo)
  add_library(tilewise_cairo INTERFACE)
  target_include_directories(tilewise_cairo SYSTEM INTERFACE ${CAIRO_INCLUDE_DIRS})
  target_link_libraries(tilewise_cairo INTERFACE ${CAIRO_LINK_LIBRARIES})
  find_package(OpenBLAS CONFIG REQUIRED)
  add_library(tilewise_openblas INTERFACE)
  target_include_directories(tilewise_openblas SYSTEM INTERFACE ${OpenBLAS_INCLUDE_DIRS})
  target_link_libraries(tilewise_openblas INTERFACE ${OpenBLAS_LIBRARIES})
endif()

if(TILEWISE_TESTS)
  find_package(GTest REQUIRED)
  find_package(rapidcheck CONFIG REQUIRED)
endif()

if(TILEWISE_BENCH)
  find_package(benchmark REQUIRED)
endif()
