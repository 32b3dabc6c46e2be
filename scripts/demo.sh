#!/usr/bin/env bash
# Shows a cluster of three kernels move from iptables to ipvs under traffic. --keep leaves it running.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
for argument in "$@"; do
  case $argument in
    --keep) ;;
    -h | --help)
      echo "usage: scripts/demo.sh [--keep]"
      exit 0
      ;;
    *) fail "unknown argument '$argument'; usage: scripts/demo.sh [--keep]" ;;
  esac
done
need_root scripts/demo.sh

step "The demo: a cluster of three kernels moves from iptables to ipvs under traffic"
note "1. packages: what is missing is installed"
note "2. the build of what the demo runs: about 3 minutes on two idle cores, seconds when it is built already"
note "3. the demo: about two minutes"
started=$SECONDS
"$root_dir/scripts/setup.sh" --demo
"$root_dir/scripts/build.sh" pointsman-demo
note "ready to run after $((SECONDS - started)) s"
export POINTSMAN_KUBECTL=$build_dir/tools/kubectl-1.20
[ ! -x "$build_dir/tools/kubectl-current" ] || POINTSMAN_KUBECTL=$build_dir/tools/kubectl-current
exec "$build_dir/bin/pointsman-demo" --dir "$build_dir/demo" --source-dir "$root_dir" "$@"
