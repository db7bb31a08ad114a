#!/usr/bin/env bash
# Runs a checkout of pjdfstest over a fresh mount, as root, and prints the score.
#
#   git clone https://github.com/pjd/pjdfstest && cd pjdfstest && autoreconf -ifs && ./configure && make pjdfstest
#   tests/agentfs/posix/pjdfstest.sh /path/to/pjdfstest [tests/rename/00.t ...]
#
# Needs prove (Perl), /dev/fuse and the command agentfs. With BARE=1 a bare directory is tested.
set -euo pipefail
if [ $# -lt 1 ] || [ ! -d "$1/tests" ]; then
  sed -n '2,7p' "$0" | cut -c3-
  exit 2
fi
[ "$(id -u)" = 0 ] || { echo "pjdfstest needs root" >&2; exit 2; }
command -v prove >/dev/null || { echo "prove is missing: apt install perl" >&2; exit 2; }
checkout=$(realpath "$1")
shift
agentfs=${AGENTFS:-agentfs}
work=$(mktemp -d "${TMPDIR:-/tmp}/pjdfstest.XXXXXX")
chmod 755 "$work"
mkdir "$work/mount"
end() {
  cd /
  if [ -z "${BARE:-}" ]; then
    "$agentfs" unmount "$work/mount" || umount -l "$work/mount" || true
    "$agentfs" -f "$work/v.afs" fsck
  fi
  rm -rf "$work"
}
trap end EXIT
if [ -z "${BARE:-}" ]; then
  "$agentfs" -f "$work/v.afs" init
  "$agentfs" -f "$work/v.afs" mount "$work/mount" --background
fi
cd "$work/mount"
tests=("${@:-tests}")
status=0
prove -r "${tests[@]/#/$checkout/}" >"$work/score" 2>&1 || status=$?
grep -v '\.\. ok$' "$work/score" || true
exit "$status"
