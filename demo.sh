#!/usr/bin/env bash
# The whole system on the embedded corpus: build, train, export, serve, ask. Called by `make demo`.
# It works in demo/, so that the defaults chain and a researcher's own data/, runs/ and models/ stay as they are.
set -euo pipefail
cd "$(dirname "$0")"
export PYTHONUNBUFFERED=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
mkdir -p demo/runs
cd demo
port=${PORT:-8500}
step() { printf '\n== %s\n' "$*"; }

# Runs a command whose lines go to demo.log. The screen keeps those that match, and shows the newest while it runs.
: > demo.log
quietly() {
  local keep=$1 line clear=''
  shift
  if [ -t 1 ]; then clear=$'\r\033[K'; fi
  if ! "$@" 2>&1 | tee -a demo.log | {
    while IFS= read -r line; do
      if [[ $line =~ $keep ]]; then printf '%s   %s\n' "$clear" "${line#*INFO }"
      elif [ "$clear" ]; then printf '%s   %.76s' "$clear" "$line"; fi
    done
    printf %s "$clear"
  }; then
    tail -n 20 demo.log
    echo "error: the step failed; all its lines are in demo/demo.log" >&2
    exit 1
  fi
}

step "1/5 build: samples/ -> aligned faces, masks, split tags, GAN pairs"
quietly '^[0-9]+ faces of|report.html shows' python -m beam_pipelines.build --runner=DirectRunner
echo "   records and report.html are in demo/data/faces"

step "2/5 train: FaPE-GAN, synthesis and Fa-Net on ER-SS, a few epochs each"
quietly " INFO (stage|FaPE-GAN on|synthetic faces of|fa_net finished|evaluated)" \
  python -m trainer.task --task=er_ss --stage=all --image_size=48 --epochs=12 \
  --gan_image_size=64 --gan_channels=32 --gan_epochs=4 --gan_quality_pairs=32
echo "   weights, metrics.json and TensorBoard logs are in demo/runs/er_ss; generated faces in demo/runs/er_ss/fape_gan/samples"

step "3/5 export: runs/er_ss -> SavedModel"
quietly '^exported' python -m serving.export
echo "   the model is in demo/models/fa_net"

step "4/5 serve: the model over gRPC on 127.0.0.1:$port"
python -m serving.server --model_base_path=models/fa_net --port="$port" > runs/server.log 2>&1 &
server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 120); do
  kill -0 $server 2>/dev/null || { cat runs/server.log; echo "error: the server stopped; see above" >&2; exit 1; }
  grep -q "^ready" runs/server.log && break
  sleep 0.5
done

step "5/5 ask: one picture over gRPC"
python -m serving.client ../samples/photo.jpg --server="127.0.0.1:$port" --output=runs/photo_annotated.jpg
echo "   the annotated picture is demo/runs/photo_annotated.jpg"

cat <<TEXT

Done. To look further, in the folder demo:
  all lines  demo.log
  report     open data/faces/report.html
  training   ../.venv/bin/tensorboard --logdir runs
  web page   ../.venv/bin/python -m serving.server &  ../.venv/bin/python -m serving.demo --port=7860
TEXT
