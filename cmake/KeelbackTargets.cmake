# One static library a folder, one test program a library, all with the same warnings.

add_library(keelback_flags INTERFACE)
target_include_directories(keelback_flags INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/src> $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>)
target_compile_options(keelback_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wno-missing-field-initializers)
# What a program says of its sources names them from here on, wherever it was built. So two checkouts compile to the same
# bytes, and ccache needs to compile but one of them.
target_compile_options(keelback_flags INTERFACE -fmacro-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(CMAKE_CXX_COMPILER_ID STREQUAL Clang)
  target_compile_options(keelback_flags INTERFACE -Wthread-safety)
endif()
if(KEELBACK_WERROR)
  target_compile_options(keelback_flags INTERFACE -Werror)
endif()
if(KEELBACK_SANITIZE)
  target_compile_options(keelback_flags INTERFACE -fsanitize=${KEELBACK_SANITIZE} -fno-omit-frame-pointer
    -fno-sanitize-recover=all)
  target_link_options(keelback_flags INTERFACE -fsanitize=${KEELBACK_SANITIZE})
endif()

if(KEELBACK_SANITIZE MATCHES thread)
  # ThreadSanitizer knows no fences; Asio's queues are ordered by their mutex anyway. The fence of order_marks()
  # (src/os/memory.cpp) is for another process, which it does not see.
  target_compile_definitions(keelback_flags INTERFACE BOOST_ASIO_DISABLE_FENCED_BLOCK)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(keelback_flags INTERFACE -Wno-tsan)
  endif()
endif()

# The programs of the fast tier's tests that CI compiles with sanitizers. Compiling is most of its time, so what is
# statistics (bench) and words (cli) is left to `scripts/test sanitizers`.
set(KEELBACK_UNSANITIZED bench_test cli_test lab_cli_test)
if(KEELBACK_TESTS)
  add_custom_target(fast_tests)
endif()

# keelback_library(NAME [HOT] SOURCES ... DEPS ...): src/NAME as the static library keelback_NAME. HOT: simulations spend
# their time here, so that it is optimised beside sanitizers too.
function(keelback_library name)
  cmake_parse_arguments(ARG "HOT" "" "SOURCES;DEPS;EXTERNAL" ${ARGN})
  add_library(keelback_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(keelback_${name} PUBLIC keelback_flags)
  foreach(dep ${ARG_DEPS})
    target_link_libraries(keelback_${name} PUBLIC keelback_${dep})
  endforeach()
  target_link_libraries(keelback_${name} PUBLIC ${ARG_EXTERNAL})
  if(ARG_HOT AND KEELBACK_SANITIZE)
    target_compile_options(keelback_${name} PRIVATE -O1)
  endif()
endfunction()

# Tests run side by side, more of them than there are processors, because most of them wait. One that holds the machine
# against a bound is ALONE. What may take longest begins first.

# keelback_discover(TARGET [FILTER gtest-filter] [ALONE regex] TIMEOUT s LABELS ... ENVIRONMENT ...): every TEST of a
# GoogleTest program as a ctest; those that match ALONE run by themselves. The properties are set by a script of ours that ctest runs behind the
# discovered list: gtest_discover_tests() flattens lists, so two labels would swallow the timeout.
function(keelback_discover target)
  cmake_parse_arguments(ARG "" "FILTER;ALONE;TIMEOUT" "LABELS;ENVIRONMENT" ${ARGN})
  get_property(count TARGET ${target} PROPERTY KEELBACK_DISCOVERIES)
  math(EXPR count "0${count} + 1")
  set_property(TARGET ${target} PROPERTY KEELBACK_DISCOVERIES ${count})
  set(list ${target}_${count}_TESTS)
  set(filter)
  if(ARG_FILTER)
    set(filter TEST_FILTER "${ARG_FILTER}")
  endif()
  gtest_discover_tests(${target} ${filter} TEST_LIST ${list} NO_PRETTY_VALUES DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60)
  set(script ${CMAKE_CURRENT_BINARY_DIR}/${list}.cmake)
  file(CONFIGURE OUTPUT ${script} @ONLY CONTENT [[
set(timeout "@ARG_TIMEOUT@")
if("$ENV{KEELBACK_TIMEOUTS}" STREQUAL "extended")
  math(EXPR timeout "4 * @ARG_TIMEOUT@")
endif()
foreach(test IN LISTS @list@)
  set_tests_properties("${test}" PROPERTIES LABELS "@ARG_LABELS@" TIMEOUT "${timeout}" COST "@ARG_TIMEOUT@"
    ENVIRONMENT "@ARG_ENVIRONMENT@")
  if(NOT "@ARG_ALONE@" STREQUAL "" AND test MATCHES "@ARG_ALONE@")
    set_tests_properties("${test}" PROPERTIES RUN_SERIAL TRUE)
  endif()
endforeach()
]])
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${script})
  if(fast IN_LIST ARG_LABELS AND NOT target IN_LIST KEELBACK_UNSANITIZED)
    add_dependencies(fast_tests ${target})
  endif()
endfunction()

# keelback_command_test(NAME [ALONE] COMMAND ... TIMEOUT s LABELS ... [PROPERTIES ...]): a program as a ctest. Like the tests
# above it is made when ctest runs, so that KEELBACK_TIMEOUTS=extended stretches its timeout too.
function(keelback_command_test name)
  cmake_parse_arguments(ARG "ALONE" "TIMEOUT" "COMMAND;LABELS;PROPERTIES" ${ARGN})
  if(ARG_ALONE)
    list(APPEND ARG_PROPERTIES RUN_SERIAL TRUE)
  endif()
  set(command)
  foreach(word ${ARG_COMMAND})
    string(APPEND command " [==[${word}]==]")
  endforeach()
  set(properties)
  foreach(word ${ARG_PROPERTIES})
    string(APPEND properties " [==[${word}]==]")
  endforeach()
  string(MAKE_C_IDENTIFIER "${name}" stem)
  set(script ${CMAKE_CURRENT_BINARY_DIR}/${stem}_command_test.cmake)
  file(CONFIGURE OUTPUT ${script} @ONLY CONTENT [[
set(timeout "@ARG_TIMEOUT@")
if("$ENV{KEELBACK_TIMEOUTS}" STREQUAL "extended")
  math(EXPR timeout "4 * @ARG_TIMEOUT@")
endif()
add_test([==[@name@]==]@command@)
set_tests_properties([==[@name@]==] PROPERTIES LABELS "@ARG_LABELS@" TIMEOUT "${timeout}" COST "@ARG_TIMEOUT@"@properties@)
]])
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${script})
endfunction()

# keelback_test(NAME SOURCES ... DEPS ... LABELS ... [ALONE regex]): one GoogleTest program; every TEST is a ctest with LABELS.
function(keelback_test name)
  if(NOT KEELBACK_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "ALONE;TIMEOUT" "SOURCES;DEPS;EXTERNAL;LABELS;ENVIRONMENT" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE keelback_flags keelback_test_environment GTest::gmock GTest::gtest_main ${ARG_EXTERNAL})
  foreach(dep ${ARG_DEPS})
    target_link_libraries(${name} PRIVATE keelback_${dep})
  endforeach()
  # What is tested is optimised; the tests compile in two thirds of the time without.
  target_compile_options(${name} PRIVATE -O0)
  keelback_discover(${name} ALONE "${ARG_ALONE}" TIMEOUT ${ARG_TIMEOUT} LABELS ${ARG_LABELS} ENVIRONMENT ${ARG_ENVIRONMENT})
endfunction()
