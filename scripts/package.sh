#!/usr/bin/env bash
# Makes what is handed out: Debian packages of the agent and of the operator with their systemd units, the plugin as an
# archive with a krew manifest, and checksums.
#   scripts/package.sh [--arch arm64] [DIR]     DIR: build/packages unless given
# For another architecture than this machine's the programs are cross-compiled (into build/arm64) and started once under
# emulation; what is in DIR of other architectures stays, and the manifest and the checksums are of all. The version is that
# of CMakeLists.txt. POINTSMAN_RELEASE_URL: where the archives are going to be, for the krew manifest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

programs="pointsman-node-agent pointsman-forwarder pointsman-kmod pointsman-operator kubectl-pointsman"
for tool in dpkg-deb dpkg-shlibdeps strip readelf sha256sum; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install dpkg-dev binutils coreutils"
done
native=$(dpkg --print-architecture)
arch=$native
if [ "${1:-}" = --arch ]; then
  arch=${2:-}
  [ -n "$arch" ] || fail "--arch needs an architecture, as Debian names it: arm64"
  shift 2
fi
machine=$(machine_of "$arch")
out=$(realpath -m "${1:-$build_dir/packages}")

if [ "$arch" = "$native" ]; then
  sysroot="" tools="" run=""
  # Built already, by a test: not again.
  [ -n "${POINTSMAN_PACKAGE_BUILT:-}" ] || "$root_dir/scripts/build.sh" $programs
else
  build_dir=$build_dir/$arch
  sysroot=$build_dir/sysroot tools=$machine-linux-gnu- run="qemu-$machine-static -L $build_dir/sysroot"
  "$root_dir/scripts/sysroot.sh" "$arch" "$sysroot"
  POINTSMAN_BUILD_DIR=$build_dir POINTSMAN_MACHINE=$machine POINTSMAN_SYSROOT=$sysroot \
    POINTSMAN_CMAKE_ARGS="-DCMAKE_TOOLCHAIN_FILE=$root_dir/cmake/cross.cmake" "$root_dir/scripts/build.sh" $programs
fi
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build_dir/CMakeCache.txt")
[ -n "$version" ] || fail "$build_dir/CMakeCache.txt has no version: build first"
# The same files from the same commit, whenever they are made.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root_dir" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/bin" "$work/debian"
for program in $programs; do
  "${tools}strip" -o "$work/bin/$program" "$build_dir/bin/$program"
  said=$($run "$work/bin/$program" --version | awk '{print $NF}')
  [ "$said" = "$version" ] || fail "$program says that it is version '$said', CMakeLists.txt says $version: build anew"
done

# libraries_of FILE: the names of those that it links to itself.
libraries_of() {
  readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'
}

# depends_of PROGRAM…: the packages of the libraries that they link to.
depends_of() {
  if [ -n "$sysroot" ]; then
    local program library
    for program in "$@"; do
      libraries_of "$work/bin/$program"
    done | sort -u | while read -r library; do
      package_of "$library"
    done | sort -u | paste -sd, | sed 's/,/, /g'
    return
  fi
  printf 'Source: pointsman\n' >"$work/debian/control"
  (cd "$work" && dpkg-shlibdeps -O "${@/#/-ebin/}") | sed 's/^shlibs:Depends=//'
}

