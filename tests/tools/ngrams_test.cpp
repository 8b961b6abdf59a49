// eval --ngrams on more tokens than the heap's cap has room for.
#include <gtest/gtest.h>

#include <random>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

TEST(Ngrams, CountAsFarAsTheBudgetGoes) {
  TemporaryDirectory directory;
  directory.file("brain.json", kTestBrain);
  std::mt19937 random(1);
  std::string ids(2 * 3'000'000, '\0');
  for (std::size_t i = 0; i < ids.size(); i += 2) ids[i] = static_cast<char>(random() % 250);
  directory.file("long.bin", ids);
  directory.file("also.bin", ids.substr(0, 1'000'000));
  directory.file("short.bin", ids.substr(0, 2'000));
  const std::string common = " --arch brain.json --batch 2 --seq 16 --threads 1 --data short.bin";
  ASSERT_EQ(run_program_in(directory, "neurogen-engine train --steps 1 --progress none --export w.safetensors" + common).status, 0);
  const std::string eval = "neurogen-engine eval --init w.safetensors --ngrams long.bin also.bin" + common;
  const ProgramResult fits = run_program_in(directory, eval);
  EXPECT_EQ(fits.status, 0) << fits.err;
  // 36 bytes per token, four for the copy, and the held-out text.
  EXPECT_EQ(fits.out.substr(0, fits.out.find('\n')),
            "999 tokens predicted, 16 per window; n-grams counted in at most 141,004,036 bytes");
  EXPECT_NE(fits.out.find("Kneser-Ney trigram"), std::string::npos) << fits.out;
  const ProgramResult refused = run_program_in(directory, eval + " --overhead 128M --budget 269004035");
  EXPECT_EQ(refused.status, 2);
  EXPECT_EQ(refused.out, "");
  EXPECT_NE(refused.err.find(
                "counting the n-grams of 3,500,000 tokens takes up to 141,004,036 bytes beside an overhead of 128,000,000, the "
                "budget is 269,004,035"),
            std::string::npos)
      << refused.err;
  EXPECT_EQ(run_program_in(directory, eval + " --overhead 128M --budget 269004036").status, 0);
}

}  // namespace
}  // namespace neurogen
