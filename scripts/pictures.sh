#!/usr/bin/env bash
# Draws docs/pictures/*.svg.
#   scripts/pictures.sh           from the texts beside them (.dot that have changed, .ansi); needs Debian's packages graphviz
#                                 and python3
#   scripts/pictures.sh --record  records the dashboard and a terminal anew from a real cluster (5 minutes), and draws them;
#                                 needs what the tests need (scripts/setup.sh)
#   scripts/pictures.sh --check   fails when a picture is not of what it should show; draws nothing
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root_dir/docs/pictures"
dashboard=$root_dir/manifests/monitoring/dashboard.json

# Another graphviz draws other bytes: so a picture carries the hash of its text rather than being drawn again to compare.
source_hash() { echo "<!-- source: sha256 $(sha256sum <"$1" | cut -d' ' -f1) -->"; }

draw() {
  case $1 in
    *.dot) dot -Tsvg "$1" ;;
    *.ansi) "$root_dir/scripts/draw_pictures.py" terminal "$1" ;;
  esac
}

case ${1:-} in
  --check)
    for text in *.dot *.ansi; do
      [ "$(tail -n 1 "${text%.*}.svg" 2>/dev/null)" = "$(source_hash "$text")" ] ||
        fail "docs/pictures/${text%.*}.svg is not drawn from $text as it is now: run scripts/pictures.sh"
    done
    # Of a mode or provider that does not run in the recording there is nothing to show.
    while read -r title; do
      grep -qF ">${title//&/&amp;}</text>" dashboard.svg ||
        fail "docs/pictures/dashboard.svg has no panel '$title': run scripts/pictures.sh --record"
    done < <(jq -r '.panels[].title | select(test("^(Userspace mode|Stock kube-proxy): ") | not)' "$dashboard")
    exit 0
    ;;
  --record)
    need_root "scripts/pictures.sh --record"
    "$root_dir/scripts/build.sh" pointsman-record-pictures
    recordings=$(mktemp -d)
    trap 'rm -rf "$recordings"' EXIT
    POINTSMAN_KUBECTL=$build_dir/tools/kubectl-current
    [ -x "$POINTSMAN_KUBECTL" ] || POINTSMAN_KUBECTL=$build_dir/tools/kubectl-1.20
    POINTSMAN_KUBECTL=$POINTSMAN_KUBECTL "$build_dir/bin/pointsman-record-pictures" "$recordings"
    mv "$recordings/status.ansi" .
    "$root_dir/scripts/draw_pictures.py" dashboard "$dashboard" "$recordings" >dashboard.svg.new
    mv dashboard.svg.new dashboard.svg
    ;;
  '') ;;
  *) fail "unknown argument '$1'; usage: scripts/pictures.sh [--record | --check]" ;;
esac
command -v python3 >/dev/null || fail "python3 is missing: apt-get install python3"
for text in *.dot *.ansi; do
  if [[ $text = *.dot ]]; then
    [ "$(tail -n 1 "${text%.*}.svg" 2>/dev/null)" != "$(source_hash "$text")" ] || continue
    command -v dot >/dev/null || fail "dot is missing: apt-get install graphviz"
  fi
  { draw "$text" && source_hash "$text"; } >"${text%.*}.svg.new"
  mv "${text%.*}.svg.new" "${text%.*}.svg"
done