# package_of LIBRARY: libmnl.so.0, of which deb-shlibs(5) has the name and the version apart.
package_of() {
  local name=${1%%.so.*} version=${1#*.so.} found
  found=$(awk -v name="$name" -v version="$version" '$1 == name && $2 == version {$1 = $2 = ""; print substr($0, 3); exit}' \
    "$sysroot.shlibs")
  [ -n "$found" ] || fail "no package in $sysroot.shlibs has $1"
  echo "$found"
}

# make_package NAME SUMMARY DEPENDS DESCRIPTION PROGRAM…
make_package() {
  local name=$1 summary=$2 depends=$3 description=$4
  shift 4
  local root="$work/$name" files="$root_dir/packaging/${name#pointsman-}"
  install -d "$root/DEBIAN" "$root/usr/lib/pointsman" "$root/usr/sbin" "$root/lib/systemd/system" "$root/etc/default" \
    "$root/usr/share/doc/$name"
  for program in "$@"; do
    install -m 755 "$work/bin/$program" "$root/usr/lib/pointsman/"
  done
  # The agent looks for its other programs beside itself, by its real path.
  ln -s "../lib/pointsman/$name" "$root/usr/sbin/$name"
  install -m 644 "$files/$name.service" "$root/lib/systemd/system/"
  install -m 644 "$files/default" "$root/etc/default/$name"
  install -m 644 "$root_dir/LICENSE" "$root/usr/share/doc/$name/copyright"
  install -m 644 "$root_dir"/docs/*.md "$root/usr/share/doc/$name/"
  echo "/etc/default/$name" >"$root/DEBIAN/conffiles"
  for script in postinst prerm postrm; do
    sed "s/@UNIT@/$name.service/g" "$root_dir/packaging/$script" >"$root/DEBIAN/$script"
    chmod 755 "$root/DEBIAN/$script"
  done
  cat >"$root/DEBIAN/control" <<END
Package: $name
Version: $version
Architecture: $arch
Section: net
Priority: optional
Maintainer: Pointsman <pointsman@localhost>
Installed-Size: $(du -sk --exclude=DEBIAN "$root" | cut -f1)
Depends: $depends
Description: $summary
$(fold -s -w 76 <<<"$description" | sed 's/ *$//; s/^/ /')
END
  # For `dpkg --verify`.
  (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
  find "$root" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
  dpkg-deb --root-owner-group -Zxz --build "$root" "$out/${name}_${version}_$arch.deb" >/dev/null
  note "${name}_${version}_$arch.deb"
}

# add_libraries FILE DIR: what FILE links to, and what that does.
add_libraries() {
  local library path
  for library in $(libraries_of "$1"); do
    case "$library" in
      libc.so.*|libm.so.*|libpthread.so.*|libdl.so.*|librt.so.*|ld-linux*) continue ;;
    esac
    [ ! -e "$2/$library" ] || continue
    for path in "$sysroot"/{usr/,}lib/"$machine-linux-gnu"/"$library"; do
      if [ -e "$path" ]; then
        install -m 644 "$path" "$2/$library"
        add_libraries "$path" "$2"
        continue 2
      fi
    done
    fail "$1 links to $library, which is not in ${sysroot:-/}"
  done
}

# The plugin with the libraries that other distributions have in other versions; glibc is the system's.
make_plugin() {
  local name="kubectl-pointsman_v${version}_linux_$arch"
  local root="$work/$name"
  install -d "$root/lib"
  install -m 755 "$work/bin/kubectl-pointsman" "$root/"
  add_libraries "$root/kubectl-pointsman" "$root/lib"
  $run "$root/kubectl-pointsman" completion kubectl >"$root/kubectl_complete-pointsman"
  chmod 755 "$root/kubectl_complete-pointsman"
  install -m 644 "$root_dir/LICENSE" "$root_dir/docs/kubectl-pointsman.md" "$root/"
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$root" -c . |
    gzip -n >"$out/$name.tar.gz"
  note "$name.tar.gz"
}

# Of all archives of this version that are there: what follows "platforms:" in krew.yaml is of one.
make_manifest() {
  local archive name arch_of
  sed "/^  platforms:/q; s|@VERSION@|$version|" "$root_dir/packaging/krew.yaml"
  for archive in "$out/kubectl-pointsman_v${version}_linux_"*.tar.gz; do
    name=$(basename "$archive") arch_of=${archive##*_linux_}
    sed "1,/^  platforms:/d; s|@ARCH@|${arch_of%.tar.gz}|; s|@URL@|${POINTSMAN_RELEASE_URL:-file://$out}/$name|
      s|@SHA256@|$(sha256sum "$archive" | cut -d' ' -f1)|" "$root_dir/packaging/krew.yaml"
  done
}

step "Packages of version $version for $arch in $out"
agent_depends=$(depends_of pointsman-node-agent pointsman-forwarder pointsman-kmod)
operator_depends=$(depends_of pointsman-operator)
make_package pointsman-node-agent "Kubernetes node proxy that moves between iptables, ipvs and nftables" \
  "$agent_depends, iptables" \
  "Takes the place of kube-proxy on a node, or is told by the Pointsman operator what to run. It hands Service traffic over from one kernel mechanism to another while connections keep running. Its rules stay when it is removed: pointsman-node-agent --cleanup takes them out before." \
  pointsman-node-agent pointsman-forwarder pointsman-kmod
make_package pointsman-operator "Rolls out how a Kubernetes cluster's Service traffic is carried" \
  "$operator_depends" \
  "Changes one node of the cluster after the other to what ProxyConfigurations ask for, looks whether each serves, and goes back when one does not." \
  pointsman-operator
make_plugin
make_manifest >"$out/pointsman.yaml"
note "pointsman.yaml (kubectl krew install --manifest=pointsman.yaml --archive=kubectl-pointsman_v${version}_linux_$arch.tar.gz)"
(cd "$out" && sha256sum -- *.deb *.tar.gz pointsman.yaml >SHA256SUMS)
note "SHA256SUMS"
