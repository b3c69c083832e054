#!/bin/sh
# Every number and figure of docs/reproduction.md, from the models in models/ and CIFAR-10.
#
#   scripts/reproduce.sh PATH [OUT]
#
# PATH holds CIFAR-10 (data_batch_*.bin, or parquet as Hugging Face has it); OUT is runs/reproduction unless given.
# With TRAIN=1 the models are trained first, into OUT/models, by the recipes in recipes/small (hours). Whatever was
# interrupted goes on when the script is run again.
set -eu

data=${1:?give the folder that holds CIFAR-10}
out=${2:-runs/reproduction}
equipoise=${EQUIPOISE:-target/release/equipoise}
count=${COUNT:-300}
models=models
names="mdeq-small-standard mdeq-small-pgd-at-exact mdeq-small-pgd-at-unrolled mdeq-small-pgd-at-exact-14-epochs"
baseline=resnet18-w7-pgd-at
# Before, amid and after the iteration, each by another way back.
gradients="unrolled:state=2,lead=1,steps=4,unrolled:state=5,lead=1,steps=4,adjoint:state=6,through-solver,\
ensemble(unrolled:state=1..8,lead=1,steps=0)"

if [ "${TRAIN:-0}" = 1 ]; then
    models=$out/models
    for name in $names $baseline; do
        run=$out/training/$name
        resume=
        [ -d "$run" ] && resume=--resume
        "$equipoise" train --config "recipes/small/cifar10-$name.toml" --data "cifar10:$data" --out "$run" $resume
        mkdir -p "$models"
        cp "$run/model.safetensors" "$models/cifar10-$name.safetensors"
    done
fi

# evaluate MODEL FOLDER FLAGS...: unless it is there already
evaluate() {
    model=$models/cifar10-$1.safetensors
    folder=$out/$2
    shift 2
    [ -f "$folder/results.json" ] && return
    resume=
    [ -d "$folder/journal" ] && resume=--resume
    "$equipoise" evaluate --model "$model" --data "cifar10:$data" --split test --count "$count" \
        --norm linf "$@" --out "$folder" $resume
}

for name in $names; do
    # Ready-made against intermediate attacks on the deployed model, each with its twin, and an attack without gradients.
    evaluate "$name" "$name/final" --readouts final --attacks pgd-10,square-500 --gradients "$gradients"
    # Defences from intermediate states, attacked through themselves.
    evaluate "$name" "$name/defences" --readouts "early,early(2),ensemble-states" --attacks pgd-10,square-500 \
        --gradients "$gradients"
done
evaluate "$baseline" "$baseline/final" --readouts final --attacks pgd-10,square-500
# Ready-made and white-box accuracy as the radius grows, where there is a gap and where there is none.
longest=mdeq-small-pgd-at-exact-14-epochs
evaluate "$longest" "$longest/radii" --readouts "final,early(2)" --attacks pgd-10,square-500 \
    --gradients through-solver --eps 1/255,2/255,4/255,8/255,16/255,32/255

# Residual curves, misalignment of gradients, loss, spectrum, sweeps. No gallery: the record holds no images.
if [ ! -f "$out/diagnosis/report.html" ]; then
    resume=
    [ -d "$out/diagnosis" ] && resume=--resume
    set --
    for name in $names; do set -- "$@" --model "$models/cifar10-$name.safetensors"; done
    "$equipoise" diagnose "$@" --data "cifar10:$data" --split test --count 100 --eps 8/255 --norm linf \
        --sections residual,accuracy,alignment,yardstick,landscape,spectrum,sweep --out "$out/diagnosis" $resume
fi

# One page for everything, and the tables and figures of the document.
set --
for name in $names; do set -- "$@" "$out/$name/final/results.json" "$out/$name/defences/results.json"; done
set -- "$@" "$out/$longest/radii/results.json"
"$equipoise" report "$@" "$out/$baseline/final/results.json" "$out/diagnosis/diagnosis.json" \
    --title "DEQs on CIFAR-10" --out "$out/report" --format html,markdown,csv,svg,pdf
