#!/usr/bin/env bash
# Unpacks the Docker Engine of other Debian suites into .engines/SUITE, beside the one that is installed:
#   scripts/engines.sh trixie [sid ...]
# Nothing is installed but patchelf, and no service is touched. The packages come from the mirror that apt is set up with.
# Says what it does; does nothing twice.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(docker.io docker-cli docker-compose containerd runc tini)
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
say() { printf '>> %s\n' "$*"; }

# Of this machine's own suite: another one's packages lie on the same mirror.
mirror() {
    local codename
    codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME:-}")
    apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' 'Component: main' |
        awk -v suite="$codename" '$1 == suite { print $2; exit }'
}

download() { # SUITE FOLDER: its packages and all they need, as if nothing were installed
    local suite=$1 apt=$2/apt uri
    uri=$(mirror)
    [ -n "$uri" ] || { say "apt knows no mirror of Debian here: $suite cannot be had"; return 1; }
    mkdir -p "$apt"/{lists/partial,cache/archives/partial}
    : >"$apt/status"
    printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$uri" "$suite" >"$apt/sources.list"
    local options=(-qq -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o Dir::Etc::preferences=/dev/null -o Dir::Etc::preferencesparts=/dev/null -o "Dir::State::lists=$apt/lists"
        -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt/cache" -o Debug::NoLocking=1 -o APT::Sandbox::User=root
        -o Acquire::Languages=none)
    apt-get "${options[@]}" update
    DEBIAN_FRONTEND=noninteractive apt-get "${options[@]}" install -y --download-only --no-install-recommends \
        "${packages[@]}" >/dev/null
}

# The suite's programs need the suite's own C library, so each is told where its loader and its libraries lie. They go
# by their full path in the checkout: a checkout that was moved unpacks them anew.
lift() { # FOLDER FINAL: programs from FOLDER/root to FOLDER/bin, to be run from FINAL
    local to=$1 final=$2 package deb file name loader library
    loader=$(cd "$to" && find root -path '*/lib*/ld-linux*.so.*' | sort | head -n 1)
    library=$(dirname "$(cd "$to" && find root -name 'libc.so.6' | sort | head -n 1)")
    mkdir -p "$to/bin"
    for package in "${packages[@]}"; do
        for deb in "$to/apt/cache/archives/${package}"_*.deb; do
            dpkg-deb --fsys-tarfile "$deb" | tar -t | grep -E '/(s?bin|libexec|cli-plugins)/[^/]+$' | while read -r file; do
                name=$(basename "$file")
                [ -f "$to/root/$file" ] || continue
                cp "$to/root/$file" "$to/bin/$name"
                patchelf --print-interpreter "$to/bin/$name" >/dev/null 2>&1 || continue
                patchelf --set-interpreter "$final/$loader" --force-rpath --set-rpath "$final/$library" "$to/bin/$name"
            done
        done
    done
}

engine() {
    local suite=$1 final=$PWD/.engines/$1 stamp
    stamp="$(sha256sum <"$0" | cut -c1-16) $final"
    if [ "$(cat "$final/.done" 2>/dev/null || true)" = "$stamp" ]; then
        return
    fi
    say "unpacking Docker of Debian $suite into .engines/$suite"
    local new=$PWD/.engines/.$suite.$$ deb
    rm -rf "$new"
    # Whatever goes wrong, no half of an engine is taken for a whole one.
    trap "rm -rf '$new'" EXIT
    mkdir -p "$new/root"
    download "$suite" "$new"
    for deb in "$new"/apt/cache/archives/*.deb; do dpkg-deb -x "$deb" "$new/root"; done
    lift "$new" "$final"
    # What is run lies in bin, what it loads in lib; the rest is not needed.
    rm -rf "$new/apt" "$new"/root/{etc,var} "$new"/root/usr/{share,bin,sbin,libexec} "$final"
    mv "$new" "$final"
    trap - EXIT
    say "$("$final/bin/dockerd" --version), compose $("$final/bin/docker-compose" version --short)"
    printf '%s' "$stamp" >"$final/.done"
}

for suite in "$@"; do engine "$suite"; done
