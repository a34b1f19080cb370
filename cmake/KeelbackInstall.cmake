# What `cmake --install` puts where, and the packages that find it again: find_package(keelback) gives
# keelback::keelback, `pkg-config --libs keelback` the same as flags. Both link statically to one
# archive, libkeelback.a, and bring what it needs.
include(CMakePackageConfigHelpers)

# Everything behind include/keelback, in one archive: src/api and all that it stands on.
set(keelback_parts base wire core os host api)
set(keelback_packages fmt spdlog)
set(keelback_pkgconfig "fmt spdlog tomlplusplus")
if(TARGET keelback_store)
  list(APPEND keelback_parts store)
  list(APPEND keelback_packages SQLite3)
  string(APPEND keelback_pkgconfig " sqlite3")
endif()

add_library(keelback_archive STATIC)
foreach(part ${keelback_parts})
  target_sources(keelback_archive PRIVATE $<TARGET_OBJECTS:keelback_${part}>)
endforeach()
set_target_properties(keelback_archive PROPERTIES OUTPUT_NAME keelback EXPORT_NAME keelback LINKER_LANGUAGE CXX)
target_include_directories(keelback_archive INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_compile_features(keelback_archive INTERFACE cxx_std_23)
target_link_libraries(keelback_archive INTERFACE fmt::fmt spdlog::spdlog tomlplusplus Threads::Threads)
if(TARGET keelback_store)
  target_link_libraries(keelback_archive INTERFACE SQLite::SQLite3)
endif()

# A program finds our programs by the path that it was linked with (src/host/install.h).
target_link_options(keelback_archive INTERFACE
  "$<INSTALL_INTERFACE:LINKER:-rpath,$<INSTALL_PREFIX>/${CMAKE_INSTALL_LIBEXECDIR}/keelback>")

# Two components. `product` is Keelback; `lab` is what `keelback chaos` and `keelback bench` start.
# What measures us against others (keelback-peers, lab/python/peers) is in neither.
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME product)
set(keelback_cmake_dir ${CMAKE_INSTALL_LIBDIR}/cmake/keelback)
install(TARGETS keelback_archive EXPORT keelbackTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT keelbackTargets NAMESPACE keelback:: DESTINATION ${keelback_cmake_dir})
install(DIRECTORY include/keelback DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY python/keelback DESTINATION ${CMAKE_INSTALL_DATADIR}/keelback/python
  PATTERN __pycache__ EXCLUDE PATTERN "*.pyc" EXCLUDE)
install(TARGETS keelback-guard keelback-fakeworker
  RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/keelback)
if(TARGET keelback-lab)
  install(TARGETS keelback-lab keelback-warden
    RUNTIME DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/keelback COMPONENT lab)
  install(TARGETS keelback-allocations
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBEXECDIR}/keelback COMPONENT lab)
  # Beside the package keelback, as in the source tree (lab/load/application.h).
  install(DIRECTORY lab/python/apps DESTINATION ${CMAKE_INSTALL_DATADIR}/keelback/lab/python
    COMPONENT lab PATTERN __pycache__ EXCLUDE PATTERN "*.pyc" EXCLUDE)
endif()
if(TARGET keelback)
  install(TARGETS keelback RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

configure_package_config_file(cmake/keelbackConfig.cmake.in keelbackConfig.cmake
  INSTALL_DESTINATION ${keelback_cmake_dir}
  PATH_VARS CMAKE_INSTALL_LIBEXECDIR CMAKE_INSTALL_DATADIR)
write_basic_package_version_file(keelbackConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/keelbackConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/keelbackConfigVersion.cmake
  DESTINATION ${keelback_cmake_dir})

# Relative to the .pc file, so that an installed tree may be moved as a whole.
file(RELATIVE_PATH keelback_pc_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/keelback.pc.in keelback.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/keelback.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
