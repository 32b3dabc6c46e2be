# pointsman_kernel_test(<name> SOURCES a_test.cpp … [DEPS lib …] [MEMORY 256M] [TIMEOUT seconds] [ARGS …])
# A GoogleTest binary that runs as root inside a User-Mode Linux kernel of its own (every module
# loadable, loopback only), as one ctest with the labels "kernel" and "uml". ctest shows it as skipped
# where User-Mode Linux is not installed or the caller is not root.
function(pointsman_kernel_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;MEMORY" "SOURCES;DEPS;ARGS" ${ARGN})
  pointsman_test_executable(${name} SOURCES ${ARG_SOURCES} DEPS ${ARG_DEPS})
  set(options)
  foreach(option TIMEOUT MEMORY ARGS)
    if(ARG_${option})
      list(APPEND options ${option} ${ARG_${option}})
    endif()
  endforeach()
  pointsman_kernel_run(${name} ${name} ${options})
endfunction()

# pointsman_kernel_run(<name> <program> [MEMORY 256M] [TIMEOUT seconds] [ARGS …])
# A test program that is there already, as pointsman_kernel_test runs its own.
function(pointsman_kernel_run name program)
  cmake_parse_arguments(ARG "" "TIMEOUT;MEMORY" "ARGS" ${ARGN})
  # Six times and more what the slowest takes on an idle machine: this is for what hangs, and the machine may be shared.
  pointsman_test_timeout(timeout 600 ${ARG_TIMEOUT})
  if(NOT ARG_MEMORY)
    set(ARG_MEMORY 256M)
  endif()
  add_dependencies(tests-uml ${program})
  # The script ends the kernel at TIMEOUT and can still say what was printed; ctest's own limit is
  # only there for the case that the script itself hangs.
  math(EXPR ctest_timeout "${timeout} + 15")
  add_test(NAME ${name}
    COMMAND ${CMAKE_SOURCE_DIR}/scripts/run-in-uml.sh -m ${ARG_MEMORY} -t ${timeout} $<TARGET_FILE:${program}> ${ARG_ARGS})
  set_tests_properties(${name} PROPERTIES LABELS "kernel;uml" TIMEOUT ${ctest_timeout} SKIP_RETURN_CODE 77
    ${POINTSMAN_FINDINGS_FAIL})
endfunction()
