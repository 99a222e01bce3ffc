#!/usr/bin/env bash
# Ray 2.60.0: where ~/.ray/auth_token exists, `ray start --head` turns token authentication on by itself. `ray start --address`, by the same
# user with the same file, does not show that token and is refused with InvalidAuthToken ("RAY_AUTH_MODE is currently 'disabled'"), though it
# is the command that the head prints for adding a node. With RAY_AUTH_MODE=token in its environment it joins.
#
# Whoever meets it: a cluster that is started from a batch script by somebody who has a token (`ray get-auth-token --generate` makes one, and
# so does `ray.init()`) has one node.
#
# Expected: the second node joins, or the head says what else it needs. Observed: it is refused until RAY_AUTH_MODE=token is set.
set -euo pipefail
work=$(mktemp -d)
head=
trap '[ -z "$head" ] || kill "$head" || true; sleep 3; rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "ray==2.60.0"
ray="$work/venv/bin/ray"
export HOME="$work" RAY_USAGE_STATS_ENABLED=0
unset RAY_AUTH_MODE RAY_AUTH_TOKEN RAY_AUTH_TOKEN_PATH RAY_ADDRESS
"$ray" --version
"$ray" get-auth-token --generate > "$work/token.txt" 2>&1
address=$(python3 -c "import socket; print(socket.gethostbyname(socket.gethostname()))"):26379
"$ray" start --head --port 26379 --num-cpus 1 --include-dashboard=false --block > "$work/head.txt" 2>&1 &
head=$!
for _ in $(seq 120); do grep -q "Ray runtime started" "$work/head.txt" && break; sleep 1; done
grep -o "Token authentication is enabled for this Ray cluster" "$work/head.txt"
grep -o "ray start --address.*" "$work/head.txt"
test -s "$work/.ray/auth_token"
if "$ray" start --address "$address" --num-cpus 1 > "$work/second.txt" 2>&1; then
  echo "changed: the second node joins without RAY_AUTH_MODE" && exit 1
fi
grep -o "InvalidAuthToken.*'disabled' (not 'token')" "$work/second.txt"
RAY_AUTH_MODE=token "$ray" start --address "$address" --num-cpus 1 > "$work/third.txt" 2>&1
grep -o "Ray runtime started" "$work/third.txt"
echo "observed: refused with the head's own command, accepted with RAY_AUTH_MODE=token"
