#!/bin/sh
# Dose and response: small MDEQs that differ in what moves the residual, and how much of their robustness is obfuscation.
#
#   scripts/dose.sh PATH [OUT]
#
# PATH holds CIFAR-10; OUT is runs/dose unless given. Trains the members of recipes/dose (about 12 minutes each on one core; pgd-at-large two hours on two),
# then evaluates and diagnoses each after every epoch that its recipe keeps, and reports on all of them in OUT/report. MEMBERS names some of them, in order; EPOCHS some of
# the epochs, as in "002 006"; MORE=1 attacks final states that are no fixed points on 1,000 images,
# follows pgd-at-30 over its epochs, attacks its defences on 1,000 images, and compares pgd-at-long with a ResNet-18 of like size; TRAIN=0 measures what is trained already; THREADS is of each command. Whatever was interrupted
# goes on when the script is run again, and two of these scripts may work on different MEMBERS at once.
set -eu

data=${1:?give the folder that holds CIFAR-10}
out=${2:-runs/dose}
equipoise="${EQUIPOISE:-target/release/equipoise} ${THREADS:+--threads $THREADS}"
count=${COUNT:-400}
# The control whose training gradient is the true one has no arm of its own: MORE.
members=${MEMBERS:-$(cd recipes/dose && ls -- *.toml | sed 's/\.toml$//; /reversible/d')}

for name in $members; do
    run=$out/$name
    if [ "${TRAIN:-1}" = 1 ] && [ ! -f "$run/model.safetensors" ]; then
        resume=
        [ -d "$run" ] && resume=--resume
        $equipoise train --config "recipes/dose/$name.toml" --data "cifar10:$data" --out "$run" $resume
    fi
done

# diagnose MODEL FOLDER: residuals, radii and cosines, unless they are there already.
diagnose() {
    [ -f "$2/diagnosis.json" ] && return
    resume=
    [ -d "$2" ] && resume=--resume
    $equipoise diagnose --model "$1" --data "cifar10:$data" --count 100 --sections residual,alignment,spectrum --out "$2" $resume
}

# measure MODEL FOLDER STEPS: three rungs of equal effort behind every readout, then residuals, radii and cosines.
measure() {
    model=$1 folder=$2 steps=$3
    half=$(((steps + 1) / 2))
    quarter=$(((steps + 3) / 4))
    readouts="final,early($quarter),early($half),ensemble-states,ensemble-logits"
    # The paper's gradients: unrolled and adjoint at intermediate states. Eight, so that each arm has eight starts.
    paper="unrolled:state=1,lead=1,steps=0,unrolled:state=$quarter,lead=1,steps=4,unrolled:state=$half,lead=1,steps=4,\
unrolled:state=$steps,lead=1,steps=9,adjoint:state=$quarter,adjoint:state=$half,adjoint:state=$steps,\
ensemble(unrolled:state=1..$steps,lead=1,steps=0)"
    for rung in paper true; do
        [ -f "$folder/$rung/results.json" ] && continue
        resume=
        [ -d "$folder/$rung/journal" ] && resume=--resume
        case $rung in
            paper) gradients=$paper attack=pgd-10 ;;
            true) gradients=through-solver attack=pgd-10x8 ;;
        esac
        $equipoise evaluate --model "$model" --data "cifar10:$data" --count "$count" --readouts "$readouts" \
            --attacks "$attack" --gradients "$gradients" --no-flags --out "$folder/$rung" $resume
    done
    diagnose "$model" "$folder/diagnosis"
}

for name in $members; do
    run=$out/$name
    steps=$(sed -n 's/.*solver = .*steps = \([0-9]*\).*/\1/p' "recipes/dose/$name.toml")
    for model in "$run"/epoch-*.safetensors; do
        [ -f "$model" ] || continue
        epoch=${model##*/epoch-}
        case " ${EPOCHS:-${epoch%.safetensors}} " in *" ${epoch%.safetensors} "*) ;; *) continue ;; esac
        measure "$model" "$run/measured/$(basename "$model" .safetensors)" "${steps:-8}"
    done
