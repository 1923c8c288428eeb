#!/usr/bin/env bash
# `make images`: build the images and print their sizes. BASE_IMAGE, TORCH_INDEX and TAG are optional.
set -euo pipefail
cd "$(dirname "$0")/../.."

base=${BASE_IMAGE:-python:3.11-slim-bookworm}
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
docker buildx version >/dev/null 2>&1 || export DOCKER_BUILDKIT=0 # the classic builder does as well

build() { # TARGET [OPTION…]
  local log
  log=$(mktemp)
  docker build -f infra/docker/Dockerfile --build-arg BASE_IMAGE="$base" --build-arg REVISION="$revision" \
    --build-arg TORCH_INDEX="${TORCH_INDEX:-}" --target "$@" . >"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }
  rm "$log"
}

images() {
  local image
  for image in "$@"; do
    echo "building cxrflow-$image"
    build "$image" -t "cxrflow-$image:${TAG:-latest}"
  done
}

build builder # with these two, both below begin
build runtime
images preprocess mlflow &     # they share nothing more with the others, and pip fills one core
trap 'kill "$!" 2>/dev/null || true' EXIT
images train evaluate serve
wait "$!"

size() { docker image inspect --format '{{.Size}}' "$1"; }
printf '\n%-20s %9s %18s\n' image size 'adds to its base'
for image in preprocess train evaluate serve mlflow; do
  whole=$(size "cxrflow-$image:${TAG:-latest}")
  printf '%-20s %6d MB %15d MB\n' "cxrflow-$image" $((whole / 1000000)) $(((whole - $(size "$base")) / 1000000))
done
echo "train, evaluate and serve share the layer with torch. Base: $base, $(($(size "$base") / 1000000)) MB"
