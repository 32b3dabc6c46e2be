#!/usr/bin/env bash
# What dpkg makes of the packages: they are installed, upgraded, removed, purged and installed again. Nothing of that
# comes to this machine: its files and its package database are the lower layer of an overlay, in a mount namespace and
# below a root of their own.
# Argument: the directory of the packages, as package_test.sh makes them.
set -euo pipefail
packages="pointsman-node-agent pointsman-operator"
failed=0
expect() {
  local what=$1
  shift
  "$@" || { echo "FAILED: $what: $*"; failed=1; }
}
fails() { ! "$@"; }

skip() {
  echo "skipped: $1"
  exit 77
}

if [ "${1:-}" != --in-namespace ] && [ "${1:-}" != --in-root ]; then
  [ "$(id -u)" = 0 ] || skip "needs root, for a mount namespace and an overlay"
  for tool in dpkg dpkg-deb unshare chroot systemctl systemd-analyze; do
    command -v "$tool" >/dev/null || skip "$tool is missing"
  done
  ls "$1"/pointsman-*.deb >/dev/null 2>&1 || skip "no packages in $1: package_test.sh makes them"
  work=$(mktemp -d)
  trap 'rmdir "$work"' EXIT
  unshare --mount --pid --net --ipc --fork --kill-child "$0" --in-namespace "$(realpath "$1")" "$work"
  exit
fi

# What of the machine's files has been changed below the overlay's root, and is neither the package database nor its
# log: files, links, marks of what was removed, and directories that the machine does not have.
changed_files() {
  (cd "$1" && find . -mindepth 1 \( ! -type d -o -exec sh -c '[ ! -d "/$1" ]' - {} \; \) -printf '/%P\n') |
    sed -E '\,^/(var/lib/dpkg/|var/log/dpkg[.]log$|var/cache/ldconfig|etc/ld[.]so[.]cache$|packages(/|$)),d' | sort
}

if [ "$1" = --in-namespace ]; then
  work=$3
  mount -t tmpfs -o mode=755 none "$work"
  mkdir "$work/upper" "$work/work" "$work/root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root" 2>"$work/why" ||
    skip "no overlay of / can be mounted here: $(cat "$work/why")"
  mount -t proc proc "$work/root/proc"
  mount --rbind /dev "$work/root/dev"
  mount -t tmpfs -o mode=755 none "$work/root/run"
  mkdir "$work/root/packages"
  cp "$2"/pointsman-*.deb "$0" "$work/root/packages/"
  for stage in install upgrade remove purge again; do
    echo "-- $stage"
    chroot "$work/root" "/packages/$(basename "$0")" --in-root "$stage" || failed=1
    case $stage in
      purge | again) expect "nothing is left" test -z "$(changed_files "$work/upper")" ;;
      *) expect "files of the packages alone" test -z "$(changed_files "$work/upper" |
        grep -Ev '/pointsman-|^/usr/lib/pointsman$|^/usr/local/sbin/systemctl$')" ;;
    esac
  done
  exit $failed
fi

# Below the root.
cd /packages
export DEBIAN_FRONTEND=noninteractive PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
asked=/run/systemctl-was-asked
status_of() { dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | tr -d ' '; }
version_of() { dpkg-query -W -f '${Version}' "$1"; }
says() { "$1" --version | grep -q " $2\$"; }
on_links() { find /etc/systemd -name 'pointsman-*'; }
unchanged() { test -z "$(dpkg --verify "$1")"; }
install() { dpkg --force-unsafe-io "$@" >/run/dpkg.out 2>&1 || { cat /run/dpkg.out; return 1; }; }

