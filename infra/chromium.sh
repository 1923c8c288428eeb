#!/usr/bin/env bash
# infra/chromium.sh: install Debian's Chromium where there is no browser for the page's tests and this user may install.
#
# Without one those tests are skipped and say so.
set -euo pipefail

for name in chromium chromium-browser google-chrome; do
  command -v "$name" >/dev/null && exit 0
done
if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
  echo "ci: no Chromium, and it cannot be installed here: the page's tests are skipped"
  exit 0
fi
echo "ci: installing chromium"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt-get update -qq >"$log" 2>&1 &&
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >>"$log" 2>&1 ||
  { tail -n 20 "$log" >&2; exit 1; }
