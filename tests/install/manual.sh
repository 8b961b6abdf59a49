#!/usr/bin/env bash
# Every option that a subcommand's --help lists stands in the manual page, under that subcommand, and is completed by the shell.
#   manual.sh BUILD
set -euo pipefail
build=$1
engine=$build/bin/neurogen-engine
page=$build/share/neurogen-engine.1
shopt -s extglob
fail() { echo "manual: $*" >&2; exit 1; }

if command -v man >/dev/null; then
  warnings=$(man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null) && [ -z "$warnings" ] || fail "man complains: $warnings"
fi
source "$build/share/neurogen-engine"
complete_words() {  # WORD...: the last one is to be completed
  COMP_WORDS=(neurogen-engine "$@")
  COMP_CWORD=$#
  COMPREPLY=()
  _neurogen_engine
  printf '%s\n' "${COMPREPLY[@]}"
}
options_in() { grep -oE -- '^ +(-[a-z],)?--[a-z-]+' | sed 's/^ *//; s/^-[a-z],//' | sort -u; }

commands=$("$engine" --help | sed -n '/^Subcommands:/,$p' | grep -oE '^  [a-z]+' | tr -d ' ')
[ "$(wc -w <<< "$commands")" -ge 10 ] || fail "found no commands"
options=0
for command in $commands; do
  complete_words "${command:0:-1}" | grep -qx "$command" || fail "$command is not completed"
  help=$("$engine" "$command" --help)
  wanted=$(options_in <<< "$help")
  section=$(sed -n "/^\.SS neurogen.*engine $command\$/,/^\.S[HS] /p" "$page" | sed '1d' | sed '/^\.S[HS] /,$d')
  documented=$(grep -E '^\\fB\\-' <<< "$section" | sed 's/\\fR.*//; s/\\fB//; s/\\//g; s/^-[a-z],//' | sort -u)
  [ "$documented" = "$wanted" ] || fail "$command: the page and --help differ: $(diff <(echo "$documented") <(echo "$wanted"))"
  completed=$(complete_words "$command" -- | sort -u)
  [ "$completed" = "$wanted" ] || fail "$command: completion and --help differ: $(diff <(echo "$completed") <(echo "$wanted"))"
  options=$((options + $(wc -w <<< "$wanted")))
done
# Training needs no subcommand; files follow options.
complete_words --che | grep -qx -- --checkpoint-dir || fail "options without a subcommand are not completed"
complete_words --arch tiny --res | grep -qx -- --resume || fail "later options without a subcommand are not completed"
[ -z "$(complete_words train --data x)" ] || fail "a file's name is taken for something else"
echo "$options options in $(wc -w <<< "$commands") commands"
