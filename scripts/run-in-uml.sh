#!/bin/bash
# Runs a program as root inside a fresh User-Mode Linux kernel and hands back its output and exit status.
#
#   scripts/run-in-uml.sh [-m MEMORY] [-t SECONDS] PROGRAM [ARGUMENT…]
#
# The program sees this machine's root file system, its own /proc, /sys, /tmp and /run, every module of
# the kernel (loadable by name), loopback as its only interface, and the caller's environment and
# working directory. Its stdout and stderr both come back on stdout. Options: -m 256M, -t 120.
#
# Exit status: the program's; 77 when this machine has no User-Mode Linux; 124 after the timeout;
# 125 when the kernel panicked or ended without the program having ended.
set -u

memory=256M
timeout=120
while getopts m:t: option; do
  case $option in
    m) memory=$OPTARG ;;
    t) timeout=$OPTARG ;;
    *) exit 125 ;;
  esac
done
shift $((OPTIND - 1))
if [ $# -eq 0 ]; then
  echo "usage: $0 [-m MEMORY] [-t SECONDS] PROGRAM [ARGUMENT…]" >&2
  exit 125
fi

if ! command -v linux.uml >/dev/null; then
  echo "skipped: linux.uml is not installed (Debian package user-mode-linux)"
  exit 77
fi
if [ "$(id -u)" != 0 ]; then
  echo "skipped: a test kernel needs root (its root file system is this machine's, with its permissions)"
  exit 77
fi

here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
program=$(type -P -- "$1") || { echo "$1: no such program" >&2; exit 125; }
program=$(realpath "$program")
shift

job=$(mktemp -d "${TMPDIR:-/tmp}/pointsman-uml.XXXXXXXX") || exit 125
trap 'rm -rf "$job"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT
printf '%s\0' "$program" "$@" >"$job/argv"
env -0 >"$job/env"
pwd >"$job/cwd"
# The mount point for the modules must exist on the machine: the test kernel's root is its root.
mkdir -p /lib/modules

# The kernel is a process with helpers in a session of its own. A PID namespace around them ends them
# all whatever ends this script, SIGKILL included (--kill-child, setpriv). --mount-proc because User-Mode Linux
# looks itself up in /proc.
ulimit -c 0
setpriv --pdeathsig KILL unshare --pid --fork --kill-child --mount-proc -- \
  bash -c '"$@"; exit $?' uml \
  timeout --signal KILL "$timeout" \
  linux.uml "mem=$memory" rootfstype=hostfs root=/dev/root rootflags=/ rw \
  "init=$here/run-in-uml-init.sh" con=null con0=null,fd:1 loglevel=1 panic=1 oops=panic \
  "uml_dir=$job" "POINTSMAN_JOB=$job" </dev/null 2>"$job/console.err" &
uml=$!
wait "$uml"
ended=$?

if [ -s "$job/status" ]; then
  exit "$(cat "$job/status")"
fi
if [ "$ended" = 137 ]; then
  echo "run-in-uml: no end after $timeout s: killed" >&2
  exit 124
fi
echo "run-in-uml: the kernel ended (status $ended) before the program did:" >&2
cat "$job/console.err" >&2
exit 125
