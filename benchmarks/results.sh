#!/usr/bin/env bash
# Measure everything in docs/results.md, docs/results-lines.md and docs/results-search.md: train models on each data set,
# compare the methods, and write the CSV files and the pages. This takes hours.
#
#   benchmarks/results.sh DATA OUT [ucm|flickr|molecules|multi30k|search]
#
# DATA has ucm/ (dataset.json, features_effnetlite0.npz: UCM-Captions in Karpathy's layout, EfficientNet-Lite0 features;
# images/, optional: the pictures of docs/results/pictures.csv), flickr8k/ (Flickr8k.token.txt and its lists of images),
# molecules/ (train.smi, val.smi and test.smi: one SMILES per line) and multi30k/ (train, val and test_2016_flickr, each
# as .de and .en). The part search needs scikit-learn, and the pairs of the parts ucm and molecules. A run that has ended
# well leaves NAME.txt in OUT and is not repeated. So an interrupted call can be repeated.
set -euo pipefail
data=$1
out=$2
only=${3:-}
here=$(dirname "$0")
birnn_decode=${BIRNN_DECODE:-birnn-decode}
python=${BIRNN_DECODE_PYTHON:-python}
export BIRNN_DECODE_DATA=$data BIRNN_DECODE_PAIRS=$out
mkdir -p "$out"

