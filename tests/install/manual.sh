#!/usr/bin/env bash
# Every option that a program's --help lists, and those of its subcommands, stands in its manual page in that place, and is completed
# by the shell.
#   manual.sh BUILD
set -euo pipefail
build=$1
shopt -s extglob
fail() { echo "manual: $*" >&2; exit 1; }
options=0 commands=0

use() {  # PROGRAM: from here on
  program=$1 page=$build/share/$1.1
  if command -v man >/dev/null; then
    warnings=$(man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null) && [ -z "$warnings" ] || fail "man complains: $warnings"
  fi
  source "$build/share/$program"
}
complete_words() {  # WORD...: the last one is to be completed
  COMP_WORDS=("$program" "$@")
  COMP_CWORD=$#
  COMPREPLY=()
  "_${program//-/_}"
  printf '%s\n' "${COMPREPLY[@]}"
}
options_in() { grep -oE -- '^ +(-[a-z],)?--[a-z-]+' | sed 's/^ *//; s/^-[a-z],//' | sort -u; }
documented_in() { grep -E '^\\fB\\-' | sed 's/\\fR.*//; s/\\fB//; s/\\//g; s/^-[a-z],//' | sort -u; }
check() {  # WHAT HELP SECTION COMPLETED
  local wanted documented completed
  wanted=$(options_in <<< "$2") documented=$(documented_in <<< "$3") completed=$(sort -u <<< "$4")
  [ "$documented" = "$wanted" ] || fail "$1: the page and --help differ: $(diff <(echo "$documented") <(echo "$wanted"))"
  [ "$completed" = "$wanted" ] || fail "$1: completion and --help differ: $(diff <(echo "$completed") <(echo "$wanted"))"
  options=$((options + $(wc -w <<< "$wanted")))
}
check_commands() {  # LEAST: how many there are at least
  local names command section
  names=$("$build/bin/$program" --help | sed -n '/^Subcommands:/,$p' | grep -oE '^  [a-z-]+' | tr -d ' ')
  [ "$(wc -w <<< "$names")" -ge "$1" ] || fail "found no commands of $program"
  for command in $names; do
    complete_words "${command:0:-1}" | grep -qx -- "$command" || fail "$program $command is not completed"
    section=$(sed 's/\\-/-/g' "$page" | sed -n "/^\.SS $program $command\$/,/^\.S[HS] /p" | sed '1d' | sed '/^\.S[HS] /,$d' | sed 's/^\\fB-/\\fB\\-/')
    check "$program $command" "$("$build/bin/$program" "$command" --help)" "$section" "$(complete_words "$command" --)"
    commands=$((commands + 1))
  done
}

use neurogen-engine
check_commands 10
# Training needs no subcommand; files follow options.
complete_words --che | grep -qx -- --checkpoint-dir || fail "options without a subcommand are not completed"
complete_words --arch tiny --res | grep -qx -- --resume || fail "later options without a subcommand are not completed"
[ -z "$(complete_words train --data x)" ] || fail "a file's name is taken for something else"
use corpus
check_commands 4
use plan
check plan "$("$build/bin/plan" --help)" "$(cat "$page")" "$(complete_words --)"
complete_words --arch tiny --car | grep -qx -- --card || fail "later options of plan are not completed"
echo "$options options in $commands commands and plan"
