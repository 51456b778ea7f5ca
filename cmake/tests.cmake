# Tests: one GoogleTest binary a folder, each of its cases a test of its own in ctest.

include(GoogleTest)

# What nearly every test includes, compiled once: GoogleTest and RapidCheck cost more than most tests' own text.
# An executable, not an object library, because the flags must be those of the tests (-fPIE, not -fPIC).
add_executable(tilewise_tests_pch EXCLUDE_FROM_ALL "${PROJECT_SOURCE_DIR}/cmake/tests_pch.cc")
target_link_libraries(tilewise_tests_pch PRIVATE tilewise_internals GTest::gtest_main rapidcheck_gtest)
target_include_directories(tilewise_tests_pch PRIVATE "${PROJECT_SOURCE_DIR}")
target_precompile_headers(tilewise_tests_pch PRIVATE <gtest/gtest.h> <rapidcheck/gtest.h>)

# tilewise_add_test(<name> SOURCES <file>... [LIBRARIES <target>...] [LAWS])
#
# The cases appear in ctest as <name>.<Suite>.<Case>. A test may include from src/ ("variant/graph.h") and from the root
# ("tests/...").
# LAWS: it holds properties of random inputs (RapidCheck), each tried on 2,000 of them; tools/laws_long tries 100,000.
function(tilewise_add_test name)
  cmake_parse_arguments(PARSE_ARGV 1 TEST "LAWS" "" "SOURCES;LIBRARIES")
  if(TEST_UNPARSED_ARGUMENTS OR NOT TEST_SOURCES)
    message(FATAL_ERROR "tilewise_add_test(${name}): needs SOURCES; takes no '${TEST_UNPARSED_ARGUMENTS}'")
  endif()
  set(target tilewise_${name}_test)
  add_executable(${target} ${TEST_SOURCES})
  target_link_libraries(${target} PRIVATE tilewise_internals GTest::gtest_main rapidcheck_gtest ${TEST_LIBRARIES})
  target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}")
  target_precompile_headers(${target} REUSE_FROM tilewise_tests_pch)
  set(properties)
  if(TEST_LAWS)
    target_sources(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests/laws/cases.cc")
    set(properties PROPERTIES LABELS laws)
  endif()
  # Cases are listed when ctest runs, not when the binary is linked, so a build never runs what it builds. Parameters go
  # by their suite's names for them: a printed pointer would change a test's name from run to run.
  gtest_discover_tests(${target} TEST_PREFIX ${name}. NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
                       ${properties})
endfunction()

# tilewise_add_isa_objects_test(<layer> EXPORTED <regular expression>)
#
# Test <layer>.isa_objects_are_closed: what is compiled for one instruction set is never emitted where the linker could
# pick it for others. An architecture of one instruction set has no such objects, and no such test.
function(tilewise_add_isa_objects_test layer)
  cmake_parse_arguments(PARSE_ARGV 1 TEST "" "EXPORTED" "")
  get_property(objects GLOBAL PROPERTY TILEWISE_ISA_OBJECTS_${layer})
  if(NOT objects)
    return()
  endif()
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  add_test(NAME ${layer}.isa_objects_are_closed
           COMMAND Python3::Interpreter "${PROJECT_SOURCE_DIR}/tests/tools/isa_objects.py" "${CMAKE_NM}"
                   "${TEST_EXPORTED}" ${objects}
           COMMAND_EXPAND_LISTS)
  set_tests_properties(${layer}.isa_objects_are_closed PROPERTIES ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endfunction()

# tilewise_add_baseline_objects_test()
#
# Test baseline_objects: on x86-64, the library holds no instruction beyond the architecture's baseline but in what is
# compiled for an instruction set by name.
function(tilewise_add_baseline_objects_test)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
    return()
  endif()
  find_package(Python3 REQUIRED COMPONENTS Interpreter)
  get_property(baseline GLOBAL PROPERTY TILEWISE_LAYERS)
  get_property(newer GLOBAL PROPERTY TILEWISE_NEWER_TARGETS)
  list(REMOVE_ITEM baseline ${newer})
  list(TRANSFORM baseline REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>")
  list(TRANSFORM newer REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>")
  add_test(NAME baseline_objects
           COMMAND Python3::Interpreter "${PROJECT_SOURCE_DIR}/tests/tools/baseline_objects.py" "${CMAKE_OBJDUMP}"
                   ${baseline} --caught ${newer}
           COMMAND_EXPAND_LISTS)
  set_tests_properties(baseline_objects PROPERTIES ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
endfunction()