# run NAME COMMAND…: write what a command prints to NAME.txt, and its date and the command itself to NAME.run.
run() {
  local name=$1 command
  shift
  if [ ! -e "$out/$name.txt" ]; then
    rm -rf "${out:?}/$name"
    command=${*//"$out"/OUT}
    command=${command//"$data"/DATA}
    command=${command/#"$python $here"/benchmarks}
    command=${command/#"$birnn_decode"/birnn-decode}
    echo "== $name: $command"
    "$@" >"$out/$name.unfinished"
    printf '%s\t%s\n' "$(date +%F)" "$command" >"$out/$name.run"
    mv "$out/$name.unfinished" "$out/$name.txt"
  fi
}

train() { # NAME OPTIONS…
  local name=$1 resume=()
  shift
  [ ! -e "$out/$name.safetensors.checkpoint" ] || resume+=(--resume)
  run "$name-train" "$birnn_decode" train "$@" "${resume[@]}" --out "$out/$name.safetensors"
}

evaluate() { # NAME OPTIONS…
  run "$1" "$birnn_decode" evaluate "${captions[@]}" --min-words 6 "${@:2}" --out "$out/$1"
}

measure() { # NAME SCRIPT ARGUMENTS…
  run "$1" "$python" "$here/$2" "${@:3}"
}

# compare NAME LIMIT CAPTIONS…: train a pair and a Bi-RNN, and compare the methods for them.
compare() {
  local name=$1 limit=$2
  captions=("${@:3}")
  local pair=(--model "$out/$name.safetensors") birnn=(--birnn "$out/$name-birnn.safetensors")
  local encoder=()
  [ "$name" != ucm ] || encoder=(--encoder efficientnet-lite0)
  train "$name" "${captions[@]}" "${encoder[@]}"
  train "$name-birnn" "${captions[@]}" "${encoder[@]}" --kind birnn
  evaluate "$name" "${pair[@]}" --limit 1000
  evaluate "$name-birnn" "${pair[@]}" "${birnn[@]}" --limit "$limit" --blank 0.01,0.25,0.5,0.75
  # Without a pair, the differences are those of the Bi-RNN's BSCD.
  evaluate "$name-birnn-alone" "${birnn[@]}" --limit "$limit" --blank 0.01,0.25,0.5,0.75 \
    --methods birnn-rerank,birnn-gibbs,birnn-bscd
  evaluate "$name-rerank-20" "${pair[@]}" --limit 1000 --blank 0.25 --methods rerank --beam-size 20
  local blank rule
  for blank in 0.25 0.5; do
    run "$name-curves-$blank" "$birnn_decode" curves "${captions[@]}" --min-words 6 "${pair[@]}" --limit 200 \
      --blank "$blank" --out "$out/$name-curves-$blank"
    for rule in none average 0.5 1 2 3; do
      evaluate "$name-length-$blank-$rule" "${pair[@]}" --split val --limit 200 --blank "$blank" --width unknown \
        --methods rerank,bscd --length "$rule"
    done
  done
}

# search_errors NAME LIMIT BLANK BEAM…: how often each method misses the best sentence.
search_errors() {
  local beam
  for beam in "${@:4}"; do
    evaluate "$1-exact-$3-$beam" --model "$out/$1.safetensors" --limit "$2" --blank "$3" --beam-size "$beam" --exact 20000
  done
}

# of_lines NAME OPTIONS…: evaluate on lines.
of_lines() {
  run "$1" "$birnn_decode" evaluate "${lines[@]}" "${@:2}" --out "$out/$1"
}

wanted() {
  [ -z "$only" ] || [ "$only" = "$1" ]
}

if wanted ucm; then
  compare ucm 1000 --captions "$data/ucm/dataset.json" --features "$data/ucm/features_effnetlite0.npz"
  pair=(--model "$out/ucm.safetensors")
  search_errors ucm 300 0.25 5 1 2 3
  search_errors ucm 300 0.5 5 1 2 3
  train ucm-karpathy "${captions[@]}" --preset karpathy
  evaluate ucm-karpathy --model "$out/ucm-karpathy.safetensors" --limit 1000 --blank 0.25 --methods bscd
  train ucm-birnn-small "${captions[@]}" --encoder efficientnet-lite0 --kind birnn --epochs 3 --hidden-size 192
  measure ucm-birnn-splices joint_splices.py "$out/ucm-birnn-small.safetensors" 400
  evaluate ucm-pair-as-birnn "${pair[@]}" --birnn "$out/ucm.safetensors" --limit 300 --blank 0.25 \
    --methods bscd,birnn-bscd
  evaluate ucm-whole "${pair[@]}" --blank whole
  for rule in none average 0.5 1 2 3; do
    evaluate "ucm-length-whole-$rule" "${pair[@]}" --split val --limit 200 --blank whole --methods rerank,bscd \
      --length "$rule"
    for blank in 0.25 0.5; do
      evaluate "ucm-birnn-length-$blank-$rule" --birnn "$out/ucm-birnn.safetensors" --split val --limit 200 \
        --blank "$blank" --width unknown --methods birnn-rerank,birnn-bscd --length "$rule"
    done
  done
  for diversity in 1:0 5:0.5 5:1 5:3 10:1; do
    evaluate "ucm-diversity-${diversity/:/-}" "${pair[@]}" --limit 300 --blank 0.5 --methods bscd --beam-size 10 \
      --diversity "$diversity"
  done
  for model in ucm-birnn ucm; do
    measure "$model-compatibility" compatibility.py "$out/$model.safetensors" "$data/ucm/dataset.json" \
      "$data/ucm/features_effnetlite0.npz"
  done
  [ ! -d "$data/ucm/images" ] || measure ucm-pictures pictures.py "$data/ucm/images" "$out/ucm.safetensors"
fi
if wanted flickr; then
  flickr=$data/flickr8k
  compare flickr 500 --captions "$flickr/Flickr8k.token.txt" --no-image --list "train=$flickr/Flickr_8k.trainImages.txt" \
    --list "val=$flickr/Flickr_8k.devImages.txt" --list "test=$flickr/Flickr_8k.testImages.txt"
  search_errors flickr 100 0.25 5 1 # up to ten seconds for each blank
  for model in flickr-birnn flickr; do
    measure "$model-compatibility" compatibility.py "$out/$model.safetensors" "$flickr"
  done
  measure flickr-undecided undecided.py "Flickr8k text" 0.25 100 20000
fi
if wanted molecules; then
  smiles=$data/molecules
  training=(--lines "train=$smiles/train.smi" --lines "val=$smiles/val.smi" --tokens characters --epochs 10
    --precision bfloat16)
  train molecules "${training[@]}"
  train molecules-small "${training[@]}" --hidden-size 256 --half # birnn_decode/data/molecules.safetensors
  valid=birnn_decode.molecules:is_molecule
  lines=(--lines "test=$smiles/test.smi" --check "$valid")
  of_lines molecules --model "$out/molecules.safetensors"
  of_lines molecules-small --model "$out/molecules-small.safetensors" --methods urnn-f,urnn-b,rerank,bscd
  model=(--model "$out/molecules.safetensors")
  of_lines molecules-beams-25 "${model[@]}" --limit 300 --methods rerank,bscd --beam-size 25
  of_lines molecules-accept "${model[@]}" --limit 300 --methods urnn-f,rerank,bscd --accept "$valid"
  of_lines molecules-open "${model[@]}" --blank 0.25 --width unknown --limit 200 --methods urnn-f+end,urnn-b+end,rerank,bscd
fi
if wanted multi30k; then
  multi30k=$data/multi30k
  [ -e "$out/multi30k.json" ] ||
    "$python" "$here/../examples/train_tokenizer.py" "$multi30k/train.de" "$multi30k/train.en" --out "$out/multi30k.json"
  train multi30k --lines "train=$multi30k/train.en" --sources "train=$multi30k/train.de" --lines "val=$multi30k/val.en" \
    --sources "val=$multi30k/val.de" --tokens "$out/multi30k.json" --unknown unk --epochs 8 --precision bfloat16
  lines=(--lines "test=$multi30k/test_2016_flickr.en" --sources "test=$multi30k/test_2016_flickr.de"
    --model "$out/multi30k.safetensors")
  whole=(--blank whole --methods urnn-f,urnn-b,rerank,bscd)
  of_lines multi30k-whole-5 "${whole[@]}"
  of_lines multi30k-whole-20 "${whole[@]}" --beam-size 20 --limit 200
  for beam in 5 20; do
    measure "multi30k-scores-$beam" translation.py "$out/multi30k-whole-$beam" "$multi30k/test_2016_flickr.en"
  done
  of_lines multi30k-blanks --blank 0.25,0.5 --limit 300
fi
if wanted search; then
  [ -e "$out/digits/test.txt" ] || "$python" "$here/digits.py" "$out/digits"
  train digits --lines "train=$out/digits/train.txt" --lines "val=$out/digits/val.txt" --tokens characters \
    --hidden-size 256 --epochs 60 --patience 6
  measure ucm-search search_figure.py UCM 0.5 100
  measure molecules-search search_figure.py molecules 0.5 100
  measure digits-search search_figure.py digits 0.25 100
fi
"$python" "$here/results_csv.py" "$out"
"$python" "$here/results_page.py"
