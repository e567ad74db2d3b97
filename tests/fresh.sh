#!/bin/sh
# Uses an installed medsgssl as a stranger would, away from the checkout: VENV=... sh tests/fresh.sh
set -eu
bin="$VENV/bin"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
export XDG_CACHE_HOME="$work/cache"
"$bin/medsgssl" --version
"$bin/medsgssl" methods --json > methods.json
"$bin/medsgssl" phantom data --count 60 --size 64 --quiet
"$bin/medsgssl" masks build data --out masks --quiet
"$bin/medsgssl" run guided-crop --data data --out run --quiet \
  --set data.img_size=32 --set data.batch_size=8 --set data.num_workers=0 \
  --set encoder.name=test_efficientnet --set encoder.pretrained=false \
  --set pretrain.epochs=1 --set finetune.epochs=1
test -s run/report.html
"$bin/medsgssl" predict run data/images --out scores.csv
echo "fresh environment: ok"
