# Compiles SOURCE with COMPILER. With a regex EXPECTED it must fail and say so; without, it must compile.
set(ENV{LC_ALL} C)  # messages in English, with plain quotes
execute_process(
  COMMAND "${COMPILER}" -std=c++20 -fsyntax-only "-I${INCLUDE}" "${SOURCE}"
  RESULT_VARIABLE status
  ERROR_VARIABLE message)
if(EXPECTED STREQUAL "")
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "${SOURCE} should compile:\n${message}")
  endif()
elseif(status EQUAL 0)
  message(FATAL_ERROR "${SOURCE} compiles; expected an error like '${EXPECTED}'")
elseif(NOT message MATCHES "${EXPECTED}")
  message(FATAL_ERROR "${SOURCE} fails, but not with '${EXPECTED}':\n${message}")
endif()
