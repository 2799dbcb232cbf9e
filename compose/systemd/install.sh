#!/usr/bin/env bash
# `make install` and `make uninstall`. Installing again upgrades: configuration and state stay.
#
#   PREFIX   where the program goes, a virtual environment (default: /opt/remediator)
#   DESTDIR  a folder to install below, for making a package: nothing of this machine is touched
#   PURGE    1: `uninstall` removes the configuration and the state as well
#   PYTHON   the interpreter to use, 3.11 or newer (default: python3)
#   WHEEL    a wheel to install instead of this checkout
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
PREFIX=${PREFIX:-/opt/remediator}
DESTDIR=${DESTDIR:-}
PURGE=${PURGE:-}
PYTHON=${PYTHON:-python3}
WHEEL=${WHEEL:-$ROOT}

VENV=$DESTDIR$PREFIX
# Beside what the distribution ships (/usr/lib) and what the administrator changes (/etc).
LIB=$DESTDIR/usr/local/lib
LINK=$DESTDIR/usr/local/bin/remediator
CONFIG=$DESTDIR/etc/remediator
STATE=$DESTDIR/var/lib/remediator
SERVICES=(remediator-receiver.service remediator-worker.service ds01-exporter.service)
UNITS=("${SERVICES[@]}" remediator.target)

say() { printf '%s: %s\n' "$ACTION" "$*"; }
fail() {
    printf '%s: %s\n' "$ACTION" "$*" >&2
    exit 1
}

# Whether systemd runs on the machine that is installed to.
is_live() { [[ -z $DESTDIR && -d /run/systemd/system ]]; }

is_ours() { [[ -f $VENV/pyvenv.cfg && -e $VENV/bin/remediator ]]; }

check() {
    [[ $PREFIX == /?* && $PREFIX != *[[:space:]\|\&]* ]] ||
        fail "PREFIX has to be an absolute path without blanks, not \"$PREFIX\""
    [[ -n $DESTDIR || $EUID == 0 ]] || fail "has to be run as root"
}

install_program() {
    local pip=("$VENV/bin/python" -m pip install --quiet --disable-pip-version-check)
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "needs Python 3.11 or newer: PYTHON=... says which"
    if [[ -e $VENV ]] && ! is_ours; then
        fail "$VENV is there and holds something else: PREFIX=... says where to install instead"
    fi
    say "the program goes to $VENV"
    "$PYTHON" -m venv "$VENV"
    # By force, since the same version may be another build of it. What it needs comes after that,
    # and may already be there.
    "${pip[@]}" --no-deps --force-reinstall "$WHEEL"
    "${pip[@]}" 'remediator[dbus]'
    # A program that is staged is run elsewhere than it was installed.
    sed --in-place "1s|^#!$VENV|#!$PREFIX|" "$VENV/bin/remediator"
    mkdir --parents "$(dirname "$LINK")"
    ln --symbolic --force --no-dereference "$PREFIX/bin/remediator" "$LINK"
}

install_units() {
    local unit
    for unit in "${UNITS[@]}"; do
        # The units say where the program is by default.
        sed "s|/opt/remediator|$PREFIX|" "$HERE/$unit" |
            install -D --mode=644 /dev/stdin "$LIB/systemd/system/$unit"
    done
    install -D --mode=644 "$HERE/sysusers.d/remediator.conf" "$LIB/sysusers.d/remediator.conf"
    install -D --mode=644 "$HERE/tmpfiles.d/remediator.conf" "$LIB/tmpfiles.d/remediator.conf"
}

# Copies an example to where it is read, unless somebody has one there.
install_example() {
    local name=$1
    install -D --mode=644 "$ROOT/compose/$name.example.yaml" "$CONFIG/$name.example.yaml"
    if [[ ! -e $CONFIG/$name.yaml ]]; then
        install --mode=644 "$ROOT/compose/$name.example.yaml" "$CONFIG/$name.yaml"
        say "new: $CONFIG/$name.yaml"
    fi
}

make_token() {
    [[ ! -e $CONFIG/token ]] || return 0
    (
        umask 077
        "$VENV/bin/python" -c 'import secrets; print(secrets.token_hex(32))' >"$CONFIG/token"
    )
    say "new: $CONFIG/token"
}

start_using() {
    systemd-sysusers "$LIB/sysusers.d/remediator.conf"
    systemd-tmpfiles --create "$LIB/tmpfiles.d/remediator.conf"
    if is_live; then
        systemctl daemon-reload
        # What runs goes on with the new version; what does not is not started.
        systemctl try-restart "${SERVICES[@]}"
    fi
}

do_install() {
    install_program
    install_units
    for name in policy settings limits; do
        install_example "$name"
    done
    if [[ -n $DESTDIR ]]; then
        say "staged in $DESTDIR; on the machine itself: a token in /etc/remediator/token," \
            "systemd-sysusers, systemd-tmpfiles --create, systemctl daemon-reload"
        return
    fi
    make_token
    start_using
    cat <<TEXT

Remediator is installed. It observes only, until you set another mode in $CONFIG/policy.yaml.

  1. Edit $CONFIG/settings.yaml: where Prometheus and the mail server are.
     $CONFIG/limits.yaml says who may idle for how long; where DS01 has a file of its own,
     have "limits" name that.
  2. Load $ROOT/alert_rules/*.yml into Prometheus, and take the route and the receiver
     "remediator" of $ROOT/alertmanager/alertmanager.yml into Alertmanager, which needs a
     copy of $CONFIG/token that it can read.
  3. systemctl enable --now remediator.target
  4. remediator incidents list
TEXT
}

do_uninstall() {
    if is_live; then
        systemctl disable --now --quiet "${UNITS[@]}" 2>/dev/null || true
    fi
    for unit in "${UNITS[@]}"; do
        rm --force "$LIB/systemd/system/$unit"
    done
    rm --force "$LIB/sysusers.d/remediator.conf" "$LIB/tmpfiles.d/remediator.conf"
    if [[ $(readlink "$LINK") == "$PREFIX/bin/remediator" ]]; then
        rm "$LINK"
    fi
    if is_ours; then
        rm --recursive --force "$VENV"
    fi
    if is_live; then
        systemctl daemon-reload
    fi
    if [[ $PURGE == 1 ]]; then
        rm --recursive --force "$CONFIG" "$STATE"
        say "removed, with configuration and state; the user remediator stays"
    else
        say "removed; $CONFIG and $STATE stay (PURGE=1 removes them)"
    fi
}

ACTION=${1:-}
case $ACTION in
install | uninstall)
    check
    "do_$ACTION"
    ;;
*)
    ACTION=usage
    fail "install.sh install|uninstall"
    ;;
esac
