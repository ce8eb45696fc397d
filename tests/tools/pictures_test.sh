#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The pictures of the documents are what their script draws, on a ground of their own, and shown by a document; every
# word stands inside.
set -uo pipefail
root=$(readlink -f "$(dirname "$(readlink -f "$0")")/../..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
fail() { echo "FAIL $*"; failed=1; }
"$root/tools/lib/pictures.py" "$work" || fail "tools/lib/pictures.py"
for picture in "$work"/*.svg; do
    cmp -s "$picture" "$root/docs/${picture##*/}" || fail "docs/${picture##*/}: run tools/lib/pictures.py"
done
for picture in "$root"/docs/*.svg; do
    grep -qrF "${picture##*/}" "$root"/README.md "$root"/ARCHITECTURE.md "$root"/docs/*.md ||
        fail "no document shows ${picture##*/}"
    [ "$(stat -c %s "$picture")" -le 16384 ] || fail "${picture##*/} is large"
done
python3 - "$root"/docs/*.svg <<'END' || fail "see above"
import sys, xml.etree.ElementTree as tree
for path in sys.argv[1:]:
    root = tree.parse(path).getroot()
    width, height = float(root.get("width")), float(root.get("height"))
    ground = root.find("{*}rect")
    assert ground.get("width") == "100%" and ground.get("fill").startswith("#"), f"{path} has no ground of its own"
    words = root.findall("{*}text")
    assert len(words) > 5, path
    for text in words:
        room = len(text.text or "") * float(text.get("font-size", root.get("font-size"))) * 0.53
        x, anchor = float(text.get("x")), text.get("text-anchor", "start")
        left = x - {"start": 0, "middle": room / 2, "end": room}[anchor]
        assert -room * 0.1 <= left and left + room <= width * 1.02 and 0 < float(text.get("y")) < height, \
            f"{path}: '{text.text}' stands outside"
END
exit $failed
