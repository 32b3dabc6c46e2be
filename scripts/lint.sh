#!/usr/bin/env bash
# clang-format and clang-tidy over the project's own sources; a finding is an error.
#   scripts/lint.sh [--quick] [FILE…]            these files; none: all
#   scripts/lint.sh [--quick] --changed [REF]    the files that differ from where this branch left REF (main)
#   scripts/lint.sh [--quick] --recent           the files that the last hour of commits changed
# Each header is also compiled alone, without the precompiled header that would hide what it does not include.
# --quick leaves out clang's static analyzer, which takes five times as long as all other checks together.
# A file that clang-tidy found clean is not looked at again until it, a file that is compiled with it, a header of ours,
# its compiler flags, .clang-tidy or clang-tidy itself changes (build/lint/ remembers).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root_dir"

checks=()
if [ "${1:-}" = --quick ]; then
  checks=(--checks=-clang-analyzer-*)
  shift
fi
base=
if [ "${1:-}" = --changed ]; then
  base=$(git merge-base "${2:-main}" HEAD) || fail "'${2:-main}' is no commit of this repository"
elif [ "${1:-}" = --recent ]; then
  # Counted from the last commit and not from now, so that the same commit is always checked in the same way.
  # A clone that has no older commit: all that there is.
  last=$(git log -1 --format=%ct)
  base=$(git rev-list -1 --before="$((last - 3600))" HEAD)
  [ -n "$base" ] || base=$(git hash-object -t tree /dev/null)
