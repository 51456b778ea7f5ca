# Layers: the folders of src/, one OBJECT library each, all of them in the one library `tilewise`.

# tilewise_add_folders(<parent>): takes in every folder <parent>/*/ that has a CMakeLists.txt.
function(tilewise_add_folders parent)
  file(GLOB lists CONFIGURE_DEPENDS RELATIVE "${PROJECT_SOURCE_DIR}" "${PROJECT_SOURCE_DIR}/${parent}/*/CMakeLists.txt")
  foreach(list IN LISTS lists)
    cmake_path(GET list PARENT_PATH folder)
    # The consumer is a project of its own; a test configures it.
    if(NOT folder STREQUAL "tests/consumer")
      add_subdirectory("${PROJECT_SOURCE_DIR}/${folder}" "${PROJECT_BINARY_DIR}/${folder}")
    endif()
  endforeach()
endfunction()

# tilewise_add_layer(<name> SOURCES <file>... [DEPENDS <layer>...] [LIBRARIES <target>...] [HEADERS <target>...])
#
# DEPENDS    the layers directly above it, as tools/check_layers has them (which checks this line too).
# LIBRARIES  libraries linked into the product. What stands before "::" must be the name that find_package() takes,
#            because a project that uses an installed static tilewise has to find them again.
# HEADERS    header-only libraries; nobody but the compiler needs them.
function(tilewise_add_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 LAYER "" "" "SOURCES;DEPENDS;LIBRARIES;HEADERS")
  if(LAYER_UNPARSED_ARGUMENTS OR NOT LAYER_SOURCES)
    message(FATAL_ERROR "tilewise_add_layer(${name}): needs SOURCES; takes no '${LAYER_UNPARSED_ARGUMENTS}'")
  endif()
  set(target tilewise_${name})
  add_library(${target} OBJECT ${LAYER_SOURCES})
  target_include_directories(${target} PUBLIC "${PROJECT_SOURCE_DIR}/include" "${PROJECT_SOURCE_DIR}/src")
  list(TRANSFORM LAYER_DEPENDS PREPEND tilewise_ OUTPUT_VARIABLE depends)
  target_link_libraries(${target} PUBLIC ${depends} ${LAYER_LIBRARIES} ${LAYER_HEADERS} PRIVATE tilewise_options)
  set_property(GLOBAL APPEND PROPERTY TILEWISE_LAYERS ${target})
  set_property(GLOBAL APPEND PROPERTY TILEWISE_LAYER_DEPENDS ${depends})
  set_property(GLOBAL APPEND PROPERTY TILEWISE_LIBRARIES ${LAYER_LIBRARIES})
endfunction()

# tilewise_make_library(): the library `tilewise` (alias tilewise::tilewise) of every layer added so far, and
# `tilewise_internals`, an interface target that also sees src/, for tests and benchmarks only.
function(tilewise_make_library)
  get_property(layers GLOBAL PROPERTY TILEWISE_LAYERS)
  get_property(depends GLOBAL PROPERTY TILEWISE_LAYER_DEPENDS)
  get_property(libraries GLOBAL PROPERTY TILEWISE_LIBRARIES)
  foreach(depend IN LISTS depends)
    if(NOT depend IN_LIST layers)
      # Left alone, CMake would pass an unknown target on to the linker or drop it in silence.
      message(FATAL_ERROR "A layer's DEPENDS names ${depend}, but there is no such folder in src/")
    endif()
  endforeach()
  list(REMOVE_DUPLICATES libraries)

  list(TRANSFORM layers REPLACE "(.+)" "$<TARGET_OBJECTS:\\1>" OUTPUT_VARIABLE objects)
  add_library(tilewise ${objects})
  add_library(tilewise::tilewise ALIAS tilewise)
  set_target_properties(tilewise PROPERTIES LINKER_LANGUAGE CXX VERSION ${PROJECT_VERSION} SOVERSION
                                            ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  target_compile_features(tilewise PUBLIC cxx_std_20)
  target_include_directories(tilewise PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>
                                             $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
  target_link_libraries(tilewise PRIVATE ${libraries} $<BUILD_INTERFACE:tilewise_options>)

  add_library(tilewise_internals INTERFACE)
  target_link_libraries(tilewise_internals INTERFACE tilewise ${libraries} tilewise_options)
  target_include_directories(tilewise_internals INTERFACE "${PROJECT_SOURCE_DIR}/src")
endfunction()
