#!/bin/sh
# Puts what `equipoise calibrate --out DIR` wrote into docs/: tables into the page, figures and rates beside it.
set -eu
[ $# -eq 1 ] || { echo "usage: sh scripts/calibration-page.sh DIR (of \`equipoise calibrate --out DIR\`)" >&2; exit 2; }
from=$1
[ -f "$from/calibration.md" ] || { echo "$from/calibration.md: not there; run \`equipoise calibrate --out $from\`" >&2; exit 2; }
docs=$(dirname "$0")/../docs
mkdir -p "$docs/calibration" "$docs/images/calibration"
cp "$from/summary.json" "$docs/calibration/"
cp "$from"/*.svg "$docs/images/calibration/"
page=$docs/calibration.md
{
    sed '/^<!-- Below: calibration.md/q' "$page"
    printf '\n## Results\n\n'
    for figure in size power not-obfuscated; do
        [ ! -f "$from/$figure.svg" ] || printf '![%s](images/calibration/%s.svg)\n\n' "$figure" "$figure"
    done
    cat "$from/calibration.md"
} >"$page.new"
mv "$page.new" "$page"
