#!/usr/bin/env bash
# Everything that docs/results.md shows: trains a pair on each data set and compares the methods on it.
#
#   benchmarks/results.sh DATA OUT [ucm|flickr]
#
# DATA has ucm/dataset.json and ucm/features_effnetlite0.npz (UCM-Captions in Karpathy's layout, and EfficientNet-Lite0
# features), and flickr8k/ with Flickr8k.token.txt and its lists of images. What is in OUT already is not made again.
set -euo pipefail
data=$1
out=$2
only=${3:-}
run=${BIRNN_DECODE:-birnn-decode}
mkdir -p "$out"

# once NAME COMMAND…: what a command prints goes to NAME.txt, when it has ended well.
once() {
  local name=$1
  shift
  if [ ! -e "$out/$name.txt" ]; then
    rm -rf "${out:?}/$name"
    echo "== $name: birnn-decode $*"
    { time "$run" "$@"; } >"$out/$name.unfinished" 2>&1 || { cat "$out/$name.unfinished"; exit 1; }
    mv "$out/$name.unfinished" "$out/$name.txt"
  fi
  cat "$out/$name.txt"
}

# compare NAME TRAINING-OPTIONS -- CAPTIONS…
compare() {
  local name=$1
  shift
  local training=()
  while [ "$1" != -- ]; do
    training+=("$1")
    shift
  done
  shift
  local asked=("$@" --min-words 6)
  local model=(--model "$out/$name.safetensors")
  local resume=() resume_birnn=()
  [ ! -e "$out/$name.safetensors.checkpoint" ] || resume+=(--resume)
  [ ! -e "$out/$name-birnn.safetensors.checkpoint" ] || resume_birnn+=(--resume)
  once "$name-train" train "$@" "${training[@]}" "${resume[@]}" --out "$out/$name.safetensors"
  once "$name" evaluate "${asked[@]}" "${model[@]}" --limit 1000 --out "$out/$name"
  # One softmax over both sides, with as many numbers as the pair.
  local birnn=(--birnn "$out/$name-birnn.safetensors")
  once "$name-birnn-train" train "$@" "${training[@]}" "${resume_birnn[@]}" --kind birnn --out "$out/$name-birnn.safetensors"
  local limit=500
  [ "$name" != ucm ] || limit=1000
  once "$name-birnn" evaluate "${asked[@]}" "${model[@]}" "${birnn[@]}" --limit "$limit" --blank 0.01,0.25,0.5,0.75 \
    --out "$out/$name-birnn"
  # By itself, since differences are those to the pair's BSCD where there is a pair.
  once "$name-birnn-alone" evaluate "${asked[@]}" "${birnn[@]}" --limit "$limit" --blank 0.01,0.25,0.5,0.75 \
    --methods birnn-rerank,birnn-gibbs,birnn-bscd --out "$out/$name-birnn-alone"
  if [ "$name" = ucm ]; then
    once "$name-karpathy-train" train "$@" --preset karpathy --out "$out/$name-karpathy.safetensors"
    # Without images all whole captions would be one.
    once "$name-whole" evaluate "${asked[@]}" "${model[@]}" --blank whole --out "$out/$name-whole"
    for diversity in 1:0 5:0.5 5:1 5:3 10:1; do
      once "$name-diversity-${diversity/:/-}" evaluate "${asked[@]}" "${model[@]}" --limit 300 --blank 0.5 --methods bscd \
        --beam-size 10 --diversity "$diversity" --out "$out/$name-diversity-${diversity/:/-}"
    done
  fi
  for blank in 0.25 0.5; do
    once "$name-curves-$blank" curves "${asked[@]}" "${model[@]}" --limit 200 --blank "$blank" \
      --out "$out/$name-curves-$blank"
  done
  once "$name-rerank-20" evaluate "${asked[@]}" "${model[@]}" --limit 1000 --blank 0.25 --methods rerank --beam-size 20 \
    --out "$out/$name-rerank-20"
  # How often the best sentence is missed. Flickr8k's take up to ten seconds each.
  local beams=(5 1) blanks=(0.25) questions=100
  if [ "$name" = ucm ]; then
    beams=(5 1 2 3) blanks=(0.25 0.5) questions=300
  fi
  for beam in "${beams[@]}"; do
    for blank in "${blanks[@]}"; do
      once "$name-exact-$blank-$beam" evaluate "${asked[@]}" "${model[@]}" --limit "$questions" --blank "$blank" \
        --beam-size "$beam" --exact 20000 --out "$out/$name-exact-$blank-$beam"
    done
  done
  # The rule for widths that the search has to find, on validation captions.
  for rule in none average 0.5 1 2 3; do
    for blank in 0.25 0.5; do
      once "$name-length-$blank-$rule" evaluate "${asked[@]}" "${model[@]}" --split val --limit 200 --blank "$blank" \
        --width unknown --methods rerank,bscd --length "$rule" --out "$out/$name-length-$blank-$rule"
    done
    if [ "$name" = ucm ]; then
      for blank in 0.25 0.5; do
        once "$name-birnn-length-$blank-$rule" evaluate "${asked[@]}" "${birnn[@]}" --split val --limit 200 \
          --blank "$blank" --width unknown --methods birnn-rerank,birnn-bscd --length "$rule" \
          --out "$out/$name-birnn-length-$blank-$rule"
      done
      once "$name-length-whole-$rule" evaluate "${asked[@]}" "${model[@]}" --split val --limit 200 --blank whole \
        --methods rerank,bscd --length "$rule" --out "$out/$name-length-whole-$rule"
    fi
  done
}

# measure NAME SCRIPT ARGUMENTS…: what a program beside this one prints goes to NAME.txt, when it has ended well.
measure() {
  local name=$1 script
  script=$(dirname "$0")/$2
  shift 2
  if [ ! -e "$out/$name.txt" ]; then
    echo "== $name: $script $*"
    BIRNN_DECODE_DATA=$data BIRNN_DECODE_PAIRS=$out "${BIRNN_DECODE_PYTHON:-python}" "$script" "$@" \
      >"$out/$name.unfinished" || exit 1
    mv "$out/$name.unfinished" "$out/$name.txt"
  fi
  cat "$out/$name.txt"
}

# How far the models' conditionals are from those of any distribution: of the Bi-RNN, and of the pair's scores, added.
# compatibility NAME CAPTIONS [FEATURES]
compatibility() {
  local name=$1
  shift
  for model in "$name-birnn" "$name"; do
    measure "$model-compatibility" compatibility.py "$out/$model.safetensors" "$@"
  done
}

if [ "$only" != flickr ]; then
  compare ucm --encoder efficientnet-lite0 -- \
    --captions "$data/ucm/dataset.json" --features "$data/ucm/features_effnetlite0.npz"
  compatibility ucm "$data/ucm/dataset.json" "$data/ucm/features_effnetlite0.npz"
  measure ucm-splices splices.py UCM 0.5 300
fi
if [ "$only" != ucm ]; then
  compare flickr -- --captions "$data/flickr8k/Flickr8k.token.txt" --no-image \
    --list "train=$data/flickr8k/Flickr_8k.trainImages.txt" --list "val=$data/flickr8k/Flickr_8k.devImages.txt" \
    --list "test=$data/flickr8k/Flickr_8k.testImages.txt"
  compatibility flickr "$data/flickr8k"
  measure flickr-splices splices.py "Flickr8k text" 0.5 200
  measure flickr-undecided undecided.py "Flickr8k text" 0.25 100 20000
fi
