#!/bin/sh
# Runs a command in a network namespace of its own, with nothing but loopback: a Docker that runs on this machine keeps
# its bridge and its rules, and whatever the command starts can reach nothing beyond.
[ "$(id -u)" -eq 0 ] || { echo "this starts a Docker Engine of its own and has to be run as root" >&2; exit 1; }
exec unshare --net -- sh -c 'busybox ip link set lo up && exec "$@"' sh "$@"
