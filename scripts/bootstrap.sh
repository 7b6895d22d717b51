#!/usr/bin/env bash
# Installs what Mayday needs: `run` for the program, `test` for its tests besides, `python` for those tests that need no
# Debian packages. Says what it does; does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-run}
say() { printf '>> %s\n' "$*"; }

apt_install() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
        say "missing: ${missing[*]}. Install them (on Debian, as root: apt-get install ${missing[*]}), then try again."
        exit 1
    fi
    say "installing Debian packages: ${missing[*]}"
    # The services that these packages bring are used by the tests on ports of their own; none is to be started now.
    local policy=/usr/sbin/policy-rc.d made=""
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy" && made=yes
    fi
    local status=0
    { apt-get -o DPkg::Lock::Timeout=300 -qq update &&
        DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 -qq install -y --no-install-recommends \
            "${missing[@]}" >/dev/null; } || status=$?
    [ -n "$made" ] && rm -f "$policy"
    return $status
}

find_python() {
    for candidate in python3.13 python3.12 python3.11 python3; do
        if command -v "$candidate" >/dev/null &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

python=$(find_python)
if [ -z "$python" ]; then
    apt_install python3
    python=$(find_python)
    [ -n "$python" ] || { say "Python 3.11 or newer is needed"; exit 1; }
fi
[ -x .venv/bin/python ] || "$python" -c 'import ensurepip' 2>/dev/null || apt_install python3-venv

lock=requirements.lock
[ "$kind" = run ] || lock=requirements-dev.lock
stamp=.venv/.installed
wanted="$(cat "$lock" pyproject.toml | sha256sum | cut -d' ' -f1) $lock"
have=$(cat "$stamp" 2>/dev/null || true)
if [ "$have" != "$wanted" ] && ! { [ "$kind" = run ] && [ "${have##* }" = requirements-dev.lock ] && .venv/bin/mayday --version >/dev/null 2>&1; }; then
    if [ ! -x .venv/bin/python ]; then
        say "making a virtual environment in .venv with $("$python" --version)"
        "$python" -m venv .venv
    fi
    say "installing Python packages from $lock"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock"
    if [ "$kind" != run ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
    else
        # The program alone needs no build tool: a path file makes the checkout importable, a script starts it.
        site=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        pwd >"$site/mayday-checkout.pth"
        printf '#!%s/.venv/bin/python\nimport sys\nfrom exporter.cli import main\nsys.exit(main())\n' "$PWD" >.venv/bin/mayday
        chmod +x .venv/bin/mayday
    fi
    printf '%s' "$wanted" >"$stamp"
fi

if [ "$kind" = test ]; then
    apt_install docker.io iptables busybox-static patchelf prometheus prometheus-alertmanager chromium chromium-driver
    # The tests run on a newer Docker besides, which lies beside the installed one; ENGINES=all adds the newest.
    suites=(trixie)
    [ "${ENGINES:-}" = all ] && suites+=(sid)
    scripts/engines.sh "${suites[@]}"
fi
