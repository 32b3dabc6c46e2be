#!/usr/bin/env bash
# Builds tests with sanitizers and runs them: the unit tests, and as root those in network namespaces,
# with AddressSanitizer and UndefinedBehaviorSanitizer (build-address/), those labelled "threads" with
# ThreadSanitizer (build-thread/), and those in test kernels, as root, with UndefinedBehaviorSanitizer and the
# assertions of the standard library (build-undefined/; cmake/Pointsman.cmake says why not with more). A finding fails
# the test in which it is made, also that of a program which the test starts.
#   scripts/sanitize.sh quick   with address, only the programs that have the most in them (for CI: a few minutes)
#   scripts/sanitize.sh [address|thread|undefined]… [-- ARGUMENT…]   the arguments go to ctest; default: all
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# The whole agent and the whole planner in one process each, what moves between modes, and every reader of what others
# send, with mutated input.
quick_programs=(agent_test operator_plan_test operator_runtime_test mode_controller_test model_test fuzz_checks_test status_checks_test text_test)

kinds=()
quick=
if [ "${1:-}" = quick ]; then
  [ $# = 1 ] || fail "quick takes no arguments"
  quick=yes
  kinds=(address)
  shift
fi
while [ $# -gt 0 ]; do
  case $1 in
    address | thread | undefined) kinds+=("$1") ;;
    --)
      shift
      break
      ;;
    *) fail "unknown argument '$1'; usage: scripts/sanitize.sh quick, or scripts/sanitize.sh [address|thread|undefined]… [-- CTEST ARGUMENT…]" ;;
  esac
  shift
done
[ ${#kinds[@]} -gt 0 ] || kinds=(address thread undefined)

# What libraries that are not instrumented make ThreadSanitizer say is suppressed in the code that uses
# them, with the reason (kube/http/cpprest_transport.cpp).
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
# A test forks the agent that it kills, beside the thread of its servers.
export TSAN_OPTIONS=history_size=4:die_after_fork=0

if [ -n "$quick" ]; then
  POINTSMAN_BUILD_DIR=$root_dir/build-address POINTSMAN_CMAKE_ARGS=-DPOINTSMAN_SANITIZE=address \
    "$root_dir/scripts/build.sh" "${quick_programs[@]}"
  step "Testing with sanitizer: address, ${#quick_programs[@]} programs"
  log=$root_dir/build-address/quick
  cd "$root_dir/build-address"
  for program in "${quick_programs[@]}"; do
    note "$program"
    "test/$program" --gtest_brief=1 >"$log.$program" 2>&1 || { tail -n 100 "$log.$program"; fail "$program failed"; }
    # A program that a test starts may have ended without its exit status being read.
    ! grep -aE '(Address|Leak)Sanitizer|runtime error:' "$log.$program" || fail "findings in $program, which passed: $log.$program"
  done
  exit 0
fi

for kind in "${kinds[@]}"; do
  case $kind in
    address) labels=(unit namespace) ;;
    thread) labels=(threads) ;;
    undefined) labels=(uml) ;;
  esac
  POINTSMAN_BUILD_DIR=$root_dir/build-$kind POINTSMAN_CMAKE_ARGS=-DPOINTSMAN_SANITIZE=$kind \
    "$root_dir/scripts/build.sh" "${labels[@]/#/tests-}"
  step "Testing with sanitizer: $kind"
  # The first three have no program of ours in them. The fourth is not built by tests-unit, since it wants
  # all programs; what it checks with is in conformance_unit_test.
  (cd "$root_dir/build-$kind" &&
    ctest --output-on-failure -j "$(nproc)" -L "^($(IFS='|' && echo "${labels[*]}"))\$" \
      -E '^(clang_format|pictures|alert_rules|conformance_document)$' "$@")
done
