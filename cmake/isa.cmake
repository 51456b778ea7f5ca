# Sources compiled once for each instruction set, to be chosen between at run time (src/core/isa.h).

if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  # Highway inlines its NEON into nothing less. Compilers emit the AES instructions that this allows for intrinsics of
  # that name alone, and nothing here uses them.
  set(isa_baseline -march=armv8-a+crypto)
endif()
set(isa_avx2 -mavx2 -mfma -mf16c -mbmi -mbmi2)
set(isa_avx512 ${isa_avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd)
set(isa_avx512_vnni ${isa_avx512} -mavx512vnni)
set(isa_avx512_bf16 ${isa_avx512_vnni} -mavx512bf16)
set(isa_amx ${isa_avx512_bf16} -mamx-tile -mamx-bf16)

# tilewise_add_isa_sources(<layer> NAME <word> ISAS <isa>... SOURCES <file>...)
#
# One OBJECT library tilewise_<layer>_<word>_<isa> for each instruction set of this architecture, part of the library
# like the layer itself. The sources see TILEWISE_ISA, the name of an enumerator of Isa. Whatever they define besides
# their entry point must have internal linkage, or the linker may hand code for one processor to another (see
# tilewise_add_isa_objects_test). Optimised in every configuration, for a call that is not inlined would emit Highway's
# shared helpers; the objects beyond the baseline are in the global property TILEWISE_ISA_OBJECTS_<layer>, their targets in
# TILEWISE_NEWER_TARGETS.
function(tilewise_add_isa_sources layer)
  cmake_parse_arguments(PARSE_ARGV 1 ISA "" "NAME" "ISAS;SOURCES")
  if(ISA_UNPARSED_ARGUMENTS OR NOT ISA_SOURCES OR NOT ISA_ISAS OR NOT ISA_NAME)
    message(FATAL_ERROR "tilewise_add_isa_sources(${layer}): needs NAME, ISAS, SOURCES; takes no "
                        "'${ISA_UNPARSED_ARGUMENTS}'")
  endif()
  foreach(isa IN LISTS ISA_ISAS)
    if(NOT isa STREQUAL baseline AND NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
      continue()
    endif()
    set(target tilewise_${layer}_${ISA_NAME}_${isa})
    add_library(${target} OBJECT ${ISA_SOURCES})
    # Highway's AVX2 would also want the AES instructions, which nothing here uses.
    target_compile_definitions(${target} PRIVATE TILEWISE_ISA=${isa} HWY_DISABLE_PCLMUL_AES)
    # GCC 12 calls the don't-care operands of its own AVX-512 intrinsics uninitialised (GCC bug 105593).
    target_compile_options(${target} PRIVATE ${isa_${isa}} $<$<CONFIG:Debug>:-O1>
                                             $<$<CXX_COMPILER_ID:GNU>:-Wno-uninitialized>
                                             $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
    target_link_libraries(${target} PRIVATE tilewise_${layer} tilewise_options)
    set_property(GLOBAL APPEND PROPERTY TILEWISE_LAYERS ${target})
    if(NOT isa STREQUAL baseline)
      set_property(GLOBAL APPEND PROPERTY TILEWISE_NEWER_TARGETS ${target})
      set_property(GLOBAL APPEND PROPERTY TILEWISE_ISA_OBJECTS_${layer} $<TARGET_OBJECTS:${target}>)
    endif()
  endforeach()
endfunction()
