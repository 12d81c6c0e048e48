#!/bin/sh
# What the tests need from the system: a browser and fonts with emoji for the pages, and the Fashion-MNIST files.
# Debian and its kin; elsewhere a hint.
set -eu
have() { command -v "$1" >/dev/null 2>&1; }
missing=""
have chromium || have chromium-browser || have google-chrome || missing="$missing chromium"
[ -n "$(fc-list 2>/dev/null | head -n 1)" ] || missing="$missing fontconfig fonts-dejavu-core fonts-noto-color-emoji"
[ -d /usr/share/datasets/fashion-mnist ] || missing="$missing dataset-fashion-mnist"
[ -n "$missing" ] || exit 0
if have apt-get; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    # shellcheck disable=SC2086  # a list of packages
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "The page tests need Chromium and a font: install them with your package manager (missing:$missing)." >&2
fi
