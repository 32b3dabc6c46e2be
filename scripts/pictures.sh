#!/usr/bin/env bash
# Draws docs/pictures/*.svg from the .dot files beside them.
#   scripts/pictures.sh           draws; needs Debian's package graphviz
#   scripts/pictures.sh --check   fails when a picture is not of the text beside it; draws nothing
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root_dir/docs/pictures"

# Another graphviz draws other bytes: so a picture carries the hash of its text rather than being drawn again to compare.
source_hash() { echo "<!-- source: sha256 $(sha256sum <"$1" | cut -d' ' -f1) -->"; }

if [ "${1:-}" = --check ]; then
  for text in *.dot; do
    [ "$(tail -n 1 "${text%.dot}.svg" 2>/dev/null)" = "$(source_hash "$text")" ] ||
      fail "docs/pictures/${text%.dot}.svg is not drawn from $text as it is now: run scripts/pictures.sh"
  done
  exit 0
fi
command -v dot >/dev/null || fail "dot is missing: apt-get install graphviz"
for text in *.dot; do
  { dot -Tsvg "$text" && source_hash "$text"; } >"${text%.dot}.svg.new"
  mv "${text%.dot}.svg.new" "${text%.dot}.svg"
done
