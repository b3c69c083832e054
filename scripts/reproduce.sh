#!/bin/sh
# Every number and figure of docs/reproduction.md, and of docs/dose.md, from the models in models/ and CIFAR-10.
#
#   scripts/reproduce.sh PATH [OUT]
#
# PATH holds CIFAR-10 (data_batch_*.bin, or parquet as Hugging Face has it); OUT is runs/reproduction unless given.
# With TRAIN=1 the models are trained first, by the recipes in recipes (many hours). Whatever was
# interrupted goes on when the script is run again.
set -eu

data=${1:?give the folder that holds CIFAR-10}
out=${2:-runs/reproduction}
equipoise=${EQUIPOISE:-target/release/equipoise}
count=${COUNT:-300}
name=mdeq-small-pgd-at-exact-14-epochs
model=models/cifar10-$name.safetensors
family=$out/dose
# Before, amid and after the iteration, each by another way back.
gradients="unrolled:state=2,lead=1,steps=4,unrolled:state=5,lead=1,steps=4,adjoint:state=6,through-solver,\
ensemble(unrolled:state=1..8,lead=1,steps=0)"

if [ "${TRAIN:-0}" = 1 ]; then
    run=$out/training/$name
    resume=
    [ -d "$run" ] && resume=--resume
    [ -f "$run/model.safetensors" ] || "$equipoise" train --config "recipes/small/cifar10-$name.toml" --data "cifar10:$data" --out "$run" $resume
    model=$run/model.safetensors
else
    # The family as it is in models/dose, in the place where training would leave it.
    for trained in models/dose/*.safetensors; do
        member=$(basename "$trained" .safetensors)
        recipe=recipes/dose/$member.toml
        [ -f "$recipe" ] || continue
        mkdir -p "$family/$member"
        epoch=$(printf %03d "$(sed -n 's/^epochs = //p' "$recipe")")
        cp "$trained" "$family/$member/epoch-$epoch.safetensors"
        cp "$trained" "$family/$member/model.safetensors"
    done
    MEMBERS=$(ls "$family")
    export MEMBERS
fi

# evaluate FOLDER FLAGS...: unless it is there already
evaluate() {
    folder=$out/$1
    shift
    [ -f "$folder/results.json" ] && return
    resume=
    [ -d "$folder/journal" ] && resume=--resume
    "$equipoise" evaluate --model "$model" --data "cifar10:$data" --split test --count "$count" \
        --norm linf "$@" --out "$folder" $resume
}

# Ready-made against intermediate attacks behind three readouts, each with its twin, and an attack without gradients.
evaluate "$name" --readouts 'final,early(2),early(3)' --attacks pgd-10,square-500 --gradients "$gradients"
# Ready-made and white-box accuracy as the radius grows, where there is a gap and where there is none.
evaluate "$name-radii" --readouts 'final,early(2)' --attacks pgd-10,square-500 --gradients through-solver \
    --eps 1/255,2/255,4/255,8/255,16/255,32/255

# The family with its controls: docs/dose.md.
EQUIPOISE=$equipoise TRAIN=${TRAIN:-0} scripts/dose.sh "$data" "$family"

# Residual curves, misalignment of gradients, loss, spectrum, sweeps. No gallery: the record holds no images.
if [ ! -f "$out/diagnosis/report.html" ]; then
    resume=
    [ -d "$out/diagnosis" ] && resume=--resume
    "$equipoise" diagnose --model "$family/standard-30/model.safetensors" "$family/pgd-at-30/model.safetensors" \
        "$family/pgd-at-exact-seed-3/model.safetensors" --data "cifar10:$data" --split test --count 100 --eps 8/255 --norm linf \
        --sections residual,accuracy,alignment,landscape,spectrum,sweep --out "$out/diagnosis" $resume
fi

# How many fixed points there are, with as many steps as it takes, and how much longer the solver can be made to work.
if [ ! -f "$out/fixed-points/diagnosis.json" ]; then
    resume=
    [ -d "$out/fixed-points" ] && resume=--resume
    set --
    for model in standard-30 pgd-at-30 pgd-at-exact-seed-3 pgd-at-no-warmup pgd-at-jacobian-strong; do
        set -- "$@" "$family/$model/model.safetensors"
    done
    "$equipoise" diagnose --model "$@" --data "cifar10:$data" --count 100 --horizon 300 --sections starts,work \
        --out "$out/fixed-points" $resume
fi

# One page for everything, and the tables and figures of the document.
"$equipoise" report "$out/$name" "$out/$name-radii" "$out/diagnosis" \
    --title "DEQs on CIFAR-10" --out "$out/report" --format html,markdown,csv,svg,pdf