done

if [ "${MORE:-0}" = 1 ]; then
    # evaluate MODEL FOLDER COUNT FLAGS...: unless it is there already.
    evaluate() {
        model=$1 folder=$2 images=$3
        shift 3
        [ -f "$folder/results.json" ] && return
        resume=
        [ -d "$folder/journal" ] && resume=--resume
        $equipoise evaluate --model "$model" --data "cifar10:$data" --count "$images" --no-flags "$@" --out "$folder" $resume
    }
    # Final states that are no fixed points.
    for name in pgd-at-exact-seed-3 pgd-at-inner-intermediate pgd-at-no-warmup; do
        evaluate "$out/$name/model.safetensors" "$out/$name/final" 1000 --readouts final --attacks pgd-10x8 --gradients through-solver
    done
    for name in pgd-at-30 pgd-at-30-seed-2 pgd-at-large; do
        epochs='006 012 018 024'
        [ "$name" = pgd-at-large ] && epochs=012
        for epoch in $epochs; do
            run=$out/$name
            over=$run/over/epoch-$epoch
            evaluate "$run/epoch-$epoch.safetensors" "$over/true" "$count" --readouts 'final,early(2),early(4)' --attacks pgd-10x8 \
                --gradients through-solver
            diagnose "$run/epoch-$epoch.safetensors" "$over/diagnosis"
        done
    done
    # The control whose training gradient is the true one: other gradients have nothing to find.
    control=$out/pgd-at-reversible
    if [ ! -f "$control/model.safetensors" ]; then
        resume=
        [ -d "$control" ] && resume=--resume
        $equipoise train --config recipes/dose/pgd-at-reversible.toml --data "cifar10:$data" --out "$control" $resume
    fi
    evaluate "$control/model.safetensors" "$control/control/evaluation" "$count" --readouts 'final,early(2),early(4)' \
        --attacks pgd-10x2,square-300 \
        --gradients 'exact,unrolled:state=2,lead=1,steps=4,unrolled:state=8,lead=1,steps=9,ensemble(unrolled:state=1..8,lead=1,steps=0)'
    diagnose "$control/model.safetensors" "$control/control/diagnosis"
    run=$out/pgd-at-30
    # The control without an adversary: residuals and radii alone, as nothing withstands an attack.
    for epoch in 006 012 018 024; do
        diagnose "$out/standard-30/epoch-$epoch.safetensors" "$out/standard-30/over/epoch-$epoch/diagnosis"
    done
    evaluate "$run/model.safetensors" "$run/defences" 1000 --readouts 'final,early,early:whitebox,ensemble-states,ensemble-logits' \
        --attacks pgd-10x4 --gradients through-solver
    baseline=$out/pairs/resnet
    [ -f "$baseline/training/model.safetensors" ] || $equipoise train \
        --config recipes/small/cifar10-resnet18-w3-pgd-at-14-epochs.toml --data "cifar10:$data" --out "$baseline/training"
    evaluate "$baseline/training/model.safetensors" "$baseline" 1000 --readouts final --attacks pgd-10x8,square-500 --gradients none
    evaluate "$out/pgd-at-long/model.safetensors" "$out/pairs/mdeq" 1000 --readouts final --attacks pgd-10x8,square-500 \
        --gradients none
    $equipoise report "$baseline" "$out/pairs/mdeq" --out "$out/pairs/report" --format html,markdown,csv
fi

# All of it in one page: gaps against residuals and cosines with their trends, every point as a table and as dose.csv.
records=
for folder in "$out"/*/measured/*; do
    [ -f "$folder/diagnosis/diagnosis.json" ] && records="$records $folder/paper $folder/true $folder/diagnosis"
done
# shellcheck disable=SC2086 # a list of folders
[ -n "$records" ] && $equipoise report $records --out "$out/report" --format html,markdown,csv,svg
