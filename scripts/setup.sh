#!/usr/bin/env bash
# Idempotent set-up behind `make setup`: Debian packages (and those named as arguments), then libtorch in .deps/libtorch.
#
#   LIBTORCH=/path/to/libtorch   use that copy (a folder with include/ and lib/) instead of downloading one
#   CUDA=1 | CUDA=0              force or refuse the CUDA build of libtorch (default: 1 when an NVIDIA driver answers)
set -euo pipefail
cd "$(dirname "$0")/.."

TORCH=2.11.0
CUDA_RUNTIME=13.0.96
CUDA_CUPTI=13.0.85
PATCHELF=0.19.3.0
PATCHELF_SHA256=1668a30fcc414debbb1604cd0a361b2f28a33a0ff6e74a74bc71766ee746e21f
DEPS=.deps
stage=

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# --- Debian packages -----------------------------------------------------------------------------------------------
debian_packages() {
  local wanted=(g++ make pkg-config clang libclang-dev libopencv-dev unzip "$@") missing=() package
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  python3 -m pip --version >/dev/null 2>&1 || missing+=(python3-pip)
  [ ${#missing[@]} -eq 0 ] && return
  command -v apt-get >/dev/null || fail "needs ${missing[*]}; this machine has no apt-get, install them and run again"
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || fail "needs ${missing[*]}; run 'apt-get install ${missing[*]}' as root, then again"
    root=(sudo)
  fi
  say "installing ${missing[*]}"
  "${root[@]}" apt-get update -qq
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# --- patchelf, for `make wheel` and `make install` --------------------------------------------------------------------
patchelf() {
  [ "$($DEPS/patchelf/bin/patchelf --version 2>/dev/null)" = "patchelf ${PATCHELF%.*}" ] && return
  mkdir -p $DEPS && rm -rf $DEPS/patchelf
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install -q --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --target $DEPS/patchelf -r <(echo "patchelf==$PATCHELF --hash=sha256:$PATCHELF_SHA256")
}

# --- libtorch ------------------------------------------------------------------------------------------------------
# The wheels are the same machine code for every Python: naming one version lets any Python 3 fetch them.
fetch_wheels() {
  local platforms=(--platform manylinux2014_x86_64 --platform any) minor
  for minor in $(seq 17 28); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --abi cp312 --abi abi3 --abi none "${platforms[@]}" -d "$1" "${@:2}"
}

cpu_libtorch() {
  local stage=$1
  say "fetching libtorch $TORCH for CPU (about 550 MB, once)"
  fetch_wheels "$stage/wheels" "torch==$TORCH" "nvidia-cuda-runtime==$CUDA_RUNTIME" "nvidia-cuda-cupti==$CUDA_CUPTI"
  # The CPU library is linked against the CUDA runtime, so two of its small libraries come along.
  for wheel in "$stage"/wheels/torch-*.whl; do
    unzip -q "$wheel" 'torch/include/*' 'torch/lib/libtorch_cpu.so' 'torch/lib/libc10.so' 'torch/lib/libtorch.so' \
      'torch/lib/libgomp*' 'torch/lib/libshm*' -d "$stage/torch"
  done
  for wheel in "$stage"/wheels/nvidia*.whl; do unzip -q -o "$wheel" '*/lib/*.so*' -d "$stage/nvidia"; done
  mkdir -p "$stage/libtorch/lib"
  mv "$stage/torch/torch/include" "$stage/libtorch/include"
  mv "$stage"/torch/torch/lib/*.so* "$stage/libtorch/lib/"
  find "$stage/nvidia" \( -name 'libcudart.so*' -o -name 'libcupti.so*' \) -exec mv {} "$stage/libtorch/lib/" \;
}

cuda_libtorch() {
  local stage=$1 lib
  say "fetching libtorch $TORCH with CUDA (about 3 GB, once)"
  python3 -m pip install -q --disable-pip-version-check --target "$stage/site" "torch==$TORCH"
  mkdir -p "$stage/libtorch/lib"
  mv "$stage/site/torch/include" "$stage/libtorch/include"
  find "$stage/site/torch/lib" -maxdepth 1 -name '*.so*' -exec mv {} "$stage/libtorch/lib/" \;
  # One folder for all libraries: torch's own run paths point at the Python layout, which is gone here.
  find "$stage/site/nvidia" -name '*.so*' -type f -exec mv -n {} "$stage/libtorch/lib/" \;
}

have_driver() { command -v nvidia-smi >/dev/null && nvidia-smi >/dev/null 2>&1; }

libtorch() {
  local kind=cpu version
  if [ -n "${LIBTORCH:-}" ] && [ "$(realpath -m "$LIBTORCH")" != "$(realpath -m $DEPS/libtorch)" ]; then
    [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || fail "LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so"
    mkdir -p $DEPS && rm -rf $DEPS/libtorch && ln -s "$(realpath "$LIBTORCH")" $DEPS/libtorch
    return
  fi
  case "${CUDA:-auto}" in 1) kind=cuda ;; auto) if have_driver; then kind=cuda; fi ;; esac
  version="torch $TORCH $kind"
  [ "$(cat $DEPS/libtorch/VERSION 2>/dev/null)" = "$version" ] && return
  mkdir -p $DEPS
  stage=$(mktemp -d "$PWD/$DEPS/stage.XXXXXX")
  trap 'rm -rf "$stage"' EXIT
  "${kind}_libtorch" "$stage"
  echo "$version" >"$stage/libtorch/VERSION"
  rm -rf $DEPS/libtorch
  mv "$stage/libtorch" $DEPS/libtorch
}

[ "$(uname -m)" = x86_64 ] || fail "libtorch $TORCH is fetched for x86-64 only; set LIBTORCH to a copy for $(uname -m)"
command -v cargo >/dev/null || fail "needs Rust (cargo)"
command -v python3 >/dev/null || fail "needs Python 3 (python3)"
debian_packages "$@"
patchelf
libtorch
say "ready: $(cat $DEPS/libtorch/VERSION 2>/dev/null || echo "libtorch at $(realpath $DEPS/libtorch)")"
