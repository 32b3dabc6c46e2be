#!/usr/bin/env bash
# Builds and runs every test: unit, kernel (in test kernels) and end to end. Arguments go to ctest,
# for example: scripts/test.sh -L unit, scripts/test.sh -R ipvs
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
need_root scripts/test.sh

"$root_dir/scripts/setup.sh"
"$root_dir/scripts/build.sh"

step "Testing"
export POINTSMAN_KUBECTL_120=$build_dir/tools/kubectl-1.20
if [ -x "$build_dir/tools/kubectl-current" ]; then
  export POINTSMAN_KUBECTL=$build_dir/tools/kubectl-current
else
  export POINTSMAN_KUBECTL=$POINTSMAN_KUBECTL_120
fi
cd "$build_dir"
# Most tests wait most of the time, so there is one more at once than there are cores.
jobs=$(($(nproc) + 1))
# Whole clusters under traffic in real time, on emulated kernels and shared cores, lose a second now and then: what fails
# there is run a second time. That is told, and a few are chance; more are not. No other test is run again.
most_unsteady=3
log=$build_dir/test.log
ctest --output-on-failure -j "$jobs" "$@" -LE e2e
status=0
ctest --output-on-failure --repeat until-pass:2 -j "$jobs" "$@" -L e2e | tee "$log" || status=$?
[ "$status" = 0 ] || exit "$status"
unsteady=$(grep -E '^ *[0-9]+/[0-9]+ Test +#.*\*\*\*(Failed|Timeout|Exception)' "$log" || :)
[ -n "$unsteady" ] || exit 0
step "Passed only when run again"
printf '%s\n' "$unsteady"
[ "$(printf '%s\n' "$unsteady" | wc -l)" -le "$most_unsteady" ] || fail "more than $most_unsteady tests are unsteady"
