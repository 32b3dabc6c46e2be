# Shared by the scripts: messages, and what has to be there. Sourced, not run.

step() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
note() { printf '    %s\n' "$*"; }
fail() {
  printf '\033[31merror:\033[0m %s\n' "$*" >&2
  exit 1
}

root_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build_dir=${POINTSMAN_BUILD_DIR:-$root_dir/build}

# Everything here makes network namespaces, taps and kernel rules of its own.
need_root() {
  [ "$(id -u)" = 0 ] || fail "$1 needs root: it makes network namespaces and boots test kernels. Try: sudo $1"
}

# A build is one process a core, but never more than memory carries: the largest source files take
# about 1.5 GB each.
jobs_for_this_machine() {
  local cores by_memory
  cores=$(nproc)
  by_memory=$(awk '/MemAvailable/ {print int($2 / 1500000)}' /proc/meminfo)
  [ "$by_memory" -ge 1 ] || by_memory=1
  [ "$cores" -le "$by_memory" ] && echo "$cores" || echo "$by_memory"
}

# The kernel's and gcc's name of an architecture of Debian's.
machine_of() {
  case $1 in
    amd64) echo x86_64 ;;
    arm64) echo aarch64 ;;
    *) fail "architecture '$1': Pointsman is built for amd64 and arm64" ;;
  esac
}
