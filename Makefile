# make            build everything into build/
# make demo       set up, build, train a brain and a transformer on the King James Bible, compare them
# make demo-finetune   fine-tune SmolLM2-135M, from PyPI, on the King James Bible for two minutes, and say what was forgotten
# make test       set up, build, run the tests
# make test-exhaustive   the slow tests as well
# make install    build, and install programs, library, documents, manual pages and completion into PREFIX (/usr/local)
# make package    build, and pack the same as build/neurogen-engine_VERSION_ARCHITECTURE.deb, for Debian 12, Ubuntu 23.04 and newer
# make wheel      build, and pack programs, library and Python module as a wheel into dist/; installing it needs no compiler
# make format     format the C++ and CUDA files; make check-format only checks them
# make check      look for faults with clang-tidy
# make test-sanitizers   a few training steps under the sanitizers
# make test-pretrained   compare with transformers, llama.cpp and PEFT, from PyPI, and a real model; PYTHON names the Python that has them
# make dist       pack programs, tests and libraries for another machine into dist/; inside, ./run-tests and, on a GPU, ./run-sanitizers
#
# CUDA=native|all|off   for any target: compile CUDA code for this machine's GPUs (the default), for all generations, or not at all;
#                       CUDA=86 compiles for a generation by number. The build folder keeps the choice.
BUILD := build
PREFIX := /usr/local
PYTHON := python3
MODELS := $(HOME)/.cache/neurogen
CONFIGURE := cmake -S . -B $(BUILD) -G Ninja $(if $(CUDA),-DNEUROGEN_CUDA="$(CUDA)") $(CMAKE_ARGS)
SOURCES := git ls-files '*.h' '*.cpp' '*.cu' '*.cuh'

.PHONY: all configure setup demo demo-finetune install package wheel test test-exhaustive format check-format check test-sanitizers test-pretrained dist clean
all: configure
	@cmake --build $(BUILD)

# Configures again if CUDA or CMAKE_ARGS is given: it may differ from last time.
configure: $(BUILD)/build.ninja
	@$(if $(CUDA)$(CMAKE_ARGS),$(CONFIGURE))

$(BUILD)/build.ninja:
	@$(if $(CUDA)$(CMAKE_ARGS),,$(CONFIGURE))

setup:
	@tools/setup.sh

demo: setup
	@$(MAKE) --no-print-directory configure
	@cmake --build $(BUILD) --target neurogen-engine corpus
	@tools/demo.sh $(BUILD)

demo-finetune: setup
	@tools/setup.sh python3-pip
	@$(MAKE) --no-print-directory configure
	@cmake --build $(BUILD) --target neurogen-engine corpus
	@tools/demo-finetune.sh $(BUILD)

install: all
	@cmake --install $(BUILD) --prefix $(DESTDIR)$(PREFIX)

package: all
	@cd $(BUILD) && cpack

wheel: all
	@tools/wheel.sh $(BUILD)

test:
	@tools/setup.sh tests
	@$(MAKE) --no-print-directory all
	@ctest --test-dir $(BUILD) --output-on-failure -j2 --timeout 300 -LE exhaustive

test-exhaustive:
	@tools/setup.sh tests
	@$(MAKE) --no-print-directory all
	@ctest --test-dir $(BUILD) --output-on-failure -j2 --timeout 7200

format:
	@$(SOURCES) | xargs clang-format-14 -i

check-format:
	@tools/setup.sh clang-format-14
	@$(SOURCES) | xargs clang-format-14 --dry-run -Werror || { echo "check-format: run make format" >&2; exit 1; }

# Takes an hour of one core; FILES='arena/plan.cpp ...' checks only these.
check: configure
	@tools/setup.sh clang-tidy-16 && mkdir -p $(BUILD)/clang-tidy
	@sed "s/-include [^ ]*cmake_pch.hxx//" $(BUILD)/compile_commands.json > $(BUILD)/clang-tidy/compile_commands.json  # GCC's precompiled headers
	@$(if $(FILES),echo $(FILES),git ls-files 'arena/*.cpp' 'kernels/*.cpp' 'engine/*.cpp' 'tools/*.cpp') | xargs -n 4 -P 2 clang-tidy-16 -p $(BUILD)/clang-tidy --quiet

# MODELS is where the real model is kept.
test-pretrained: all
	@$(PYTHON) tests/pretrained/oracle_test.py $(BUILD)
	@mkdir -p $(MODELS) && $(PYTHON) tests/pretrained/real_model.py $(BUILD) $(MODELS)
	@$(PYTHON) tests/pretrained/greedy_test.py $(BUILD) $(MODELS)
	@$(PYTHON) tests/pretrained/peft_test.py $(BUILD) $(MODELS)

# Runs a few steps of tiny under AddressSanitizer with UndefinedBehaviorSanitizer and LeakSanitizer, and under ThreadSanitizer.
test-sanitizers:
	@tools/setup.sh tests clang-16 libclang-rt-16-dev llvm-16
	@tools/test-sanitizers.sh $(SANITIZERS)

# CUDA=all packs for any machine, CUDA=90 for one generation of GPUs.
dist:
	@tools/setup.sh tests
	@$(MAKE) --no-print-directory all
	@tools/dist.sh $(BUILD) $$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' $(BUILD)/CMakeCache.txt)

clean:
	@rm -rf $(BUILD) $(BUILD)-address $(BUILD)-thread demo dist
