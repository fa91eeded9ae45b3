#!/usr/bin/env bash
# Installs the programs of target/release (or of the folder that is given) behind `make install`:
#
#   PREFIX/bin/camtrast            a link to the program in
#   PREFIX/lib/camtrast/           both programs, libtorch and the part of OpenCV that they use
#   PREFIX/share/                  completions for bash, zsh and fish, man pages
#
#   PREFIX=/usr/local   where it is used      DESTDIR=   put before PREFIX while installing, for packages
#   LINK=1              a link to libtorch instead of a copy (460 MB); always if .deps/libtorch is a link itself
set -euo pipefail
cd "$(dirname "$0")/.."

programs=${1:-target/release}
prefix=$(realpath -ms "${PREFIX:-/usr/local}")
root=${DESTDIR:-}$prefix
home=$root/lib/camtrast

mkdir -p "$root/bin" "$root/lib"
scripts/opencv.sh "$home" ../torch "$programs/camtrast" "$programs/camtrast-torch"
if [ -n "${LINK:-}" ] || [ -L .deps/libtorch ]; then
  ln -s "$(realpath .deps/libtorch/lib)" "$home/torch"
else
  cp -r .deps/libtorch/lib "$home/torch"
fi
ln -sf ../lib/camtrast/bin/camtrast "$root/bin/camtrast"

share=$root/share
mkdir -p "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
"$root/bin/camtrast" completions bash >"$share/bash-completion/completions/camtrast"
"$root/bin/camtrast" completions zsh >"$share/zsh/site-functions/_camtrast"
"$root/bin/camtrast" completions fish >"$share/fish/vendor_completions.d/camtrast.fish"
"$root/bin/camtrast" man --out "$share/man/man1" >/dev/null
echo "$prefix/bin/camtrast"
