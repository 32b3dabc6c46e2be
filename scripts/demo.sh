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

"$root_dir/scripts/setup.sh"
"$root_dir/scripts/build.sh" pointsman-demo
export POINTSMAN_KUBECTL=$build_dir/tools/kubectl-1.20
[ ! -x "$build_dir/tools/kubectl-current" ] || POINTSMAN_KUBECTL=$build_dir/tools/kubectl-current
exec "$build_dir/bin/pointsman-demo" --dir "$build_dir/demo" --source-dir "$root_dir" "$@"
