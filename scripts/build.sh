#!/usr/bin/env bash
# Configures and builds into build/. Arguments are targets; none: everything.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Paths relative to the checkout: a second checkout (a fresh clone, a git worktree) finds what the first compiled.
# It hashes the precompiled header once and not for each file.
export CCACHE_BASEDIR=$root_dir CCACHE_NOHASHDIR=1 CCACHE_INODECACHE=1

step "Building (jobs: $(jobs_for_this_machine))"
[ -f "$build_dir/build.ninja" ] || cmake -G Ninja -S "$root_dir" -B "$build_dir" ${POINTSMAN_CMAKE_ARGS:-} >"$build_dir.configure.log" 2>&1 ||
  { cat "$build_dir.configure.log" >&2; fail "cmake could not configure the build"; }
ninja -C "$build_dir" -j "$(jobs_for_this_machine)" "$@"
