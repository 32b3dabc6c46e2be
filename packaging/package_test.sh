#!/usr/bin/env bash
# Makes the packages of what is built, unpacks each somewhere else, and starts what is in it.
# Arguments: the build directory, and the directory that the packages are put into, for install_test.sh.
set -euo pipefail
source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
for tool in dpkg-deb dpkg-shlibdeps strip systemd-analyze; do
  command -v "$tool" >/dev/null || { echo "skipped: $tool is missing"; exit 77; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
expect() {
  local what=$1
  shift
  "$@" || { echo "FAILED: $what: $*"; failed=1; }
}
says() { "$1" --version | grep -q " $version\$"; }

rm -rf "$2"
POINTSMAN_BUILD_DIR=$1 POINTSMAN_PACKAGE_BUILT=1 "$source_dir/scripts/package.sh" "$2"
version=$(sed -n 's/^project(pointsman VERSION \([0-9.]*\).*/\1/p' "$source_dir/CMakeLists.txt")
cd "$2"
expect "the checksums are those of the files" sha256sum --quiet -c SHA256SUMS

for name in pointsman-node-agent pointsman-operator; do
  package=$(echo "$name"_"$version"_*.deb)
  root="$work/$name"
  dpkg-deb -R "$package" "$root"
  expect "the version" test "$(dpkg-deb -f "$package" Version)" = "$version"
  expect "libraries are depended on" grep -q "^Depends: .*libc6 (>= .*libcpprest" "$root/DEBIAN/control"
  expect "the program starts by its link" says "$root/usr/sbin/$name"
  expect "all belongs to root" test -z "$(dpkg-deb -c "$package" | grep -v ' root/root ')"
  for script in postinst prerm postrm; do
    expect "a script for sh" sh -n "$root/DEBIAN/$script"
    expect "the unit's name" test -z "$(grep @ "$root/DEBIAN/$script")"
  done
  # systemd reads the unit where it is going to be, with the program beside it.
  expect "systemd takes the unit" systemd-analyze verify --root "$root" --man=no --recursive-errors=no "$name.service"
done
for program in pointsman-forwarder pointsman-kmod; do
  expect "beside the agent" says "$work/pointsman-node-agent/usr/lib/pointsman/$program"
done

plugin="$work/plugin"
mkdir "$plugin"
tar -xzf kubectl-pointsman_*.tar.gz -C "$plugin"
expect "the plugin starts" says "$plugin/kubectl-pointsman"
# What it links to is in the archive, but for glibc. As krew installs it: by a link.
mkdir "$work/path"
ln -s "$plugin/kubectl-pointsman" "$work/path/"
elsewhere=$(LD_TRACE_LOADED_OBJECTS=1 "$work/path/kubectl-pointsman" | awk '$2 == "=>" {print $3}' | grep -v "^$plugin/lib/" |
  grep -Ev '/(libc|libm|libpthread|libdl|librt)\.so' || true)
expect "no library of this machine: $elsewhere" test -z "$elsewhere"
expect "kubectl's completion asks the plugin" grep -q __complete "$plugin/kubectl_complete-pointsman"
expect "krew's checksum" grep -q "sha256: $(sha256sum kubectl-pointsman_*.tar.gz | cut -d' ' -f1)" pointsman.yaml
expect "krew's version" grep -q "version: v$version\$" pointsman.yaml
expect "nothing is left to fill in" test -z "$(grep @ pointsman.yaml)"
exit $failed
