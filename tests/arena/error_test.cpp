#include "arena/error.h"

#include <gtest/gtest.h>

namespace neurogen {
namespace {

std::string loud(std::string_view field) { return "--" + std::string(field); }

TEST(Error, NamesFieldsAsItsReaderDoes) {
  const Error error({"training needs more: use a smaller ", Field("batch"), " or ", Field("window"), " than 9"}, Error::kRunTime);
  EXPECT_STREQ(error.what(), "training needs more: use a smaller batch or window than 9");
  EXPECT_EQ(error.sentence(loud), "training needs more: use a smaller --batch or --window than 9");
  EXPECT_EQ(error.field(), "batch");
  EXPECT_EQ(error.status(), Error::kRunTime);
}

TEST(Error, MayNameNoField) {
  const Error error("my window.bin is damaged");
  EXPECT_EQ(error.sentence(loud), "my window.bin is damaged");
  EXPECT_EQ(error.field(), "");
  EXPECT_EQ(error.status(), Error::kMisuse);
}

}  // namespace
}  // namespace neurogen
