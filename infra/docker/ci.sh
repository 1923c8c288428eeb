#!/usr/bin/env bash
# infra/docker/ci.sh COMMAND…: run a command with a Docker engine, a base image and wheels, on a bare Debian machine too.
#
# Where there is no engine, Debian's is installed and started, and stopped at the end. Where the base image cannot be
# pulled, one is made of Debian's packages. Wheels are downloaded once, by this machine's own pip settings, into the
# builder's folder, so that the builds need no network. What exists already is used as it is.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
engine=

cleanup() {
  if [ -n "$engine" ]; then
    kill "$engine" 2>/dev/null && wait "$engine" || true
  fi
  rm -rf "$work"
}
trap cleanup EXIT

install() {
  echo "ci: installing $*"
  apt-get update -qq >"$work/apt.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >>"$work/apt.log" 2>&1 ||
    { tail -n 20 "$work/apt.log" >&2; exit 1; }
}

if ! docker info >/dev/null 2>&1; then
  command -v dockerd >/dev/null && command -v iptables >/dev/null || install docker.io iptables
  dockerd >"$work/dockerd.log" 2>&1 &
  engine=$!
  for _ in $(seq 60); do
    docker info >/dev/null 2>&1 && break
    kill -0 "$engine" 2>/dev/null || break
    sleep 1
  done
  docker info >/dev/null 2>&1 || { tail -n 20 "$work/dockerd.log" >&2; exit 1; }
  echo "ci: started a Docker engine"
fi

export BASE_IMAGE=${BASE_IMAGE:-python:3.11-slim-bookworm}
if ! docker image inspect "$BASE_IMAGE" >/dev/null 2>&1 && ! timeout 60 docker pull -q "$BASE_IMAGE" >/dev/null 2>&1; then
  BASE_IMAGE=cxrflow-base:bookworm
  if ! docker image inspect "$BASE_IMAGE" >/dev/null 2>&1; then
    command -v debootstrap >/dev/null || install debootstrap
    echo "ci: making $BASE_IMAGE of Debian's packages"
    debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates bookworm "$work/base" \
      >"$work/debootstrap.log" 2>&1 || { tail -n 20 "$work/debootstrap.log" >&2; exit 1; }
    rm -rf "$work"/base/var/cache/apt/archives/*.deb "$work"/base/var/lib/apt/lists/*
    tar -C "$work/base" -c . | docker import - "$BASE_IMAGE" >/dev/null
  fi
fi

wheels=infra/docker/build-context/wheels
if [ ! -d "$wheels" ]; then
  echo "ci: downloading wheels"
  .venv/bin/pip download -q -d "$work/wheels" setuptools wheel >"$work/pip.log" 2>&1 &&
    .venv/bin/pip download -q -d "$work/wheels" -c requirements.lock '.[preprocess,train,evaluate,serve,tracking]' \
      ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} >>"$work/pip.log" 2>&1 ||
    { tail -n 20 "$work/pip.log" >&2; exit 1; }
  printf '[global]\nno-index = true\n' >infra/docker/build-context/pip.conf
  mv "$work/wheels" "$wheels"
fi

"$@"
