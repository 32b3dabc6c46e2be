#!/usr/bin/env bash
# Builds tests with sanitizers and runs them: the unit tests, and as root those in network namespaces,
# with AddressSanitizer and UndefinedBehaviorSanitizer (build-address/), those labelled "threads" with
# ThreadSanitizer (build-thread/). A finding fails the test in which it is made, or at least the run.
#   scripts/sanitize.sh [address|thread]… [-- ARGUMENT…]   the arguments go to ctest; default: both
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

kinds=()
while [ $# -gt 0 ]; do
  case $1 in
    address | thread) kinds+=("$1") ;;
    --)
      shift
      break
      ;;
    *) fail "unknown argument '$1'; usage: scripts/sanitize.sh [address|thread]… [-- CTEST ARGUMENT…]" ;;
  esac
  shift
done
[ ${#kinds[@]} -gt 0 ] || kinds=(address thread)

# What libraries that are not instrumented make ThreadSanitizer say is suppressed in the code that uses
# them, with the reason (kube/http/cpprest_transport.cpp).
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1
export UBSAN_OPTIONS=print_stacktrace=1
# A test forks the agent that it kills, beside the thread of its servers.
export TSAN_OPTIONS=history_size=4:die_after_fork=0

for kind in "${kinds[@]}"; do
  labels=(unit namespace)
  [ "$kind" = address ] || labels=(threads)
  POINTSMAN_BUILD_DIR=$root_dir/build-$kind POINTSMAN_CMAKE_ARGS=-DPOINTSMAN_SANITIZE=$kind \
    "$root_dir/scripts/build.sh" "${labels[@]/#/tests-}"
  step "Testing with sanitizer: $kind"
  # The first two have no program of ours in them. The third's is not built by tests-unit, since it wants
  # all programs; what it checks with is in conformance_unit_test.
  (cd "$root_dir/build-$kind" &&
    ctest --output-on-failure -j "$(nproc)" -L "^($(IFS='|' && echo "${labels[*]}"))\$" \
      -E '^(clang_format|alert_rules|conformance_document)$' "$@")
  # A test may not notice what is found in a program that it starts (pointsman-forwarder): its exit
  # status is asked for by nobody, and when it ends it is started again.
  findings=$(grep -aE '(Address|Leak|Thread)Sanitizer|runtime error:' \
    "$root_dir/build-$kind/Testing/Temporary/LastTest.log" || :)
  [ -z "$findings" ] || {
    printf '%s\n' "$findings"
    fail "findings in tests that passed; the whole text is in build-$kind/Testing/Temporary/LastTest.log"
  }
done
