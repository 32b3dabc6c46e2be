#!/usr/bin/env bash
# clang-format and clang-tidy over the project's own sources; a finding is an error.
# Arguments: files to look at; none: all.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root_dir"

mapfile -t sources < <(if [ $# -gt 0 ]; then printf '%s\n' "$@"; else git ls-files '*.h' '*.cpp'; fi)
step "clang-format: ${#sources[@]} files"
clang-format --dry-run --Werror "${sources[@]}"

[ "${POINTSMAN_LINT:-all}" != format ] || exit 0
[ -f "$build_dir/compile_commands.json" ] || fail "clang-tidy reads the build's commands: run scripts/build.sh first"
mapfile -t units < <(printf '%s\n' "${sources[@]}" | grep '\.cpp$')
step "clang-tidy: ${#units[@]} files"
# clang cannot read gcc's precompiled header: give it the header itself.
tidy_dir=$(mktemp -d)
trap 'rm -rf "$tidy_dir"' EXIT
sed -E "s# -Winvalid-pch##; s# -fpch-preprocess##; s#[^ ]*/cmake_pch\\.hxx#$root_dir/cmake/pch.h#" \
  "$build_dir/compile_commands.json" >"$tidy_dir/compile_commands.json"
printf '%s\0' "${units[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy -p "$tidy_dir" --quiet
