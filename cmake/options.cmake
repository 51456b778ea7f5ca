# How everything in this tree is compiled: the language, the warnings, the sanitizers, the compiler cache.
#
# `tilewise_options` is linked privately by every target made here and never exported.

add_library(tilewise_options INTERFACE)
target_compile_features(tilewise_options INTERFACE cxx_std_20)

# -ffp-contract=off: a variant's arithmetic is bit-equal in every reading, so a*b+c must never fuse on its own.
# No -march: instruction sets are chosen at run time.
target_compile_options(
  tilewise_options
  INTERFACE -ffp-contract=off -Wall -Wextra -Wpedantic -Wshadow -Wconversion $<$<BOOL:${TILEWISE_WERROR}>:-Werror>)
# GCC 12, optimising, sees overlapping copies in std::string's own insert(), so in `"a" + std::to_string(i)` too (GCC bug
# 105651, fixed in 13).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(tilewise_options INTERFACE -Wno-restrict)
endif()

# Clang counts changes of signedness into -Wconversion, which GCC does not in C++: indices of std containers.
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  target_compile_options(tilewise_options INTERFACE -Wno-sign-conversion)
endif()

if(TILEWISE_SANITIZE)
  target_compile_options(
    tilewise_options INTERFACE -fsanitize=${TILEWISE_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(tilewise_options INTERFACE -fsanitize=${TILEWISE_SANITIZE})
endif()

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
set(CMAKE_LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")
set(CMAKE_ARCHIVE_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lib")

if(PROJECT_IS_TOP_LEVEL)
  if(NOT CMAKE_BUILD_TYPE)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
  endif()
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

  find_program(CCACHE ccache)
  if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
    # The sloppiness is what a precompiled header needs to be cached at all.
    set(CMAKE_CXX_COMPILER_LAUNCHER env CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  endif()
endif()
