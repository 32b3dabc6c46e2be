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
# Whole clusters come last, so that what a smaller test finds is told first. No test is run a second time.
ctest --output-on-failure -j "$jobs" "$@" -LE e2e
ctest --output-on-failure -j "$jobs" "$@" -L e2e
