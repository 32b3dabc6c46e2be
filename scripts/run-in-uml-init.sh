#!/bin/bash
# PID 1 of the kernel that run-in-uml.sh boots. Root is the machine's own file system, so everything
# that may be written gets a tmpfs first. $POINTSMAN_JOB is the job's directory on the machine.

finish() {
  echo "$1" >&"$status_file"
  exec {status_file}>&-
  sync
  # "drain" (the default of stty) waits until the console has been written out.
  stty -F /dev/console opost
  echo o >/proc/sysrq-trigger
  # Power-off is done by another thread; PID 1 must not end before.
  while :; do sleep 60; done
}

exec {status_file}>"$POINTSMAN_JOB/status"
mapfile -d '' -t argv <"$POINTSMAN_JOB/argv"
mapfile -d '' -t environment <"$POINTSMAN_JOB/env"
cwd=$(<"$POINTSMAN_JOB/cwd")
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mkdir -p /run/lock /run/netns /run/machine-tmp
mount --bind /tmp /run/machine-tmp
mount -t tmpfs tmpfs /tmp
chmod 1777 /tmp
mount --bind /usr/lib/uml/modules /lib/modules
mkdir -p /dev/shm /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t devpts devpts /dev/pts
ln -s /proc/self/fd /dev/fd
# A checkout below /tmp is still there for the program, with the programs that it starts.
for needed in "$(dirname "${argv[0]}")" "$cwd"; do
  case $needed in
    /tmp/*)
      top=${needed#/tmp/}
      top=${top%%/*}
      mountpoint -q "/tmp/$top" && continue
      mkdir -p "/tmp/$top"
      mount --bind "/run/machine-tmp/$top" "/tmp/$top"
      ;;
  esac
done
ip link set lo up
stty -F /dev/console -opost

cd "$cwd" || finish 125
env -i "${environment[@]}" TMPDIR=/tmp GTEST_COLOR=no "${argv[@]}" </dev/null >/dev/console 2>&1
finish $?
