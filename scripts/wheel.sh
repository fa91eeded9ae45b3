#!/usr/bin/env bash
# dist/camtrast-*.whl of the programs in target/release (or in the folder that is given): `make wheel`.
set -euo pipefail
cd "$(dirname "$0")/.."

programs=${1:-target/release}
[ "$(uname -m)" = x86_64 ] || { echo "wheel: is made for x86-64 only; use 'make install' on $(uname -m)" >&2; exit 1; }

stage=target/wheel
rm -rf $stage
mkdir -p $stage dist
cp -r python/. LICENSE-* $stage
# torch is beside the package in site-packages: site-packages/camtrast/bin, site-packages/torch/lib.
scripts/opencv.sh $stage/camtrast/bundle ../../torch/lib "$programs"/camtrast "$programs"/camtrast-torch
mv $stage/camtrast/bundle/* $stage/camtrast/
rmdir $stage/camtrast/bundle

# The licences of what is bundled, as Debian records them.
mkdir $stage/camtrast/licenses
{ echo libopencv_core.so; basename -a $stage/camtrast/lib/*.so.*; } | while read -r library; do
  package=$(dpkg-query -S "*/$library*" 2>/dev/null | sed -n 's/^\([^:,]*\).*\.so[.0-9]*$/\1/p' | head -n 1)
  cp "/usr/share/doc/$package/copyright" "$stage/camtrast/licenses/${package:?"no package of $library"}.txt"
done

CAMTRAST_VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
# Needs the C library of this machine, or a later one.
CAMTRAST_PLATFORM=manylinux_$(getconf GNU_LIBC_VERSION | sed 's/glibc //; s/\./_/')_x86_64
export CAMTRAST_VERSION CAMTRAST_PLATFORM
rm -f dist/camtrast-*.whl
python3 -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir dist $stage
du -h dist/camtrast-*.whl
