#!/usr/bin/env bash
# What camtrast does on a GPU, as one Markdown file, within 25 minutes: its tests there, the speed of every pretraining method beside
# PyTorch on the same card, a profiled step, and the ablation of recipes/small with three seeds.
#
#   scripts/gpu-report.sh [--device cuda] [--out gpu-report.md] [--minutes 25] [--quick]
#                         [--program FOLDER] [--tests FILE] [--python python3]
#
# It builds the program and the tests with cargo, unless --program names a folder with camtrast and camtrast-torch and --tests the
# test program (target/debug/deps/cli-*) that were built elsewhere. PyTorch, torchvision and safetensors of --python are the peer.
# `--device cpu --quick` goes through all of it in small, to check this script without a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."

device=cuda out=gpu-report.md minutes=25 quick= program= tests= python=python3
while [ $# -gt 0 ]; do
  case $1 in
    --device) device=$2; shift 2 ;;
    --out) out=$2; shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    --program) program=$2; shift 2 ;;
    --tests) tests=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --quick) quick=1; shift ;;
    *) echo "gpu-report.sh: unknown argument $1; see the head of the script" >&2; exit 2 ;;
  esac
done
deadline=$(($(date +%s) + minutes * 60))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Seconds that are left, at most $1, at least 10.
left() { local seconds=$((deadline - $(date +%s))); echo $((seconds < 10 ? 10 : seconds > $1 ? $1 : seconds)); }
say() { printf '%s\n' "$@" >> "$out"; }
# Runs a command, at most $1 seconds, quietly; its output goes to $work/last.
try() { local most; most=$(left "$1"); shift; timeout "$most" "$@" > "$work/last" 2>&1; }
# Why the last one failed, in a line.
why() { grep -v '^$' "$work/last" | tail -1 | cut -c1-200 | tr '|' '/'; }
fenced() { say '```'; cat >> "$out"; say '```' ''; }

