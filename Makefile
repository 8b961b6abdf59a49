# make            build everything into build/
# make demo       set up, build, train a small brain on the King James Bible, let it speak (about four minutes)
# make test       set up, build, run the tests
# make test-exhaustive   the slow tests as well
# make install    build, and install programs, library, manual pages and completion into PREFIX (/usr/local)
# make package    build, and pack the same as build/neurogen-engine_VERSION_ARCHITECTURE.deb
# make test-sanitizers   a few training steps under the sanitizers
# make dist       pack programs, tests and libraries for another machine into dist/; inside, ./run-tests and, on a GPU, ./run-sanitizers
BUILD := build
PREFIX := /usr/local

.PHONY: all setup demo install package test test-exhaustive test-sanitizers dist clean
all: $(BUILD)/build.ninja
	@cmake --build $(BUILD)

$(BUILD)/build.ninja:
	@cmake -S . -B $(BUILD) -G Ninja $(CMAKE_ARGS)

setup:
	@tools/setup.sh

demo: setup
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@cmake --build $(BUILD) --target neurogen-engine plan corpus
	@tools/demo.sh $(BUILD)

install: all
	@cmake --install $(BUILD) --prefix $(DESTDIR)$(PREFIX)

package: all
	@cd $(BUILD) && cpack

test: setup
	@$(MAKE) --no-print-directory all
	@ctest --test-dir $(BUILD) --output-on-failure -j2 --timeout 300 -LE exhaustive

test-exhaustive: setup
	@$(MAKE) --no-print-directory all
	@ctest --test-dir $(BUILD) --output-on-failure -j2 --timeout 7200

# The engine under AddressSanitizer with UndefinedBehaviorSanitizer and LeakSanitizer, and under ThreadSanitizer, on a few steps of tiny.
test-sanitizers:
	@tools/setup.sh clang-16 libclang-rt-16-dev llvm-16
	@tools/test-sanitizers.sh $(SANITIZERS)

# For one generation of GPUs alone: CMAKE_ARGS=-DNEUROGEN_CUDA_ARCHITECTURES=90 make dist
dist: setup
	@$(MAKE) --no-print-directory all
	@tools/dist.sh $(BUILD) $$(sed -n 's/^CMAKE_PROJECT_VERSION:STATIC=//p' $(BUILD)/CMakeCache.txt)

clean:
	@rm -rf $(BUILD) $(BUILD)-address $(BUILD)-thread demo dist