fi
if [ -n "$base" ]; then
  mapfile -t sources < <(git diff --name-only --diff-filter=d "$base" -- '*.h' '*.cpp'
    git ls-files --others --exclude-standard '*.h' '*.cpp')
  [ ${#sources[@]} -gt 0 ] || { note "no source differs from $base"; exit 0; }
elif [ $# -gt 0 ]; then
  sources=("$@")
else
  mapfile -t sources < <(git ls-files '*.h' '*.cpp')
fi
step "clang-format: ${#sources[@]} files"
clang-format --dry-run --Werror "${sources[@]}"

[ "${POINTSMAN_LINT:-all}" != format ] || exit 0
# The commands of a default build, which compiles a target's files eight at a time, whatever the build here is: most of
# clang-tidy's time goes into the libraries' headers, and so it reads them once for the eight.
commands_dir=$build_dir/lint-commands
mkdir -p "$commands_dir"
cmake -G Ninja -S "$root_dir" -B "$commands_dir" -DCMAKE_UNITY_BUILD=ON ${POINTSMAN_CMAKE_ARGS:-} >"$commands_dir/configure.log" 2>&1 ||
  { cat "$commands_dir/configure.log" >&2; fail "cmake could not write the commands for clang-tidy"; }
remembered=$build_dir/lint
mkdir -p "$remembered"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

# The options of the file that makes one of gcc's precompiled headers are those that the files with it have.
options_of() {
  read -r -a options < <(jq -r --arg file "$root_dir/cmake/$1.cpp" \
    '.[] | select(.file == $file) | .command | split(" -include ")[0] | sub(" -Winvalid-pch"; "") | sub(" -fpch-preprocess"; "") | sub(" -Wno-subobject-linkage"; "")' \
    "$commands_dir/compile_commands.json")
}
options_of pch
# A header that built alone is remembered with the hashes of all our headers that it includes.
todo=()
while IFS= read -r header; do
  header=${header#"$root_dir/"}
  sha256sum --check --status "$remembered/${header//\//,}.alone" 2>/dev/null || todo+=("$header")
done < <(printf '%s\n' "${sources[@]}" | grep '\.h$' || true)
step "headers that build alone: ${#todo[@]} to look at"
export work remembered compile="clang++ ${options[*]:1}"
[ ${#todo[@]} = 0 ] || printf '%s\0' "${todo[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c '
  dependencies=$work/${0//\//,}
  $compile -fsyntax-only -include "$0" -MMD -MF "$dependencies" -x c++ /dev/null &&
    sed "s/^[^:]*://; s/\\\\$//" "$dependencies" | tr -s " " "\n" | grep "\.h$" | xargs sha256sum >"$remembered/${0//\//,}.alone"' ||
  status=1
[ $status = 0 ] || fail "headers do not build alone (above): each has to include what it uses"

mapfile -t units < <(printf '%s\n' "${sources[@]}" | grep '\.cpp$' || true)
[ ${#units[@]} -gt 0 ] || exit 0

# clang cannot read gcc's precompiled header: what is remembered goes by the header itself, and clang-tidy
# gets one of clang's own (below). It does not know all of gcc's warnings either.
sed -E "s# -Winvalid-pch##; s# -fpch-preprocess##; s# -Wno-subobject-linkage##; s#-include [^ ]*/pointsman_(test_)?pch\\.dir/cmake_pch\\.hxx#-include $root_dir/cmake/\\1pch.h#" \
  "$commands_dir/compile_commands.json" >"$work/compile_commands.json"

# One line a source file: its path, the file that is compiled for it (itself, or one that includes eight), its command.
jq -r '.[] | [.file, .command] | @tsv' "$work/compile_commands.json" | while IFS=$'\t' read -r compiled command; do
  case $compiled in
    */Unity/unity_*) sed -n 's/^#include "\(.*\)"$/\1/p' "$compiled" ;;
    *) echo "$compiled" ;;
  esac | while read -r source; do printf '%s\t%s\t%s\n' "${source#"$root_dir/"}" "$compiled" "$command"; done
done >"$work/compiled-as"
# And: its path, the hashes of all it is made of. What it includes is what ninja noted when it was compiled; a file
# that was not compiled yet counts as one that includes everything.
{
  git ls-files -z --cached --others --exclude-standard '*.h' '*.cpp' | xargs -0 sha256sum | awk '{print "hash\t" $2 "\t" $1}'
  awk -F '\t' '{ print "flags\t" $1 "\t" $3 }' "$work/compiled-as"
  { [ ! -f "$build_dir/build.ninja" ] || ninja -C "$build_dir" -t deps 2>/dev/null; } | sed -n "s#^    \(\.\./\|$root_dir/\)#dep\t#p; s#^[^ ].*: \#deps.*#object\t#p"
} | awk -F '\t' '
  function close_object(   i, all) {
    for (i = 1; i <= count; ++i) all = all hash[dep[i]]
    # Files that were compiled together are each made of what all of them include.
    for (i = 1; i <= count; ++i) if (dep[i] ~ /\.cpp$/ && !(dep[i] in made_of)) made_of[dep[i]] = all
    count = 0
  }
  $1 == "hash" { hash[$2] = $3; everything = everything $3 }
  $1 == "flags" { flags[$2] = flags[$2] $3 }
  $1 == "object" { close_object() }
  $1 == "dep" { dep[++count] = $2 }
  END {
    close_object()
    for (source in flags) print source "\t" hash[source] (source in made_of ? made_of[source] : everything) flags[source]
  }' >"$work/made-of"
tool=$(clang-tidy --version | sha256sum)$(sha256sum <.clang-tidy)${checks[*]}

declare -A made_of compiled_as key_of compilations
while IFS=$'\t' read -r source parts; do made_of[$source]=$parts; done <"$work/made-of"
while IFS=$'\t' read -r source compiled _; do compiled_as[$source]=$compiled; done <"$work/compiled-as"
for source in "${!made_of[@]}"; do
  key=$(printf '%s' "$tool${made_of[$source]}" | sha256sum)
  key_of[$source]=${key%% *}
done
for source in "${units[@]}"; do
  source=${source#"$root_dir/"}
  # A target of libFuzzer is compiled by clang in a build of its own.
  [ -n "${compiled_as[$source]+there}" ] || { note "$source: not in this build, left out"; continue; }
  [ -e "$remembered/${key_of[$source]}" ] || compilations[${compiled_as[$source]}]=yes
done
step "clang-tidy: ${#compilations[@]} compilations (${#units[@]} files looked at, the others were clean before)"
[ ${#compilations[@]} -gt 0 ] || exit 0
# Precompiled headers of clang's own spare each file a quarter of its time. Tests have other options than the product.
for header in pch test_pch; do
  options_of "$header"
  clang++ "${options[@]:1}" -x c++-header "$root_dir/cmake/$header.h" -o "$work/$header"
  sed -i "s#-include $root_dir/cmake/$header\\.h#-include-pch $work/$header#" "$work/compile_commands.json"
done
export checks_option=${checks[*]}
printf '%s\0' "${!compilations[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c '
  clang-tidy -p "$work" --quiet ${checks_option:+"$checks_option"} "$0" 2> >(grep -v "warnings\? generated" >&2) && touch "$work/clean-${0//\//,}"' || status=1
for source in "${!compiled_as[@]}"; do
  [ ! -e "$work/clean-${compiled_as[$source]//\//,}" ] || touch "$remembered/${key_of[$source]}"
done
# What was not used for a month belongs to an earlier version of a file.
find "$remembered" -type f -mtime +30 -delete
[ $status = 0 ] || fail "clang-tidy has findings (above)"
