#include "arena/bytes.h"

#include <gtest/gtest.h>

#include "arena/error.h"

namespace neurogen {
namespace {

TEST(Bytes, ParsesWhatPeopleWrite) {
  const std::pair<const char*, Bytes> cases[] = {
      {"0", 0},
      {"1", 1},
      {"007", 7},
      {"3199999999", 3199999999},
      {"18446744073709551615", UINT64_MAX},
      {"3200M", 3200000000},
      {"3200MB", 3200000000},
      {"12345B", 12345},
      {"64K", 64000},
      {"64Ki", 65536},
      {"1Mi", 1048576},
      {"1MiB", 1048576},
      {"2.98Gi", 3199750635},  // 3,199,750,635.52
      {"0.5K", 500},
      {"1.9999K", 1999},
      {"0.0009K", 0},
      {"3.20GB", 3200000000},
      {"1T", 1000000000000},
      {"1.5Ti", 1649267441664},
      {"16777215Ti", 18446742974197923840u},
      {"18446744.073709551615T", UINT64_MAX},
      {"0.99999999999999999999999999999999999999T", 999999999999},
      {"0.333333333333333333333333333333333333333Ti", 366503875925},
  };
  for (const auto& [text, bytes] : cases) EXPECT_EQ(parse_bytes(text, Field("budget")), bytes) << text;
}

TEST(Bytes, RefusesEverythingElseInASentenceThatNamesTheOption) {
  for (const char* text : {"18446744073709551616",
                           "-1",
                           "3.2",
                           "3.2B",
                           "1.5B",
                           "",
                           "B",
                           "K",
                           "12X",
                           "1e9",
                           " 3",
                           "3 ",
                           "3 M",
                           "+3",
                           "99999999999G",
                           "16777216Ti",
                           "18446744.073709551616T",
                           "1.K",
                           ".5K",
                           "1..5K",
                           "1.5.5K",
                           "0x10",
                           "1KK",
                           "1Bi",
                           "1KBB",
                           "1KBi",
                           "1Kii",
                           "1k",
                           "64kb",
                           "1,000",
                           "9999999999999999999999999999999"}) {
    try {
      parse_bytes(text, Field("budget"));
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(std::string(error.what()).find("budget \"" + std::string(text) + "\" "), 0u) << error.what();
      EXPECT_EQ(error.status(), Error::kMisuse);
    }
  }
}

TEST(Bytes, ArithmeticIsChecked) {
  EXPECT_EQ(add(UINT64_MAX - 1, 1), UINT64_MAX);
  EXPECT_THROW(add(UINT64_MAX, 1), Error);
  EXPECT_EQ(multiply(1ull << 32, (1ull << 32) - 1), 18446744069414584320u);
  EXPECT_THROW(multiply(1ull << 32, 1ull << 32), Error);
  EXPECT_EQ(align_up(0), 0u);
  EXPECT_EQ(align_up(1), 256u);
  EXPECT_EQ(align_up(256), 256u);
  EXPECT_EQ(align_up(257), 512u);
  EXPECT_EQ(align_up(UINT64_MAX - 255), UINT64_MAX - 255);
  EXPECT_THROW(align_up(UINT64_MAX - 254), Error);
}

TEST(Bytes, WritesForPeople) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(UINT64_MAX), "18,446,744,073,709,551,615");
  const std::pair<Bytes, const char*> cases[] = {{0, "0 B"},
                                                 {999, "999 B"},
                                                 {1000, "1.00 KB"},
                                                 {42000, "42.0 KB"},
                                                 {999499, "999 KB"},
                                                 {999500, "1.00 MB"},
                                                 {9994999, "9.99 MB"},
                                                 {9995000, "10.0 MB"},
                                                 {3200000000, "3.20 GB"},
                                                 {99949999999, "99.9 GB"},
                                                 {650000000, "650 MB"},
                                                 {UINT64_MAX, "18.4 EB"}};
  for (const auto& [bytes, text] : cases) EXPECT_EQ(human(bytes), text);
}

}  // namespace
}  // namespace neurogen
