#!/usr/bin/env bash
# Makes what is handed out, into build/packages/ (or the directory that is the argument): Debian packages of the agent
# and of the operator with their systemd units, the plugin as an archive with a krew manifest, and checksums. The
# version is that of CMakeLists.txt. POINTSMAN_RELEASE_URL: where the archive is going to be, for the krew manifest.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

programs="pointsman-node-agent pointsman-forwarder pointsman-kmod pointsman-operator kubectl-pointsman"
for tool in dpkg-deb dpkg-shlibdeps strip sha256sum; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install dpkg-dev binutils coreutils"
done

# Built already, by a test: not again.
[ -n "${POINTSMAN_PACKAGE_BUILT:-}" ] || "$root_dir/scripts/build.sh" $programs
version=$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' "$build_dir/CMakeCache.txt")
[ -n "$version" ] || fail "$build_dir/CMakeCache.txt has no version: build first"
arch=$(dpkg --print-architecture)
out=$(realpath -m "${1:-$build_dir/packages}")
# The same files from the same commit, whenever they are made.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root_dir" log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$out" "$work/bin" "$work/debian"
for program in $programs; do
  strip -o "$work/bin/$program" "$build_dir/bin/$program"
  said=$("$work/bin/$program" --version | awk '{print $NF}')
  [ "$said" = "$version" ] || fail "$program says that it is version '$said', CMakeLists.txt says $version: build anew"
done

# depends_of PROGRAM…: the packages of the libraries that they link to.
depends_of() {
  printf 'Source: pointsman\n' >"$work/debian/control"
  (cd "$work" && dpkg-shlibdeps -O "${@/#/-ebin/}") | sed 's/^shlibs:Depends=//'
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

# The plugin with the libraries that other distributions have in other versions; glibc is the system's.
make_plugin() {
  local name="kubectl-pointsman_v${version}_linux_$arch" library path
  local root="$work/$name"
  install -d "$root/lib"
  install -m 755 "$work/bin/kubectl-pointsman" "$root/"
  while read -r library path; do
    case "$library" in
      libc.so.*|libm.so.*|libpthread.so.*|libdl.so.*|librt.so.*|ld-linux*) ;;
      *) install -m 644 "$path" "$root/lib/$library" ;;
    esac
  done < <(ldd "$work/bin/kubectl-pointsman" | awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}')
  "$root/kubectl-pointsman" completion kubectl >"$root/kubectl_complete-pointsman"
  chmod 755 "$root/kubectl_complete-pointsman"
  install -m 644 "$root_dir/LICENSE" "$root_dir/docs/kubectl-pointsman.md" "$root/"
  tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$root" -c . |
    gzip -n >"$out/$name.tar.gz"
  note "$name.tar.gz"
  sed "s|@VERSION@|$version|; s|@ARCH@|$arch|; s|@URL@|${POINTSMAN_RELEASE_URL:-file://$out}/$name.tar.gz|
    s|@SHA256@|$(sha256sum "$out/$name.tar.gz" | cut -d' ' -f1)|" "$root_dir/packaging/krew.yaml" >"$out/pointsman.yaml"
  note "pointsman.yaml (kubectl krew install --manifest=pointsman.yaml --archive=$name.tar.gz)"
}

step "Packages of version $version in $out"
make_package pointsman-node-agent "Kubernetes node proxy that moves between iptables, ipvs and nftables" \
  "$(depends_of pointsman-node-agent pointsman-forwarder pointsman-kmod), iptables" \
  "Takes the place of kube-proxy on a node, or is told by the Pointsman operator what to run. It hands Service traffic over from one kernel mechanism to another while connections keep running. Its rules stay when it is removed: pointsman-node-agent --cleanup takes them out before." \
  pointsman-node-agent pointsman-forwarder pointsman-kmod
make_package pointsman-operator "Rolls out how a Kubernetes cluster's Service traffic is carried" \
  "$(depends_of pointsman-operator)" \
  "Changes one node of the cluster after the other to what ProxyConfigurations ask for, looks whether each serves, and goes back when one does not." \
  pointsman-operator
make_plugin
(cd "$out" && sha256sum -- *.deb *.tar.gz pointsman.yaml >SHA256SUMS)
note "SHA256SUMS"
