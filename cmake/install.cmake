# `cmake --install`: headers, library, and what find_package(tilewise CONFIG) needs.

include(CMakePackageConfigHelpers)

install(TARGETS tilewise EXPORT tilewiseTargets)
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/tilewise" TYPE INCLUDE)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/tilewise")
install(EXPORT tilewiseTargets NAMESPACE tilewise:: DESTINATION "${package_dir}")

# A static library's users link what it links; a shared one carries its own.
set(find_dependencies "")
if(NOT BUILD_SHARED_LIBS)
  get_property(libraries GLOBAL PROPERTY TILEWISE_LIBRARIES)
  list(FILTER libraries INCLUDE REGEX "::")
  list(TRANSFORM libraries REPLACE "::.*" "" OUTPUT_VARIABLE packages)
  list(REMOVE_DUPLICATES packages)
  list(TRANSFORM packages REPLACE "(.+)" "find_dependency(\\1)")
  list(JOIN packages "\n" find_dependencies)
endif()
configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/tilewiseConfig.cmake.in"
                              "${PROJECT_BINARY_DIR}/tilewiseConfig.cmake" INSTALL_DESTINATION "${package_dir}")
# No stable ABI or API before 1.0, so 0.2 does not stand in for 0.1.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/tilewiseConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/tilewiseConfig.cmake" "${PROJECT_BINARY_DIR}/tilewiseConfigVersion.cmake"
        DESTINATION "${package_dir}")
