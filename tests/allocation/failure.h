// Memory running out: one allocation of a whole run fails, or that one and all later ones.
#pragma once
#include <gtest/gtest.h>

#include <set>
#include <sstream>

#include "tests/tools/run_program.h"

namespace neurogen {

class Failure : public testing::Test {
 protected:
  enum Kind { by_new, by_malloc, for_pages, by_openblas };  // counter.cpp

  // Trains one step from tokens, or from text with a tokenizer, and exports.
  void prepare(bool text, int threads) {
    std::string words, ids;
    for (int i = 0; i < 2000; ++i) {
      words += std::string(1, static_cast<char>('a' + i * i % 23)) + (i % 3 == 0 ? "n " : i % 50 == 1 ? ".\n" : "e");
      ids += {static_cast<char>(i * i % 7 * 20 + i % 11), 0};
    }
    directory_.file("brain.json", kTestBrain);
    directory_.file("text.txt", words), directory_.file("text.bin", ids);
    ASSERT_EQ(run_program_in(directory_, "corpus train-tokenizer text.txt --vocabulary 285 --out my.model").status, 0);
    const std::string data = text ? "text.txt --tokenizer my.model" : "text.bin", valid = text ? "text.txt" : "text.bin";
    command_ = "neurogen-engine train --arch brain.json --data " + data + " --valid " + valid +
               " --batch 1 --seq 20 --steps 1 --progress none --log log.jsonl --export w.safetensors --threads " +
               std::to_string(threads);
    const ProgramResult whole = run("NEUROGEN_COUNTS=counts");
    ASSERT_EQ(whole.status, 0) << whole.err;
    std::istringstream(read_file(directory_.path("counts"))) >> counts_[0] >> counts_[1] >> counts_[2] >> counts_[3];
    exported_ = read_file(directory_.path("w.safetensors"));
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path(""))) files_.insert(entry.path().filename());
  }

  // Expects one sentence and status 1, or a complete run; nothing half written either way. Returns whether the run failed.
  bool check(Kind kind, unsigned long k, bool and_all_behind) {
    static constexpr const char* kNames[] = {"new", "malloc", "pages", "openblas"};
    const std::string which = kNames[kind] + (" " + std::to_string(k)) + (and_all_behind ? "+" : "");
    for (const char* made : {"w.safetensors", "log.jsonl"}) std::filesystem::remove(directory_.path(made));
    const ProgramResult result = run("NEUROGEN_FAIL='" + which + "'");
    const bool sentence = result.err.rfind("neurogen-engine: ", 0) == 0 && result.err.find(": ", 17) != std::string::npos &&
                          result.err.find('\n') == result.err.size() - 1;
    EXPECT_TRUE(result.status == 1 ? sentence : result.status == 0 && result.err.empty())
        << which << " of \"" << command_ << "\": status " << result.status << ", " << result.err;
    for (const auto& entry : std::filesystem::directory_iterator(directory_.path(""))) {
      EXPECT_TRUE(files_.count(entry.path().filename())) << which << " leaves " << entry.path().filename();
    }
    const std::string exported = read_file(directory_.path("w.safetensors")), log = read_file(directory_.path("log.jsonl"));
    EXPECT_TRUE(exported == exported_ || (exported.empty() && result.status != 0)) << which;
    EXPECT_TRUE(log.empty() || log.back() == '\n') << which;
    return result.status != 0;
  }

  // Fails every `stride`-th allocation of a kind from `first` on, singly and with all later ones. Nearly all must be fatal.
  void check_every(Kind kind, unsigned long stride, unsigned long first = 1) {
    int tried = 0, ended = 0;
    for (unsigned long k = first; k <= counts_[kind]; k += stride, tried += 2) {
      ended += check(kind, k, false);
      ended += check(kind, k, true);
    }
    EXPECT_GT(ended * 10, tried * 9);
  }

  unsigned long counts_[4] = {};

 private:
  ProgramResult run(const std::string& setting) const {
    return run_program_in(directory_, command_, "env LD_PRELOAD=" NEUROGEN_COUNTER " " + setting);
  }

  TemporaryDirectory directory_;
  std::string command_, exported_;
  std::set<std::string> files_;
};

}  // namespace neurogen
