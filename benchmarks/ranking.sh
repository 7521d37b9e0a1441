#!/usr/bin/env bash
# Measure everything in docs/ranking.md: train alignment models, rank with them, and write the table of the page.
#
#   benchmarks/ranking.sh DATA OUT
#
# DATA has ucm/ (dataset.json, features_effnetlite0.npz, features_grid4x4.npz: UCM-Captions in Karpathy's layout, and
# EfficientNet-Lite0 features of whole images and of 4 x 4 cells). OUT has ucm.safetensors, the pair of
# benchmarks/results.sh. It takes an hour on one core. A run whose file is in OUT is not repeated.
set -euo pipefail
data=$1/ucm
out=$2
here=$(dirname "$0")
birnn_decode=${BIRNN_DECODE:-birnn-decode}
python=${BIRNN_DECODE_PYTHON:-python}
mkdir -p "$out"

run() { # FILE COMMAND…: write what a command prints to a file.
  [ -e "$out/$1" ] || { "${@:2}" >"$out/$1.unfinished" && mv "$out/$1.unfinished" "$out/$1"; }
}

train() { # NAME OPTIONS…
  local resume=()
  [ ! -e "$out/$1.safetensors.checkpoint" ] || resume+=(--resume)
  run "$1-train.txt" "$birnn_decode" train --kind alignment "${@:2}" "${resume[@]}" --out "$out/$1.safetensors"
}

scenes() { # NAME COUNT SEED SENTENCES VAL TEST
  [ -e "$out/$1/dataset.json" ] || {
    rm -rf "${out:?}/$1"
    "$birnn_decode" scenes "$out/$1" --count "$2" --seed "$3" --sentences "$4"
    "$python" "$here/../examples/split_captions.py" "$out/$1/dataset.json" "$5" "$6"
  }
}

captions=(--captions "$data/dataset.json")
whole=(--features "$data/features_effnetlite0.npz")
grid=(--regions "$data/features_grid4x4.npz")
train whole "${captions[@]}" "${whole[@]}"
train grid "${captions[@]}" "${grid[@]}"
train karpathy "${captions[@]}" "${whole[@]}" --preset karpathy --epochs 5
run ucm.txt "$birnn_decode" rank --alignment "$out/whole.safetensors" --alignment "$out/grid.safetensors" \
  --model "$out/ucm.safetensors" "${captions[@]}" "${whole[@]}" "${grid[@]}" --cca --out "$out/ucm"
run ucm-karpathy.txt "$birnn_decode" rank --alignment "$out/karpathy.safetensors" "${captions[@]}" "${whole[@]}" \
  --out "$out/ucm-karpathy"

scenes scenes 4000 0 3 300 0
scenes heldout 1000 2 1 0 1000
own=(--captions "$out/scenes/dataset.json" --images "$out/scenes" --encoder scenes --epochs 12)
held_out=(--captions "$out/heldout/dataset.json" --images "$out/heldout")
train boxes "${own[@]}" --regions boxes --hidden-size 512
train cells "${own[@]}" --regions grid
run heldout-cells.txt "$birnn_decode" rank --alignment "$out/cells.safetensors" "${held_out[@]}" \
  --out "$out/heldout-cells"
run heldout-pair.txt "$birnn_decode" rank --alignment "$out/boxes.safetensors" --model scenes --first-pass 30 \
  "${held_out[@]}" --out "$out/heldout-pair"
run ceiling.txt "$python" "$here/scenes_ceiling.py"

rerank=("$python" "$here/../examples/rerank_by_alignment.py")
for model in whole grid; do
  more=()
  [ $model = whole ] || more=("${grid[@]}")
  run "rerank-$model.txt" "${rerank[@]}" "${captions[@]}" "${whole[@]}" "${more[@]}" --model "$out/ucm.safetensors" \
    --alignment "$out/$model.safetensors"
done
scenes blanks 600 3 1 200 400
run rerank-scenes.txt "${rerank[@]}" --captions "$out/blanks/dataset.json" --images "$out/blanks" \
  --alignment "$out/boxes.safetensors"
"$python" "$here/ranking_page.py" "$out"
