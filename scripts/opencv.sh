#!/usr/bin/env bash
# Copies programs and the part of OpenCV that they use into a folder that needs no OpenCV on the machine.
#
#   scripts/opencv.sh OUT TORCH PROGRAM...   OUT/bin/PROGRAM, OUT/lib/libcamtrast_opencv.so and the codecs' libraries;
#                                            TORCH is the folder of torch's libraries, relative to OUT/bin
#
# Debian's OpenCV needs 130 libraries, most of them for formats that camtrast does not read. Here its static libraries
# are linked once more, to one shared library that keeps what the programs call. The decoders are Debian's, to the byte.
# Functions of libraries that are left out throw, which OpenCV takes for a file that it cannot decode.
set -euo pipefail
cd "$(dirname "$0")/.."

# GDAL, DICOM, OpenEXR, JPEG 2000, OpenGL, LAPACK and BLAS, which no command reaches; of TIFF, the compressions JBIG,
# whose library is under the GPL, and LERC.
ABSENT='^(GDAL|opj_|glX|jbg_|lerc_|cblas_|[sdcz][a-z0-9]+_$|_ZNK?(4gdcm|7Imf_|[0-9]+GDAL))'
# What every Linux has, and what is left out.
SYSTEM='/(libjbig|libLerc|libc|libm|libstdc\+\+|libgcc_s|libdl|libpthread|librt)\.so'

out=$(realpath -m "$1") torch=$2
shift 2
rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

patchelf=.deps/patchelf/bin/patchelf

archives=()
for module in imgcodecs imgproc core; do
  archive=$(g++ -print-file-name="libopencv_$module.a")
  [ -e "$archive" ] || { echo "opencv: needs libopencv_$module.a; run 'apt-get install libopencv-dev'" >&2; exit 1; }
  archives+=("$archive")
done
tiff=$(g++ -print-file-name=libtiff.so)

# --- the library ---------------------------------------------------------------------------------------------------
nm -D --undefined-only "$@" | awk '$1 == "U" && $2 ~ /^_Z(N[KV]*|T[ISV]N)2cv/ { print $2 }' | sort -u >"$work/used"
{ echo '{ global: jbg_*; lerc_*;'; sed 's/$/;/' "$work/used"; echo 'local: *; };'; } >"$work/exports"
{ nm -u "${archives[@]}"; nm -D --undefined-only "$tiff"; } 2>/dev/null | awk '$1 == "U" { print $2 }' | sort -u | grep -E "$ABSENT" >"$work/absent"
cat >"$work/absent.cpp" <<'EOF'
#include <stdexcept>
#include <string>
extern "C" void camtrast_absent(const char *name) { throw std::runtime_error(std::string("without ") + name); }
EOF
# What the constructors of the decoders call, whenever the list of decoders is made, does nothing.
awk 'BEGIN { print ".section .note.GNU-stack,\"\",@progbits\n.text\nnothing: ret" }
  { print ".globl " $1; print $1 ~ /^(GDALAllRegister|_ZN7Imf_[0-9_]*ChromaticitiesC1)/ ? $1 ": jmp nothing" : \
    $1 ": lea 1f(%rip), %rdi\njmp camtrast_absent@PLT\n1: .asciz \"" $1 "\"" }' "$work/absent" >"$work/absent.s"
# The static libraries hide their symbols: those that are used get another name, and the old one is exported for it.
sed 's/.*/& hidden_&/' "$work/used" >"$work/names"
for archive in "${archives[@]}"; do objcopy --redefine-syms="$work/names" "$archive" "$work/$(basename "$archive")"; done
mapfile -t roots < <(sed 's/.*/-Wl,-u,hidden_&\n-Wl,--defsym=&=hidden_&/' "$work/used"
  sed -n '/^jbg_\|^lerc_/s/^/-Wl,-u,/p' "$work/absent")
lld=$(rustc --print sysroot)/lib/rustlib/x86_64-unknown-linux-gnu/bin/gcc-ld
g++ -shared -fPIC -s -fuse-ld=lld -B"$lld" -o "$out/lib/libcamtrast_opencv.so" -Wl,-soname,libcamtrast_opencv.so -Wl,-z,defs -Wl,--as-needed \
  -Wl,--gc-sections -Wl,--version-script="$work/exports" "${roots[@]}" "$work/absent.cpp" "$work/absent.s" \
  -Wl,--start-group "$work"/*.a -Wl,--end-group -ltiff -lwebp -lpng -ljpeg -lz -ltbb -ldl

# --- what it needs, and run paths ------------------------------------------------------------------------------------
ldd "$out/lib/libcamtrast_opencv.so" | awk '$3 ~ /^\// { print $3 }' | { grep -vE "$SYSTEM" || true; } |
  while read -r library; do
    cp -L "$library" "$out/lib/"
    strip "$out/lib/$(basename "$library")"
  done
for library in "$out"/lib/*; do
  $patchelf --remove-needed libjbig.so.0 --remove-needed libLerc.so.4 --set-rpath '$ORIGIN' "$library"
done
for program in "$@"; do
  copy=$out/bin/$(basename "$program")
  cp "$program" "$copy"
  strip "$copy"
  flags=(--add-needed libcamtrast_opencv.so)
  for library in $($patchelf --print-needed "$copy" | grep '^libopencv'); do flags+=(--remove-needed "$library"); done
  $patchelf "${flags[@]}" --set-rpath "\$ORIGIN/../lib:\$ORIGIN/$torch" "$copy"
done
