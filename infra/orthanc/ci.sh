#!/usr/bin/env bash
# infra/orthanc/ci.sh COMMAND…: run a command with an Orthanc that speaks DICOMweb, on a bare Debian machine.
#
# Debian's orthanc, orthanc-dicomweb and dcmtk are installed where they are missing; the package's own service does not
# start. The command finds the server in CXRFLOW_ORTHANC, http://user:password@127.0.0.1:PORT, DICOMweb at /dicom-web.
# Its files are in one folder; at the end what was started is stopped and the folder is gone. A server that
# CXRFLOW_ORTHANC names already is used as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ -z "${CXRFLOW_ORTHANC:-}" ] || exec "$@"

work=$(mktemp -d /tmp/cxrflow-orthanc.XXXXXX)
policy=/usr/sbin/policy-rc.d
server=
cleanup() {
  if [ -n "$server" ]; then
    kill "$server" 2>/dev/null || true
    for _ in $(seq 50); do
      kill -0 "$server" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$server" 2>/dev/null || true
  fi
  [ ! -e "$work/made-policy" ] || rm -f "$policy"
  rm -rf "$work"
}
trap cleanup EXIT

plugin() { find /usr/share/orthanc/plugins /usr/lib/orthanc -name 'libOrthancDicomWeb.so*' 2>/dev/null | grep -q .; }

if ! command -v Orthanc >/dev/null || ! plugin || ! command -v dsrdump >/dev/null; then
  [ "$(id -u)" = 0 ] || { echo "ci: orthanc, orthanc-dicomweb and dcmtk are installed by root" >&2; exit 1; }
  echo "ci: installing orthanc orthanc-dicomweb dcmtk"
  if [ ! -e "$policy" ]; then # 101 tells a package's scripts to start nothing
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod 755 "$policy" && touch "$work/made-policy"
  fi
  apt-get update -qq >"$work/apt.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends orthanc orthanc-dicomweb dcmtk \
      >>"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; exit 1; }
  if [ -e "$work/made-policy" ]; then rm -f "$policy" "$work/made-policy"; fi
fi

read -r http dicom < <(python3 -c '
import socket
found = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(each.getsockname()[1] for each in found))')
password=$(head -c 12 /dev/urandom | od -An -tx1 | tr -d ' \n')
mkdir "$work/storage"
cat >"$work/orthanc.json" <<JSON
{
  "Name": "cxrflow-ci",
  "StorageDirectory": "$work/storage",
  "IndexDirectory": "$work/storage",
  "HttpPort": $http,
  "DicomPort": $dicom,
  "RemoteAccessAllowed": false,
  "AuthenticationEnabled": true,
  "RegisteredUsers": {"cxrflow": "$password"},
  "StableAge": 1,
  "OverwriteInstances": true,
  "Plugins": ["/usr/share/orthanc/plugins"],
  "DicomWeb": {"Enable": true, "Root": "/dicom-web/"}
}
JSON
Orthanc "$work/orthanc.json" >"$work/log" 2>&1 &
server=$!
export CXRFLOW_ORTHANC="http://cxrflow:$password@127.0.0.1:$http"
answers() {
  python3 - <<'PYTHON' 2>/dev/null
import base64, os, urllib.parse, urllib.request
url = urllib.parse.urlsplit(os.environ["CXRFLOW_ORTHANC"])
key = base64.b64encode(f"{url.username}:{url.password}".encode()).decode()
for path in ("system", "dicom-web/studies"):
    asked = urllib.request.Request(f"http://{url.hostname}:{url.port}/{path}", headers={"Authorization": f"Basic {key}"})
    urllib.request.urlopen(asked, timeout=5).read()
PYTHON
}
for _ in $(seq 60); do
  kill -0 "$server" 2>/dev/null || break
  answers && break
  sleep 0.5
done
answers || { tail -n 20 "$work/log" >&2; exit 1; }
echo "ci: started Orthanc with DICOMweb on port $http"

"$@"
