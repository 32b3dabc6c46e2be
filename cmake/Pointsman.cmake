# The settings every target shares, and the two functions that declare targets.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo CACHE STRING "" FORCE)
endif()
# -O2 with line numbers only: full debug information of the template-heavy libraries costs
# gigabytes of objects and minutes of linking, and a backtrace needs only lines.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")
# The default build compiles a target's files eight at a time: what they all instantiate is compiled once
# (docs/developing.md has the figures). A name in an anonymous namespace is therefore unique in its target.
# Debug builds, which are for working on the code, take file by file.
if(CMAKE_BUILD_TYPE STREQUAL "RelWithDebInfo")
  set(CMAKE_UNITY_BUILD ON CACHE BOOL "Compile the files of a target together")
endif()
set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)

set(POINTSMAN_SANITIZE "none" CACHE STRING "Sanitizers: none, address (with undefined), thread, undefined (for User-Mode Linux)")
option(POINTSMAN_WERROR "Treat warnings as errors" ON)
option(POINTSMAN_FUZZ "libFuzzer programs (fuzz/), with AddressSanitizer; needs clang" OFF)

find_program(CCACHE ccache)
if(CCACHE)
  # ccache can only serve a file that uses a precompiled header when told that the header's macros
  # and time stamps may be trusted, and when gcc keeps the #pragma of the header in its output.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  else()
    add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
  endif()
endif()
find_program(LLD ld.lld)
if(LLD AND NOT CMAKE_CROSSCOMPILING)  # gcc for another architecture looks for one of its own
  add_link_options(-fuse-ld=lld)
endif()

if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm")
  add_compile_options(-fsigned-char)  # as on the machines that the tests run on
endif()
add_compile_options(-Wall -Wextra -Wnon-virtual-dtor -Wno-missing-field-initializers)
if(NOT CMAKE_UNITY_BUILD)
  add_compile_options(-Wshadow)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # A class with a member from an anonymous namespace is wrong in a header; here each file looks like one.
  # For the same reason no -Wshadow: the using declarations of one file are not the next one's concern.
  add_compile_options(-Wno-subobject-linkage)
endif()
if(POINTSMAN_WERROR)
  add_compile_options(-Werror)
endif()
if(NOT POINTSMAN_SANITIZE STREQUAL "none")
  # -O1 for reports whose stacks are those of the source; line numbers would cost more time to compile
  # than they save, a report names the functions.
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1")
  # What the sanitizers add makes gcc 12 take what std::regex moves for uninitialized.
  add_compile_options(-Wno-maybe-uninitialized)
