#!/usr/bin/env bash
# Fuzzes the checks of fuzz/checks.h with libFuzzer, AddressSanitizer and UndefinedBehaviorSanitizer.
#   scripts/fuzz.sh [SECONDS] [CHECK…]   for each check that long (60); without names all of them
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

seconds=60
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
  seconds=$1
  shift
fi
command -v clang++ >/dev/null || fail "libFuzzer needs clang++ (packages clang and libclang-rt-14-dev): run scripts/setup.sh"

build_dir=$root_dir/build-fuzz
targets=("${@/#/fuzz_}")
[ $# -gt 0 ] || targets=(fuzz-targets)
POINTSMAN_BUILD_DIR=$build_dir \
  POINTSMAN_CMAKE_ARGS="-DCMAKE_CXX_COMPILER=clang++ -DPOINTSMAN_FUZZ=ON -DPOINTSMAN_WERROR=OFF" \
  "$root_dir/scripts/build.sh" "${targets[@]}"
checks=("$@")
[ $# -gt 0 ] || mapfile -t checks < <(cd "$root_dir/fuzz/corpus" && ls)

mkdir -p "$build_dir/findings"
export UBSAN_OPTIONS=print_stacktrace=1
status=0
for check in "${checks[@]}"; do
  step "Fuzzing $check for $seconds s"
  # New inputs go into the first folder.
  mkdir -p "$build_dir/corpus/$check"
  "$build_dir/fuzz/fuzz_$check" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -print_final_stats=1 \
    -artifact_prefix="$build_dir/findings/$check-" "$build_dir/corpus/$check" "$root_dir/fuzz/corpus/$check" \
    >"$build_dir/$check.log" 2>&1 || {
    tail -n 60 "$build_dir/$check.log" >&2
    status=1
    continue
  }
  grep -E '^(stat::number_of_executed_units|Done)' "$build_dir/$check.log" || :
done
[ $status = 0 ] || fail "findings: the inputs are in build-fuzz/findings/"
