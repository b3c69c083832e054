#!/bin/sh
# How long an epoch takes on one rank and on two, in turns: the figures of docs/guide/machines.md.
#
#   cargo build --release --features equipoise-cli/mpi -p equipoise-cli
#   DATA=cifar10:PATH [ROUNDS=6] [MPIRUN='mpirun --bind-to none'] scripts/ranks-timing.sh
#
# Every run trains mdeq-small by PGD-AT of two steps for two epochs of 20 steps of 64 images; the second epoch's seconds, as the
# training log has them, are printed by setting and round.
set -eu

data=${DATA:?give the data, such as DATA=cifar10:PATH}
program=$(realpath "${PROGRAM:-target/release/equipoise}")
mpirun=${MPIRUN:-mpirun}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# measure NAME COMMAND..
measure() {
    name=$1
    shift
    rm -rf "$work/run"
    "$@" --model mdeq-small --data "$data" --count 1281 --development 1 --batch-size 64 --epochs 2 \
        --adversary pgd --pgd-steps 2 --out "$work/run" --quiet
    seconds=$(sed -n 's/.*"seconds":\([0-9.]*\).*/\1/p' "$work/run/log.jsonl" | tail -n 1)
    echo "$name,$round,$seconds"
}

echo "setting,round,seconds"
round=1
while [ "$round" -le "${ROUNDS:-6}" ]; do
    measure "one rank of one thread, parts of 32" "$program" --threads 1 train --micro-batch 32
    measure "one rank of two threads, parts of 32" "$program" --threads 2 train --micro-batch 32
    # shellcheck disable=SC2086
    measure "two ranks of one thread, parts of 32" $mpirun -n 2 "$program" --threads 1 train --ranks mpi --micro-batch 32
    measure "one rank of two threads, at once" "$program" --threads 2 train
    for part in 16 8 4; do
        measure "one rank of one thread, parts of $part" "$program" --threads 1 train --micro-batch "$part"
    done
    round=$((round + 1))
done
