#!/usr/bin/env bash
# What a build for another architecture is compiled and linked against: Debian's packages of scripts/packages.txt for that
# architecture, unpacked into DIR; and the compiler. No package of that architecture is installed on this machine.
#   scripts/sysroot.sh ARCHITECTURE DIR     ARCHITECTURE as Debian names it: arm64
# Beside it: DIR.shlibs, which package has which library (dpkg's deb-shlibs(5)).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
[ $# = 2 ] || fail "usage: scripts/sysroot.sh ARCHITECTURE DIR"
arch=$1 sysroot=$(realpath -m "$2")
machine=$(machine_of "$arch")

missing=()
for package in "g++-${machine//_/-}-linux-gnu" qemu-user-static dpkg-dev; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  need_root scripts/sysroot.sh
  step "Installing ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Of packages.txt what is linked to; the compiler brings its own C++ library only in part.
mapfile -t packages < <(grep -e '-dev$' "$root_dir/scripts/packages.txt" && printf '%s\n' libc6-dev libstdc++-12-dev linux-libc-dev)
if [ "$(cat "$sysroot.packages" 2>/dev/null)" = "${packages[*]}" ]; then
  note "$sysroot has all packages"
  exit 0
fi
step "Fetching ${#packages[@]} packages for $arch, and what they need, into $sysroot"
# An apt of its own: its lists and its idea of what is installed (nothing) are here, sources and keys the machine's.
apt=$(mktemp -d)
trap 'rm -rf "$apt"' EXIT
mkdir -p "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
options=(-qq -o APT::Architecture="$arch" -o APT::Architectures::="$arch" -o APT::Install-Recommends=false -o APT::Sandbox::User=root
  -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache")
apt-get "${options[@]}" update
apt-get "${options[@]}" -y --download-only install "${packages[@]}" >/dev/null
rm -rf "$sysroot" "$sysroot.packages"
mkdir -p "$sysroot"
for package in "$apt"/cache/archives/*.deb; do
  dpkg-deb --extract "$package" "$sysroot"
  if [ -n "$(dpkg-deb --info "$package" | sed -n '/ shlibs *$/p')" ]; then dpkg-deb --info "$package" shlibs; fi
done >"$sysroot.shlibs"
# The linker takes a link's target for one of this machine's.
find "$sysroot" -type l -lname '/*' -printf '%p\t%l\n' | while IFS=$'\t' read -r link target; do
  ln -sfr "$sysroot$target" "$link"
done
echo "${packages[*]}" >"$sysroot.packages"