endif()
if(POINTSMAN_SANITIZE STREQUAL "address")
  # To look at a vptr the check opens a pipe, and takes the object for none where there is no descriptor left, which
  # several tests bring about. An object that is gone is AddressSanitizer's to find.
  add_compile_options(-fsanitize=address,undefined -fno-sanitize=vptr -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
elseif(POINTSMAN_SANITIZE STREQUAL "thread")
  # Asio's headers have fences, which ThreadSanitizer does not see; beside each stands a mutex, which it does.
  add_compile_options(-fsanitize=thread -fno-omit-frame-pointer -Wno-tsan)
  add_link_options(-fsanitize=thread)
elseif(POINTSMAN_SANITIZE STREQUAL "undefined")
  # What a test kernel can carry. AddressSanitizer and ThreadSanitizer keep shadow memory at fixed addresses, which a
  # process in User-Mode Linux does not have: its address space ends at 511 GiB, and the loader begins at 1 GiB, where
  # the shadow would be. The assertions of the standard library find some of what AddressSanitizer would: an index
  # beyond the end, a null pointer, an empty optional.
  add_compile_options(-fsanitize=undefined,float-cast-overflow -fno-sanitize-recover=all)
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
  add_link_options(-fsanitize=undefined)
elseif(NOT POINTSMAN_SANITIZE STREQUAL "none")
  message(FATAL_ERROR "POINTSMAN_SANITIZE is '${POINTSMAN_SANITIZE}'; it takes none, address, thread or undefined")
endif()

if(POINTSMAN_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID MATCHES "Clang")
    message(FATAL_ERROR "POINTSMAN_FUZZ needs clang, which has libFuzzer: scripts/fuzz.sh chooses it")
  endif()
  set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O1 -g1")
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_link_options(-fsanitize=address,undefined)
endif()

find_package(Threads REQUIRED)
find_package(OpenSSL REQUIRED)
find_package(cpprestsdk REQUIRED)
find_package(Boost 1.74 REQUIRED)  # Asio and Beast, which are headers only
find_package(yaml-cpp REQUIRED)
find_package(spdlog REQUIRED)
find_package(simdjson REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(utf8cpp REQUIRED)
find_package(GTest REQUIRED)
find_package(benchmark REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(MNL REQUIRED IMPORTED_TARGET libmnl)
pkg_check_modules(KMOD REQUIRED IMPORTED_TARGET libkmod)

include_directories(${CMAKE_SOURCE_DIR})

# The precompiled header of the product: the standard library, JSON and logging.
add_library(pointsman_pch STATIC ${CMAKE_SOURCE_DIR}/cmake/pch.cpp)
target_link_libraries(pointsman_pch PUBLIC nlohmann_json::nlohmann_json spdlog::spdlog Threads::Threads)
set_target_properties(pointsman_pch PROPERTIES UNITY_BUILD OFF)  # scripts/lint.sh looks for the file's command
target_precompile_headers(pointsman_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/pch.h)

# The one of tests and of the tools that they use, with GoogleTest. What is compiled once and run for seconds
# is not worth -O2.
add_library(pointsman_test_pch STATIC ${CMAKE_SOURCE_DIR}/cmake/test_pch.cpp)
target_link_libraries(pointsman_test_pch PUBLIC pointsman_pch)
target_compile_definitions(pointsman_test_pch PUBLIC GTEST_HAS_PTHREAD=1)
set_target_properties(pointsman_test_pch PROPERTIES UNITY_BUILD OFF)
target_precompile_headers(pointsman_test_pch PRIVATE ${CMAKE_SOURCE_DIR}/cmake/test_pch.h)
function(pointsman_compile_as_test target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:RelWithDebInfo>:-O1>)
endfunction()
pointsman_compile_as_test(pointsman_test_pch)

# Chooses the precompiled header of a target. POINTSMAN_TEST_TOOLS is set in folders that have only tools of tests.
function(pointsman_use_pch target)
  if(POINTSMAN_TEST_TOOLS)
    target_link_libraries(${target} PUBLIC pointsman_test_pch)
    pointsman_compile_as_test(${target})
    target_precompile_headers(${target} REUSE_FROM pointsman_test_pch)
  else()
    target_link_libraries(${target} PUBLIC pointsman_pch)
    target_precompile_headers(${target} REUSE_FROM pointsman_pch)
  endif()
endfunction()

# pointsman_library(<name> SOURCES a.cpp … [DEPS lib …] [NO_PCH])
function(pointsman_library name)
  cmake_parse_arguments(ARG "NO_PCH" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  if(ARG_NO_PCH)
    target_link_libraries(${name} PUBLIC pointsman_pch)
  else()
    pointsman_use_pch(${name})
  endif()
endfunction()

# pointsman_executable(<name> SOURCES a.cpp … [DEPS lib …])
function(pointsman_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
  pointsman_use_pch(${name})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
endfunction()

# What a test program is built of, for pointsman_test and pointsman_kernel_test.
function(pointsman_test_executable name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  set(POINTSMAN_TEST_TOOLS ON)
  pointsman_executable(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/test UNITY_BUILD OFF)
endfunction()

# What a build of just the tests with one label builds: tests-unit, tests-threads, tests-namespace, tests-uml.
foreach(label unit threads namespace uml)
  add_custom_target(tests-${label})
endforeach()

# pointsman_test_timeout(<variable> <default> [seconds]): of the tests that are declared; sanitizers make them slower.
function(pointsman_test_timeout variable default)
  set(seconds ${default} ${ARGN})
  list(GET seconds -1 seconds)
  if(NOT POINTSMAN_SANITIZE STREQUAL "none")
    math(EXPR seconds "${seconds} * 5")
  endif()
  set(${variable} ${seconds} PARENT_SCOPE)
endfunction()

# Properties of every test. A finding fails the test in whose output it is: also one in a program that the test starts
# and whose exit status it does not ask for, since it is started again (pointsman-forwarder).
set(POINTSMAN_FINDINGS_FAIL)
if(NOT POINTSMAN_SANITIZE STREQUAL "none")
  set(POINTSMAN_FINDINGS_FAIL FAIL_REGULAR_EXPRESSION
    "(ERROR|WARNING): (Address|Leak|Thread)Sanitizer: |runtime error: |: Assertion '.*' failed")
endif()

# pointsman_test(<name> SOURCES a_test.cpp … [DEPS lib …] [LABELS unit|threads|kernel|namespace|e2e …] [TIMEOUT s] [ONE_PROCESS] [ALONE])
# "threads", beside another: its code or the test itself has several threads; scripts/sanitize.sh runs it with ThreadSanitizer.
# "namespace", beside "kernel": it runs in network namespaces of this machine's kernel, so sanitize.sh can run it too.
# Every TEST becomes a ctest of its own, so that a failure names the case; ONE_PROCESS makes the
# whole binary one ctest (for fixtures that are expensive to set up). ALONE: ctest runs nothing beside it,
# since its load wants the machine for itself. Exit code 77 means: skipped.
function(pointsman_test name)
  cmake_parse_arguments(ARG "ONE_PROCESS;ALONE" "TIMEOUT" "SOURCES;DEPS;LABELS" ${ARGN})
  if(NOT ARG_LABELS)
    set(ARG_LABELS unit)
  endif()
  # For what hangs: the machine may be shared, and a test has its own patience.
  pointsman_test_timeout(timeout 180 ${ARG_TIMEOUT})
  pointsman_test_executable(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS})
  foreach(label ${ARG_LABELS})
    if(TARGET tests-${label})
      add_dependencies(tests-${label} ${name})
    endif()
  endforeach()
  if(ARG_ONE_PROCESS)
    add_test(NAME ${name} COMMAND ${name})
    set_tests_properties(${name} PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
      RUN_SERIAL ${ARG_ALONE} ${POINTSMAN_FINDINGS_FAIL})
  else()
    include(GoogleTest)
    gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 TEST_LIST ${name}_tests PROPERTIES TIMEOUT ${timeout} RUN_SERIAL ${ARG_ALONE})
    # Not with the properties above: there a second label would be taken for a property's name.
    set(properties "LABELS \"${ARG_LABELS}\"")
    if(POINTSMAN_FINDINGS_FAIL)
      list(GET POINTSMAN_FINDINGS_FAIL 1 findings)
      string(APPEND properties " FAIL_REGULAR_EXPRESSION \"${findings}\"")
    endif()
    set(properties_file ${CMAKE_CURRENT_BINARY_DIR}/${name}_properties.cmake)
    file(WRITE ${properties_file} "foreach(test IN LISTS ${name}_tests)
  set_tests_properties(\"\${test}\" PROPERTIES ${properties})
endforeach()
")
    set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${properties_file})
  endif()
endfunction()
