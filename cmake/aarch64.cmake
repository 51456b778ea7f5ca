# Toolchain file: cross-compiles for AArch64 with Debian's compiler and runs what it made under QEMU. Libraries come from
# TILEWISE_SYSROOT, which tools/test_neon fills.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)

list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES TILEWISE_SYSROOT)
set(CMAKE_FIND_ROOT_PATH "${TILEWISE_SYSROOT}" /usr/aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# For libraries that are linked by their names alone. OpenBLAS has a folder of its own, which installing it would link to.
set(sysroot_libraries "${TILEWISE_SYSROOT}/usr/lib/aarch64-linux-gnu")
foreach(folder IN ITEMS "${sysroot_libraries}" "${sysroot_libraries}/openblas-pthread")
  string(APPEND CMAKE_EXE_LINKER_FLAGS_INIT " -L${folder} -Wl,-rpath,${folder}")
endforeach()
# So that the libraries' own libraries are found there too.
string(APPEND CMAKE_EXE_LINKER_FLAGS_INIT " -Wl,--disable-new-dtags")
