#!/usr/bin/env bash
# Installs the tree by pip into a fresh virtual environment: the module imports and learns, and type checkers see its stubs.
#   pip.sh SOURCE
set -euo pipefail
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "pip: $*" >&2; exit 1; }

python3 -m venv "$work/venv" > "$work/log" 2>&1 || { echo "skipped: python3 -m venv does not work here"; exit 0; }
pip=$work/venv/bin/pip python=$work/venv/bin/python
"$pip" download -q --no-deps -d "$work" scikit-build-core > "$work/log" 2>&1 || { echo "skipped: no package index can be reached"; exit 0; }
mkdir "$work/tree"
git -C "$source" ls-files -z | (cd "$source" && xargs -0 cp --parents -t "$work/tree")
# Only for the CPU, which builds faster.
CMAKE_ARGS=-DCMAKE_CUDA_COMPILER=NOTFOUND "$pip" install "$work/tree" mypy > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }

cd "$work"  # nothing of the tree is near
"$python" tree/examples/train.py tree/README.md 100 > out 2>&1 || { cat out; exit 1; }
grep -qx "allocations since construction: 0" out || fail "the example's engine allocates: $(cat out)"
first=$(awk '/^step 50 / { print $NF }' out) last=$(awk '/^step 100 / { print $NF }' out)  # of the held-out text
awk "BEGIN { exit !($last < $first) }" || fail "the example does not learn: $(cat out)"

cat > right.py << 'END'
import neurogen, numpy

ids = numpy.array([1, 2], numpy.int32)
options: neurogen.Options = {"architecture": "tiny", "device": "cpu", "batch": 1, "window": 2}
plan: neurogen.MemoryPlan = neurogen.Engine.plan(**options)
try:
    options["budget"] = plan.minimum
    with neurogen.Engine(**options) as engine:
        report: neurogen.TrainingStepReport = engine.train_step_batch(ids, ids)
        tokens: list[int] = list(engine.generate(ids, 3, temperature=0.5))
        for index, token in engine.generate_many([ids, ids], seed=2):
            tokens.append(index + token)
        total: float = float(engine.losses(ids, ids).sum() + engine.logits(ids)[0, 0, 7]) + report.loss
        parameter: neurogen.Parameter = engine.parameters["broca.gain"]
        parameter.write(parameter.read() * numpy.float32(2))
except (neurogen.Refused, neurogen.Failed) as error:
    field: str = error.field
END
echo 'import neurogen
neurogen.Engine(architecture=7).generate("words", 3, heat=0.5)' > wrong.py
"$python" -m mypy --strict right.py > out 2>&1 || fail "mypy rejects correct code: $(cat out)"
if "$python" -m mypy --strict wrong.py > out 2>&1; then fail "mypy accepts wrong code"; fi
grep -q 'heat' out && grep -q 'architecture' out || fail "mypy does not see the stubs: $(cat out)"
"$pip" show -f neurogen > files
grep -q py.typed files || fail "py.typed is not installed"
sed -n 's/^  \(neurogen\/.*\)/\1/p' files
