# Applications: programs over the public headers alone.

# tilewise_add_app(<name> PROGRAM <file name> SOURCES <file>... [LIBRARIES <target>...])
#
# Target tilewise_<name>, built as bin/<file name> and installed.
function(tilewise_add_app name)
  cmake_parse_arguments(PARSE_ARGV 1 APP "" "PROGRAM" "SOURCES;LIBRARIES")
  if(APP_UNPARSED_ARGUMENTS OR NOT APP_SOURCES OR NOT APP_PROGRAM)
    message(FATAL_ERROR "tilewise_add_app(${name}): needs PROGRAM and SOURCES; takes no '${APP_UNPARSED_ARGUMENTS}'")
  endif()
  set(target tilewise_${name})
  add_executable(${target} ${APP_SOURCES})
  set_target_properties(${target} PROPERTIES OUTPUT_NAME "${APP_PROGRAM}")
  target_link_libraries(${target} PRIVATE tilewise::tilewise tilewise_options ${APP_LIBRARIES})
  install(TARGETS ${target})
endfunction()
