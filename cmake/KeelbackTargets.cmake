# One static library a folder, one test program a library, all with the same warnings.

add_library(keelback_flags INTERFACE)
target_include_directories(keelback_flags INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)
target_compile_options(keelback_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-missing-field-initializers)
if(KEELBACK_WERROR)
  target_compile_options(keelback_flags INTERFACE -Werror)
endif()
if(KEELBACK_SANITIZE)
  target_compile_options(keelback_flags INTERFACE -fsanitize=${KEELBACK_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(keelback_flags INTERFACE -fsanitize=${KEELBACK_SANITIZE})
endif()

if(KEELBACK_SANITIZE MATCHES thread)
  # ThreadSanitizer knows no fences; Asio's queues are ordered by their mutex anyway.
  target_compile_definitions(keelback_flags INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
endif()

# keelback_library(NAME SOURCES ... DEPS ...): src/NAME as the static library keelback_NAME.
function(keelback_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS;EXTERNAL" ${ARGN})
  add_library(keelback_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(keelback_${name} PUBLIC keelback_flags)
  foreach(dep ${ARG_DEPS})
    target_link_libraries(keelback_${name} PUBLIC keelback_${dep})
  endforeach()
  target_link_libraries(keelback_${name} PUBLIC ${ARG_EXTERNAL})
endfunction()

# keelback_test(NAME SOURCES ... DEPS ... LABELS ...): one GoogleTest program; every TEST is a ctest with LABELS.
function(keelback_test name)
  if(NOT KEELBACK_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;DEPS;EXTERNAL;LABELS;ENVIRONMENT" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE keelback_flags GTest::gmock GTest::gtest_main ${ARG_EXTERNAL})
  foreach(dep ${ARG_DEPS})
    target_link_libraries(${name} PRIVATE keelback_${dep})
  endforeach()
  gtest_discover_tests(${name} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${ARG_TIMEOUT} ENVIRONMENT "${ARG_ENVIRONMENT}")
endfunction()
