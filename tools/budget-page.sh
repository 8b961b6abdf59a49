#!/usr/bin/env bash
# Prints budget.md: prose, and tables printed by the program `plan`. A test compares the page with this output.
#   tools/budget-page.sh build/bin > budget.md
set -euo pipefail
bin=$1

table() {
  echo
  echo '```'
  echo "$ plan $*"
  "$bin/plan" "$@"
  echo '```'
}

cat <<'END'
# Where every byte goes

`--budget` bounds everything a run holds: a device arena, a small host arena (pinned memory on a GPU), and an allowance for
what no plan can place: driver context, libraries, code and the C++ heap. The arenas are exact to the byte. Each is taken in
one piece before the first step, and nothing is allocated afterwards.

A buffer is *persistent* (saved: parameters and optimizer state), *derived* (always alive, rebuilt from the persistent ones) or
*transient* (alive between two operations, sharing memory with buffers that are not alive then). The tables list the buffers
alive at the fullest moment, largest first; names that differ only in a section's or tile's number share a line.

`tools/budget-page.sh` prints this page, with tables from `plan`; a test fails if they differ. The picture comes from
`plan --arch full --device cuda --overhead 500M --svg docs/memory-full.svg`:

![memory map of full](docs/memory-full.svg)

## full: 157,696 neurons inside 3.2 GB of GPU memory

8,192 tokens per step, a 16-bit decoder and bf16 activations, on cards whose driver and libraries take 500 MB (Hopper) and
200 MB (small cards). Two fifths of the arena are the decoder, the embedding and its pairs; most of the rest is a step's
activations. It fits because

- the decoder's gradient never exists whole: at most 2,560 of its rows exist at a time (42 MB instead of 524 MB);
- only the modules' outputs are kept per token (64 KB); currents and recurrent states are recomputed, a range of column groups
  at a time;
- the backward pass runs in sections of the batch.
END
table --arch full --device cuda --budget 3200M --overhead 500M
table --arch full --device cuda --budget 3200M --overhead 200M
cat <<'END'

## small: 39,424 neurons

On a CPU with two threads, everything in float32, 2,048 tokens per step.
END
table --arch small --device cpu --threads 2 --batch 8 --budget 3200M
cat <<'END'

## tiny: the brain that `make demo` trains
END
table --arch tiny --device cpu --threads 2 --batch 16 --seq 64 --budget 256M
cat <<'END'

## gpt2: GPT-2 with 124 M parameters inside 3.2 GB of GPU memory

8 windows of 1,024 tokens a step, by AdamW, on a card whose driver and libraries take 500 MB. More than half of the arena is
weights and their two moments in float32. It fits because

- of some blocks only the input is kept; they are computed twice, as few as the budget allows;
- logits exist for 1,024 of the tokens at a time;
- attention is computed tile by tile: neither a mask nor a window's scores are ever stored.
END
table --arch gpt2 --device cuda --batch 8 --seq 1024 --budget 3200M --overhead 500M
cat <<'END'

## transformer-tiny: the transformer that `make demo` trains
END
table --arch transformer-tiny --device cpu --threads 2 --batch 16 --seq 64 --budget 256M
