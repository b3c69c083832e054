#!/bin/sh
# Defences that iterate or draw (Yang, Li, Pang and Liu, ICML 2023), with each of their parts and without: what they gain by the published
# protocol, and what is left of it when they are attacked through themselves.
#
#   scripts/defended.sh PATH [OUT]
#
# PATH holds CIFAR-10; OUT is runs/defended unless given. Trains the recipes of recipes/defended (about 15 minutes each on one core), then
# attacks each behind its readouts, and the undefended images behind the defences. MEMBERS names some of them (recipes/defended has second seeds too), COUNT the test images (300);
# THREADS is of each command. Whatever was interrupted goes on when the script is run again.
set -eu

data=${1:?give the folder that holds CIFAR-10}
out=${2:-runs/defended}
equipoise="${EQUIPOISE:-target/release/equipoise} ${THREADS:+--threads $THREADS}"
count=${COUNT:-300}
members=${MEMBERS:-plain random-states pgd-at-30}

# evaluate NAME FOLDER FLAGS...: unless it is there already.
evaluate() {
    model=$out/$1/model.safetensors folder=$out/$1/$2
    shift 2
    [ -f "$folder/results.json" ] && return
    resume=
    [ -d "$folder/journal" ] && resume=--resume
    $equipoise evaluate --model "$model" --data "cifar10:$data" --count "$count" --no-flags --save-adversarial "$@" --out "$folder" $resume
}

for name in $members; do
    run=$out/$name
    if [ "$name" = pgd-at-30 ] && [ ! -f "$run/model.safetensors" ]; then
        # Trained by scripts/dose.sh.
        mkdir -p "$run"
        cp models/dose/pgd-at-30.safetensors "$run/model.safetensors"
    fi
    if [ ! -f "$run/model.safetensors" ]; then
        resume=
        [ -d "$run" ] && resume=--resume
        $equipoise train --config "recipes/defended/$name.toml" --data "cifar10:$data" --out "$run" $resume
    fi
    evaluate "$name" one-shot --readouts final,random-states --attacks pgd-20,square-500 --gradients through-solver --transfer siblings
    for protocol in any-of-10 fixed-seed; do
        [ "$name" = pgd-at-30 ] || continue
        evaluate "$name" "$protocol" --readouts random-states --protocol "$protocol" --attacks pgd-20,square-500 --gradients through-solver
    done
    evaluate "$name" entropy --readouts entropy-reduction,entropy-reduction-corrected --attacks pgd-20,square-300 \
        --gradients 'shift,smooth(1),lock-in(1,0,0,0),lock-in(1,1,1,1),off(through-solver)' \
        --transfer "$run/one-shot/adversarial-final.safetensors"
done
$equipoise report "$out"/*/one-shot "$out"/*/any-of-10 "$out"/*/fixed-seed "$out"/*/entropy --out "$out/report" --format html,markdown,csv,svg
