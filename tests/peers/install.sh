#!/usr/bin/env bash
# Gets a Debian 12 or Ubuntu 22.04/24.04 machine ready for `make test` and `make demo`: packages
# (as root), then .venv. Quick when nothing is missing. No service that comes with a package is
# started or left enabled.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."

PACKAGES=(
    prometheus prometheus-alertmanager prometheus-node-exporter
    docker.io docker-compose iptables busybox-static debootstrap
    gcc libc6-dev make pkg-config libgirepository1.0-dev libcairo2-dev
    python3-venv python3-dev bsdutils bsdextrautils e2fsprogs ca-certificates
    openssh-client openssh-server
    chromium fonts-dejavu-core
)
# What those packages would start at boot, by package.
declare -A SERVICES=(
    [prometheus]="prometheus.service"
    [prometheus-alertmanager]="prometheus-alertmanager.service"
    [prometheus-node-exporter]="prometheus-node-exporter.service"
    [docker.io]="docker.service docker.socket"
    [containerd]="containerd.service"
    [openssh-server]="ssh.service ssh.socket"
)
# Everything that pyproject.toml asks for, each file of it by its hash: `make pins` writes it.
PINS=tests/requirements-dev.txt
STAMP=.venv/.installed

say() { printf 'setup: %s\n' "$*"; }
fail() {
    printf 'setup: %s\n' "$*" >&2
    exit 1
}

is_installed() {
    [[ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]
}

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

# Prints the interpreter to use: the distribution's own if it will do, since packages fit that.
find_python() {
    local candidate
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null && is_new_enough "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

missing_packages() {
    local package
    local wanted=("${PACKAGES[@]}")
    # Ubuntu 22.04 calls 3.10 python3 and has a newer one beside it.
    if [[ -x /usr/bin/python3 ]] && ! find_python >/dev/null; then
        wanted+=(python3.11 python3.11-venv python3.11-dev)
    fi
    for package in "${wanted[@]}"; do
        is_installed "$package" || printf '%s\n' "$package"
    done
}

install_packages() {
    local missing=("$@") package unit new_units=()
    for package in "${!SERVICES[@]}"; do
        if ! is_installed "$package"; then
            for unit in ${SERVICES[$package]}; do
                new_units+=("$unit")
            done
        fi
    done
    # Asked by Debian's maintainer scripts before they start anything; 101 means "do not". One
    # that is there already is somebody's decision and stays.
    if [[ ! -e /usr/sbin/policy-rc.d ]]; then
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
        printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
        chmod 755 /usr/sbin/policy-rc.d
    fi
    say "installing ${missing[*]}"
    apt-get update -q
    RUNLEVEL=1 DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"
    if command -v systemctl >/dev/null; then
        for unit in "${new_units[@]}"; do
            systemctl disable "$unit" 2>/dev/null || true
        done
    fi
}

ensure_packages() {
    local missing
    if ! command -v apt-get >/dev/null; then
        fail "this is not Debian or Ubuntu: install Prometheus, Alertmanager, Docker, OpenSSH," \
            "a static busybox, debootstrap, gcc, make, pkg-config, Python 3.11 or newer with" \
            "venv and headers, and the headers of GObject introspection 1.0 and cairo yourself," \
            "then run python3 -m venv .venv && .venv/bin/pip install --require-hashes -r $PINS &&" \
            ".venv/bin/pip install --no-deps --no-build-isolation -e . && touch $STAMP"
    fi
    mapfile -t missing < <(missing_packages)
    if ((${#missing[@]} == 0)); then
        return
    fi
    if ((EUID != 0)); then
        fail "packages are missing; run as root:" \
            "apt-get update && apt-get install --no-install-recommends ${missing[*]}"
    fi
    install_packages "${missing[@]}"
}

ensure_venv() {
    local python wanted
    python=$(find_python) || fail "needs Python 3.11 or newer; python3 here is $(python3 -V 2>&1)"
    # The path is part of it, since a virtual environment cannot be moved.
    wanted=$({ pwd; "$python" -V; cat pyproject.toml "$PINS"; } | sha256sum)
    if [[ -f $STAMP && "$(<"$STAMP")" == "$wanted" ]] && .venv/bin/python -c '' 2>/dev/null; then
        return
    fi
    if ! .venv/bin/python -c '' 2>/dev/null || ! is_new_enough .venv/bin/python; then
        say "making .venv with $python"
        "$python" -m venv --clear .venv
    fi
    say "installing what $PINS names (PyGObject is compiled: half a minute)"
    .venv/bin/python -m pip install --quiet --require-hashes -r "$PINS"
    .venv/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" >"$STAMP"
}

if command -v apt-get >/dev/null || [[ ! -f $STAMP ]]; then
    ensure_packages
fi
ensure_venv
