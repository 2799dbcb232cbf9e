#!/usr/bin/env bash
# Makes what compose.yaml needs beside it, where there is none yet: .env, the configuration and the
# secrets. What is there already stays as it is. Has to be run as root, since the secrets belong to
# root and may be read by one group alone.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"

say() { printf 'prepare: %s\n' "$*"; }
fail() {
    printf 'prepare: %s\n' "$*" >&2
    exit 1
}

# Prints what .env says of a variable, else the default. Compose reads the environment first.
value_of() {
    local name=$1 default=$2 line
    line=$(grep --extended-regexp "^$name=" .env | tail -n 1 || true)
    line=${line#*=}
    printf '%s\n' "${!name:-${line:-$default}}"
}

copy_example() {
    local example=$1 target=$2
    if [[ ! -e $target ]]; then
        install -D --mode=644 "$example" "$target"
        say "new: $target"
    fi
}

make_secret() {
    local path=$1
    if [[ ! -e $path ]]; then
        (umask 077 && od -An -tx1 -N32 /dev/urandom | tr -d ' \n' >"$path")
        say "new: $path"
    fi
    chown "root:$group" "$path"
    chmod 640 "$path"
}

((EUID == 0)) || fail "has to be run as root"
copy_example .env.example .env
config=$(value_of REMEDIATOR_CONFIG ./config)
secrets=$(value_of REMEDIATOR_SECRETS ./secrets)
group=$(value_of REMEDIATOR_ID 9095)
[[ $group =~ ^[1-9][0-9]*$ ]] || fail "REMEDIATOR_ID has to be a number, not \"$group\""

copy_example settings.stack.example.yaml "$config/settings.yaml"
copy_example policy.example.yaml "$config/policy.yaml"
copy_example limits.example.yaml "$config/limits.yaml"
install --directory --mode=750 "$secrets"
make_secret "$secrets/token"
make_secret "$secrets/grafana-password"
