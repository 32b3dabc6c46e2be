#!/usr/bin/env bash
# Shows a cluster of kernels move under traffic.
#   scripts/demo.sh [--keep]                     three kernels, from iptables to ipvs
#   scripts/demo.sh --from kube-proxy [--keep]   two machines, from kube-proxy to ipvs, on to nftables, and back
# --keep leaves the cluster running.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
usage="usage: scripts/demo.sh [--from kube-proxy] [--keep]"
arguments=()
from=
while [ $# -gt 0 ]; do
  case $1 in
    --keep) arguments+=("$1") ;;
    --from)
      [ "${2:-}" = kube-proxy ] || fail "--from ${2:-}: it takes kube-proxy; $usage"
      from=$2
      arguments+=(--from "$2")
      shift
      ;;
    -h | --help)
      echo "$usage"
      exit 0
      ;;
    *) fail "unknown argument '$1'; $usage" ;;
  esac
  shift
done
need_root scripts/demo.sh

started=$SECONDS
if [ -z "$from" ]; then
  step "The demo: a cluster of three kernels moves from iptables to ipvs under traffic"
  note "1. packages: what is missing is installed"
  note "2. the build of what the demo runs: about 5 minutes on two idle cores, seconds when it is built already"
  note "3. the demo: about two minutes"
  "$root_dir/scripts/setup.sh" --demo
else
  step "The demo: a cluster moves from kube-proxy to ipvs, on to nftables, and back, under traffic"
  note "1. packages: what is missing is installed, with Debian's kernel and an emulator (400 MB)"
  note "2. the build of what the demo runs: about 5 minutes on two idle cores, seconds when it is built already"
  note "3. the demo: about three minutes"
  "$root_dir/scripts/setup.sh"
fi
"$root_dir/scripts/build.sh" pointsman-demo
note "ready to run after $((SECONDS - started)) s"
export POINTSMAN_KUBECTL=$build_dir/tools/kubectl-1.20
[ ! -x "$build_dir/tools/kubectl-current" ] || POINTSMAN_KUBECTL=$build_dir/tools/kubectl-current
exec "$build_dir/bin/pointsman-demo" --dir "$build_dir/demo" --source-dir "$root_dir" "${arguments[@]}"