# make_newer NAME VERSION COMMENT: a package of a higher version, with that line in its conffile; "": with the same.
make_newer() {
  local root
  root=$(mktemp -d -p /run)
  dpkg-deb -R "$(ls "$1"_*.deb | head -n 1)" "$root"
  sed -i "s/^Version: .*/Version: $2/" "$root/DEBIAN/control"
  [ -z "$3" ] || echo "# $3" >>"$root/etc/default/$1"
  (cd "$root" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
  dpkg-deb --root-owner-group -Zgzip -z1 --build "$root" "/run/$1_$2.deb" >/dev/null
  rm -rf "$root"
}

# From here systemd seems to run: what systemctl is asked for is written down. With `$1` it refuses everything.
pretend_systemd() {
  mkdir -p /run/systemd/system
  printf '#!/bin/sh\necho "$*" >>%s\nexit %s\n' "$asked" "${1:-0}" >/usr/local/sbin/systemctl
  chmod 755 /usr/local/sbin/systemctl
  : >"$asked"
}
without_systemd() {
  rm -rf /run/systemd /usr/local/sbin/systemctl
}
was_asked() { grep -qx -- "$1" "$asked"; }

case $2 in
  install)
    without_systemd
    first=$(ls pointsman-*.deb)
    expect "dpkg installs both, and what they depend on is there" install -i $first
    for name in $packages; do
      expect "installed" test "$(status_of "$name")" = ii
      expect "all files are there as they were packed" unchanged "$name"
      expect "the program starts" says "/usr/sbin/$name" "$(version_of "$name")"
      expect "systemd takes the unit" systemd-analyze verify --man=no --recursive-errors=no "$name.service"
    done
    for program in pointsman-forwarder pointsman-kmod; do
      expect "beside the agent" says "/usr/lib/pointsman/$program" "$(version_of pointsman-node-agent)"
    done
    expect "nothing is enabled by itself" test -z "$(on_links)"
    expect "dpkg has nothing to complain of" test -z "$(dpkg --audit)"
    ;;
  upgrade)
    conffile=/etc/default/pointsman-node-agent
    echo 'POINTSMAN_NODE_AGENT_ARGS="--config /srv/mine.conf"' >>"$conffile"
    mine=$(cat "$conffile")
    without_systemd
    for name in $packages; do make_newer "$name" 9.1.0 ""; done
    expect "an upgrade without questions" install -i /run/pointsman-*_9.1.0.deb
    expect "what the administrator wrote" test "$(cat "$conffile")" = "$mine"
    expect "no copies beside it" test -z "$(ls /etc/default/pointsman-*.dpkg-* 2>/dev/null)"
    # The package's conffile has changed, too, and systemd runs.
    pretend_systemd
    for name in $packages; do make_newer "$name" 9.2.0 "of version 9.2.0"; done
    expect "an upgrade that keeps what was changed" install --force-confold -i /run/pointsman-*_9.2.0.deb
    expect "what the administrator wrote" test "$(cat "$conffile")" = "$mine"
    expect "the package's beside it" grep -q "of version 9.2.0" "$conffile.dpkg-dist"
    rm "$conffile.dpkg-dist"
    expect "who has changed nothing gets the new one" grep -q "of version 9.2.0" /etc/default/pointsman-operator
    expect "systemd reads the units anew" was_asked daemon-reload
    for name in $packages; do
      expect "what runs is started anew" was_asked "try-restart $name.service"
      expect "the new version" test "$(version_of "$name")" = 9.2.0
    done
    # A unit that does not start, as with a mistake in its configuration.
    pretend_systemd 1
    for name in $packages; do make_newer "$name" 9.3.0 "of version 9.2.0"; done
    expect "an upgrade all the same" install --force-confold -i /run/pointsman-*_9.3.0.deb
    expect "and it is said" grep -q "pointsman-node-agent.service could not be started anew" /run/dpkg.out
    expect "dpkg has nothing to complain of" test -z "$(dpkg --audit)"
    rm /run/pointsman-*.deb
    ;;
  remove)
    conffile=/etc/default/pointsman-node-agent
    mine=$(cat "$conffile")
    # Enabled in an image's root, where no systemd runs.
    without_systemd
    systemctl --quiet --root=/ enable pointsman-node-agent.service
    expect "it is enabled" test -n "$(on_links)"
    expect "dpkg removes it" install -r pointsman-node-agent
    expect "it is not enabled any more" test -z "$(on_links)"
    pretend_systemd
    expect "dpkg removes it" install -r pointsman-operator
    expect "it is stopped" was_asked "disable --now pointsman-operator.service"
    expect "systemd forgets the unit" was_asked daemon-reload
    for name in $packages; do
      expect "removed, with its configuration" test "$(status_of "$name")" = rc
      expect "no program" fails test -e "/usr/sbin/$name" -o -L "/usr/sbin/$name"
    done
    expect "no programs" fails test -e /usr/lib/pointsman
    expect "the configuration stays" test "$(cat "$conffile")" = "$mine"
    # It is there again with what the administrator wrote.
    without_systemd
    expect "dpkg installs them" install --force-confold -i $(ls pointsman-*.deb)
    expect "what the administrator wrote" test "$(cat "$conffile")" = "$mine"
    rm -f /etc/default/pointsman-*.dpkg-*
    expect "nothing is enabled by itself" test -z "$(on_links)"
    ;;
  purge)
    pretend_systemd 1
    expect "dpkg purges them, whatever systemd says" install -P $packages
    without_systemd
    for name in $packages; do
      expect "dpkg does not know it any more" test -z "$(status_of "$name")"
      expect "no script" test -z "$(ls /var/lib/dpkg/info/"$name".* 2>/dev/null)"
    done
    ;;
  again)
    for name in $packages; do
      expect "dpkg installs it alone" install -i $(ls "$name"_*.deb)
      expect "the program starts" says "/usr/sbin/$name" "$(version_of "$name")"
    done
    expect "dpkg removes the one" install -P pointsman-operator
    expect "the other stays whole" unchanged pointsman-node-agent
    expect "dpkg purges what is installed" install -P pointsman-node-agent
    ;;
esac
exit $failed
