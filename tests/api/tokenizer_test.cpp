// The tokenizer through its public header.
#include <gtest/gtest.h>
#include <neurogen/tokenizer.h>

#include "tests/tools/run_program.h"

namespace neurogen {
namespace {

using Ids = std::vector<std::int32_t>;

TEST(TextTokenizer, EncodesDecodesAndRefuses) {
  const TemporaryDirectory directory;
  make_numbered_text(directory, " has the number ", "\n");
  Result<TextTokenizer> made = TextTokenizer::create(directory.path("t.model"));
  ASSERT_TRUE(made) << made.failure().sentence;
  const TextTokenizer tokenizer = std::move(made).value();
  EXPECT_EQ(tokenizer.vocabulary(), 300);
  EXPECT_EQ(tokenizer.line_end(), 3);
  EXPECT_EQ(tokenizer.document_end(), 2);
  const std::string text = "line 7 has \u4E2D\r\n\n the";
  const Result<Ids> ids = tokenizer.encode(text);
  ASSERT_TRUE(ids);
  EXPECT_EQ(tokenizer.decode(ids.value()).value(), text);
  EXPECT_EQ(tokenizer.encode("\n").value(), Ids{3});
  EXPECT_EQ(tokenizer.decode(Ids{2}).value(), "");

  EXPECT_EQ(tokenizer.encode("ok \xFF").failure().sentence, "text is not UTF-8 at byte 3: convert it");
  EXPECT_NE(tokenizer.decode(Ids{1, 300}).failure().sentence.find("ids[1] is 300: use ids from 0 to 299"), std::string::npos);
  EXPECT_EQ(tokenizer.decode(Ids{-1}).failure().field, "ids");
  const Result<TextTokenizer> none = TextTokenizer::create(directory.path("none.model"));
  ASSERT_FALSE(none);
  EXPECT_TRUE(none.failure().refused);
  EXPECT_NE(none.failure().sentence.find("none.model does not exist"), std::string::npos);
  EXPECT_FALSE(TextTokenizer::create(directory.path("text.txt")));
}

}  // namespace
}  // namespace neurogen