if [ -z "$program" ]; then cargo build --release --quiet; program=target/release; fi
program=$(realpath "$program")
camtrast=$program/camtrast
if [ -z "$tests" ] && command -v cargo > /dev/null; then
  tests=$(cargo test --workspace --test cli --no-run --message-format short 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p' | head -1)
fi

if [ -n "$quick" ]; then
  arch="resnet18 --width 8" batch=64 size=32 images=8 seeds="[0, 1, 2]" epochs=2 recipe_epochs=1 queue_size=256
else
  arch="resnet50" batch=256 size=84 images=250 seeds="[0, 1, 2]" epochs=3 recipe_epochs=24 queue_size=4096
fi

: > "$out"
say "# camtrast on $device" "" "Made by \`scripts/gpu-report.sh\` on $(date -u +%Y-%m-%d), with $("$camtrast" --version)." ""
[ -z "$quick" ] || say "**A quick check of the script itself: none of these numbers means anything.**" ""
say "## Machine" ""
{
  command -v nvidia-smi > /dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo "no NVIDIA driver"
  lscpu | sed -n 's/^Model name: */CPU: /p'
  echo "$(nproc) cores"
  "$python" -c 'import torch, torchvision; print("PyTorch", torch.__version__, "torchvision", torchvision.__version__)' 2> /dev/null || echo "no PyTorch"
} | fenced

say "## Tests" ""
if [ -n "$tests" ]; then
  export CAMTRAST_PROGRAM=$camtrast
  if [ "$device" = cpu ]; then export CAMTRAST_TEST_DEVICE=cpu; else export CAMTRAST_REQUIRE_GPU=1 CAMTRAST_TEST_DEVICE=$device; fi
  try 420 "$tests" gpu:: --nocapture --test-threads 2 || say "**Failed or cut off.**" ""
  grep -E '^test |test result|on the CPU, |panicked|camtrast: ' "$work/last" | cut -c1-160 | fenced
else
  say "None: there is no cargo here, and --tests names no test program." ""
fi

cd_work() { cd "$work"; }
here=$PWD out=$(realpath "$out")
cd_work
"$camtrast" data synth --out world --size $size --images-per-class $images --evaluation-images-per-class 20 --scenes 24 --test-scenes 8 \
  --scene-size $((size * 2)) --streets 8 --val-streets 2 --street-size $((size * 2)) > last 2>&1
for split in train test; do
  "$camtrast" data prepare miniimagenet --from world --size $size --split $split --out $split.safetensors > last 2>&1
done

say "## Speed of pretraining" "" "Images a second of the last epoch, data included; $arch, $size pixels, $batch images a batch.
PyTorch: \`benches/peers/train.py\`, eager and channels-first for fp32, channels-last under autocast for bf16; $(nproc) cores load its data.
fp32 is without TF32 on both sides." ""
say "| method | precision | camtrast | PyTorch | camtrast / PyTorch |" "|---|---|---:|---:|---:|"
# Images a second of the last epoch of a run.
rate() {
  "$python" - "$1" "$batch" << 'P'
import json, sys
lines = [json.loads(line) for line in open(f"{sys.argv[1]}/log.jsonl")]
ends = [line for line in lines if line["kind"] == "epoch"]
steps, seconds = (ends[-1][key] - ends[-2][key] for key in ("step", "seconds"))
print(f"{steps * int(sys.argv[2]) / seconds:.1f}")
P
}
# Images a second of the peer, or nothing; MoCo's queue and the like are the peer's defaults.
peer() {
  local layout=contiguous
  [ "$2" = bf16 ] && layout=channels-last
  NVIDIA_TF32_OVERRIDE=0 try 120 "$python" "$here/benches/peers/train.py" --method "$1" --data train.safetensors --arch ${arch% *--width*} \
    $([ -n "$quick" ] && echo --width 8) --batch-size $batch --epochs 2 --precision "$2" --layout $layout --device "$device" \
    --threads "$(nproc)" --workers $([ -n "$quick" ] && echo 0 || nproc) || return 0
  "$python" -c 'import json, sys; print("%.1f" % json.loads(sys.stdin.read().splitlines()[-1])["images_per_second"])' < "$work/last" || true
}
for method in supervised moco simsiam byol exemplar camtrast-moco camtrast-simsiam; do
  for precision in fp32 bf16; do
    ours=– theirs=– ratio=–
    queue=; case $method in moco | exemplar | camtrast-moco) queue="--queue-size $queue_size" ;; esac
    if try 90 "$camtrast" pretrain --method $method --data train.safetensors --arch $arch --batch-size $batch --epochs $epochs $queue \
      --precision $precision --device "$device" --quiet --out speed/$method-$precision; then
      ours=$(rate speed/$method-$precision)
    else
      ours="failed: $(why)"
    fi
    case $method in
      supervised | moco | simsiam) theirs=$(peer $method $precision); theirs=${theirs:-"failed: $(why)"} ;;
    esac
    ratio=$(echo "$ours $theirs" | awk '$1+0 > 0 && $2+0 > 0 && NF == 2 { printf "%.2f", $1 / $2; exit } { print "–" }')
    say "| $method | $precision | $ours | $theirs | $ratio |"
  done
done
say "" "– : no peer."

say "" "## A step of MoCo" ""
if try 120 "$camtrast" pretrain --method moco --data train.safetensors --arch $arch --batch-size $batch --epochs 2 --queue-size $queue_size \
  --precision bf16 --device "$device" --quiet --profile-step $([ -n "$quick" ] && echo 3 || echo 20) --out profile; then
  "$python" - << 'P' | fenced
import collections, json

events = [e for e in json.load(open("profile/profile.json"))["traceEvents"] if e.get("ph") == "X"]
kernels = [e for e in events if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
host = [e for e in events if e.get("cat") == "cpu_op"]
span = max(e["ts"] + e["dur"] for e in events) - min(e["ts"] for e in events)
print(f"{len(host)} operations, {len(kernels)} kernels and copies, {span / 1000:.1f} ms")
shown = kernels or host
print(f"{'the GPU is busy' if kernels else 'operations, those inside others included,'} {sum(e['dur'] for e in shown) / span:.0%} of it")
total, count = collections.Counter(), collections.Counter()
for e in shown:
    total[e["name"][:90]] += e["dur"] / 1000
    count[e["name"][:90]] += 1
for name, ms in total.most_common(15):
    print(f"{ms:8.2f} ms {count[name]:5d} x {name}")
P
else
  say "Failed: $(why)" ""
fi

say "## recipes/small/table5.toml, three seeds" ""
sed -e "s/^seeds = .*/seeds = $seeds/" -e "s/^epochs = .*/epochs = $recipe_epochs/" "$here/recipes/small/table5.toml" > table5.toml
[ -z "$quick" ] || sed -i -e 's/^total-images = .*/total-images = 96/' -e 's/-warmup-epochs = [0-9]*/-warmup-epochs = 0/' -e 's/^warmup-epochs.*//' \
  -e 's/^seeds.*/seeds = [0, 1, 2]/' -e 's/^batch-size = .*/batch-size = 32/' table5.toml
if ! try $((60 * 15)) "$camtrast" suite run table5.toml --out suite --train train.safetensors --test test.safetensors --device "$device" --jobs 3; then
  say "Cut off or failed ($(why)); what was done:" ""
  "$camtrast" suite status suite 2> /dev/null | tail -30 | fenced
fi
if "$camtrast" report suite --out report > last 2>&1 || [ -f suite/report.md ]; then
  sed 's/^#/###/' "$(ls report/report.md suite/report.md 2> /dev/null | head -1)" >> "$out"
else
  say "No report: $(why)"
fi
echo "$out"
