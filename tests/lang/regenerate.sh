#!/usr/bin/env bash
# Writes the expectation of every case again, with the nix-instantiate named by NIX_INSTANTIATE:
#
#   NIX_INSTANTIATE="nix-instantiate" tests/lang/regenerate.sh [theme…]
#
# A case is <theme>/<case>.nix; files in folders below a theme are fixtures. It is evaluated as
# `nix-instantiate --eval --strict <case>.nix`, with this folder as <lang>, and with just the experimental features that a
# first line `# features: a b` names. When that succeeds, its standard output is <case>.out; otherwise <case>.err holds
# the line of its standard error that says what went wrong. The path of this folder is written as /lang in both.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
read -ra command <<<"${NIX_INSTANTIATE:-nix-instantiate}"
unset NIX_PATH

one() {
  local case=${1%.nix} features out err
  features=$(sed -n '1s/^# features: *//p' "$case.nix")
  err=$(mktemp)
  rm -f "$case.out" "$case.err"
  cd "$(dirname "$case")"
  if out=$("${command[@]}" --eval --strict -I "lang=$here" --option experimental-features "$features" "$(basename "$case").nix" 2>"$err" </dev/null); then
    printf '%s\n' "${out//"$here"//lang}" >"$case.out"
  else
    # The last "error:" is the innermost one. Syntax errors and TOML errors have words of their own in every implementation.
    sed -e 's/\x1b\[[0-9;]*m//g' "$err" | grep -aE '^ *error: ' | tail -n 1 |
      sed -E -e 's/^ *error: //' -e "s|$here|/lang|g" -e 's/^read of [0-9]+ bytes: //' -e 's/^(syntax error).*/\1/' \
        -e 's/^(while parsing TOML:).*/\1/' >"$case.err"
    [ -s "$case.err" ] || echo "no message: $case" >&2
  fi
  rm -f "$err"
}
export -f one
export here

themes=("$@")
[ ${#themes[@]} -gt 0 ] || themes=("$here"/*/)
for theme in "${themes[@]}"; do
  theme=$(basename "$theme")
  for file in "$here/$theme"/*.nix; do
    one "$file"
  done
done
