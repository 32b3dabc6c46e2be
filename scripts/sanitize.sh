#!/usr/bin/env bash
# Builds tests with sanitizers and runs them: the unit tests, and as root those in network namespaces,
# with AddressSanitizer and UndefinedBehaviorSanitizer (build-address/), those labelled "threads" with
# ThreadSanitizer (build-thread/). A finding fails the test in which it is made.
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
  # These two have no program of ours in them.
  (cd "$root_dir/build-$kind" &&
    ctest --output-on-failure -j "$(nproc)" -L "^($(IFS='|' && echo "${labels[*]}"))\$" -E '^(clang_format|alert_rules)$' "$@")
done
