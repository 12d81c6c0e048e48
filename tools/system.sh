#!/bin/sh
# What the tests need from the system: a browser for the pages, and fonts with emoji. Debian and its kin; elsewhere a hint.
set -eu
have() { command -v "$1" >/dev/null 2>&1; }
if (have chromium || have chromium-browser || have google-chrome) && [ -n "$(fc-list 2>/dev/null | head -n 1)" ]; then exit 0; fi
if have apt-get; then
    as_root=""
    [ "$(id -u)" = 0 ] || as_root="sudo"
    $as_root apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends \
        chromium fontconfig fonts-dejavu-core fonts-noto-color-emoji >/dev/null
else
    echo "The page tests need Chromium and a font: install them with your package manager." >&2
fi
