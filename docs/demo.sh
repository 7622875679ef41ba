#!/usr/bin/env bash
# `make demo`: explores a zone out of installed packages and stops where a person decides.
set -euo pipefail
cd "$(dirname "$0")/.."

karkas=${KARKAS:-$PWD/.venv/bin/karkas}
zone=retries
packages=(tenacity httpx httpcore anyio respx)

step() { printf '\n--- %s\n\n' "$*"; }
run() { printf '$ karkas %s\n' "$*"; "$karkas" "$@"; }

if [ -e demo-project ]; then
    # What a person decided there is never thrown away.
    number=1
    while [ -e "demo-project.$number" ]; do number=$((number + 1)); done
    mv demo-project "demo-project.$number"
    echo "The demo-project that was here is demo-project.$number now; remove it when you like."
fi
mkdir demo-project
cd demo-project

step "1. A project: karkas.toml says what you know, .karkas/ keeps the record"
run init

step "2. Agents explore what you do not know: calls over HTTP that fail and are tried again"
code=0
sources=()
for package in "${packages[@]}"; do sources+=(--source "pkg:$package"); done
run explore "$zone" "${sources[@]}" || code=$?
if [ "$code" != 3 ]; then
    echo "exploring should have ended with 3 (parked at a gate), not with $code" >&2
    exit 1
fi
echo "(exit code 3: it waits for you)"

step "3. Every claim is a quote with its place, and each place is proved"
run distillate verify "zones/$zone.distillate.yaml"

step "4. What it found, from zones/$zone.distillate.md"
awk '/^## (Weak spots|Everything else)/ {exit}
     /^## / {shown = 0; print; next}
     NF && ++shown <= 5 {gsub(/\[\^[0-9]+\]/, ""); print}
     shown == 6 {print "[...]"; shown++}' "zones/$zone.distillate.md"

step "5. What waits for you"
run queue list
gate=$("$karkas" queue list --json | sed -nE 's/.*"id": "(g-[0-9a-f]+)".*/\1/p' | head -n 1)
printf '\n'
run queue show "$gate"

step "6. Nothing was decided for you. Go on from here:"
cat <<TEXT
    cd demo-project && PATH="\$PWD/../.venv/bin:\$PATH"

  Read it, then draw the frame: your own map of the zone, with a rule for agents at each leaf.
  \`karkas frame\` opens a draft of it in \$EDITOR; or take the draft to a file, change it there, and hand it in:

    less zones/$zone.distillate.md
    karkas frame $zone --draft > mine.yaml
    karkas frame $zone --from mine.yaml --level propose-only

  Now agents may propose. This parks at a gate again and prints its id; look at it, and choose or refuse:

    karkas act $zone "publish the report to docs/$zone.md"
    karkas queue show GATE
    karkas queue choose GATE 1
    karkas queue undo GATE

  All of it is on the record:

    karkas audit log
    karkas audit verify
TEXT
