#!/usr/bin/env bash
# The manual page lists exactly the options of --help, of the program and of each subcommand, and bash completes them; bash, zsh and
# fish complete an option's values.
#   manual.sh BUILD SOURCE
set -euo pipefail
build=$1 source=$(realpath "$2")
shopt -s extglob
fail() { echo "manual: $*" >&2; exit 1; }
options=0 commands=0

use() {  # INSTALLED BUILT: the program's names, from here on
  program=$1 page=$build/share/man/$1.1 built=$build/bin/$2
  if command -v man >/dev/null; then
    warnings=$(man --warnings -E UTF-8 -l -Tutf8 -Z "$page" 2>&1 >/dev/null) && [ -z "$warnings" ] || fail "man complains: $warnings"
  fi
  source "$build/share/bash/$program"
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
  names=$("$built" --help | sed -n '/^Subcommands:/,$p' | grep -oE '^  [a-z-]+' | tr -d ' ')
  [ "$(wc -w <<< "$names")" -ge "$1" ] || fail "found no commands of $program"
  for command in $names; do
    complete_words "${command:0:-1}" | grep -qx -- "$command" || fail "$program $command is not completed"
    section=$(sed 's/\\-/-/g' "$page" | sed -n "/^\.SS $program $command\$/,/^\.S[HS] /p" | sed '1d' | sed '/^\.S[HS] /,$d' | sed 's/^\\fB-/\\fB\\-/')
    check "$program $command" "$("$built" "$command" --help)" "$section" "$(complete_words "$command" --)"
    commands=$((commands + 1))
  done
}

values() {  # WORD...: completes the last one in bash, into `completed`; fish completes it equally, and zsh where it is one word
  completed=$(complete_words "$@" | sort | xargs)
  ! command -v fish > /dev/null || [ "$(fish_words "$program $*" | sort | xargs)" = "$completed" ] ||
    fail "$program $*: bash completes $completed, fish $(fish_words "$program $*" | xargs)"
  [[ "$completed" == *\ * ]] || ! command -v zsh > /dev/null || [ "$(zsh_word "$program $*")" = "$completed" ] ||
    fail "$program $*: bash completes $completed, zsh $(zsh_word "$program $*")"
}
fish_words() {  # LINE
  fish --no-config -c "source '$PWD/$build/share/fish/$program.fish'; complete -C '$1'" | cut -f 1
}
zsh_word() {  # LINE
  zsh -f "$source/tests/install/completed.zsh" "$PWD/$build/share/zsh" "$1"
}
expect_values() {  # EXPECTED WORD...
  local expected=$1
  shift
  values "$@"
  [ "$completed" = "$expected" ] || fail "$program $*: completed to $completed"
}

cd "$build" && build=.  # nothing there is called as a value is
use neurogen-engine neurogen-engine
check_commands 10
# Training needs no subcommand; files follow options.
complete_words --che | grep -qx -- --checkpoint-dir || fail "options without a subcommand are not completed"
complete_words --arch tiny --res | grep -qx -- --resume || fail "later options without a subcommand are not completed"
[ -z "$(complete_words train --data x)" ] || fail "a file name is completed as something else"
expect_values tiny train --arch ti
expect_values 'cpu cuda' train --device c
expect_values 'bf16' eval --compute b
expect_values 'plain' --progress p
[ "$(complete_words train --arch = ti)" = tiny ] || fail "--arch=ti is not completed"
touch tinybrain.json
[ "$(complete_words train --arch ti | sort | xargs)" = 'tiny tinybrain.json' ] || fail "a file is not completed as a value of --arch"
rm tinybrain.json
use neurogen-corpus corpus
check_commands 4
expect_values 'line' make --documents l
use neurogen-plan plan
check plan "$("$built" --help)" "$(cat "$page")" "$(complete_words --)"
complete_words --arch tiny --car | grep -qx -- --card || fail "later options of plan are not completed"
expect_values 'gtx1650-gddr6' --card gtx1650-g
echo "$options options in $commands commands and plan"
