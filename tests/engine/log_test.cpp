// Taking back the end of a log.
#include "engine/files/log.h"

#include <gtest/gtest.h>

#include "tests/temporary_directory.h"

namespace neurogen {
namespace {

TEST(Log, IsTakenBackToAStep) {
  const TemporaryDirectory directory;
  const std::string start = "{\"event\":\"start\",\"plan\":{\"buffers\":[{\"name\":\"a\\nb\"}]}}\n";
  const auto line = [](const char* event, int step) {
    return "{\"event\":\"" + std::string(event) + "\",\"step\":" + std::to_string(step) + "}\n";
  };
  const std::string two = start + line("step", 1) + line("step", 2) + line("eval", 2) + line("checkpoint", 2);
  const auto rewound = [&](const std::string& text, std::int64_t step) {
    const std::string path = directory.file("log.jsonl", text);
    rewind_log(path, step);
    return read_file(path);
  };
  EXPECT_EQ(rewound(two, 2), two);
  EXPECT_EQ(rewound(two + line("step", 3), 2), two);
  EXPECT_EQ(rewound(two + line("step", 3) + line("eval", 3) + "{\"event\":\"step\",\"st", 2), two);
  EXPECT_EQ(rewound(two + "{\"event\":\"summary\",\"steps\":2}\n", 2), two);
  EXPECT_EQ(rewound(two + line("resume", 2) + line("step", 3), 2), two + line("resume", 2));
  const std::string before = start + line("step", 1) + line("step", 2);  // saved beside training: told of after a later step
  EXPECT_EQ(rewound(before + line("step", 3) + line("checkpoint", 2), 2), before);
  EXPECT_EQ(rewound(before + line("step", 3) + line("checkpoint", 2) + line("step", 4), 2), before);
  EXPECT_EQ(rewound(two, 1), start + line("step", 1));
  EXPECT_EQ(rewound(two, 0), start);
  EXPECT_EQ(rewound("", 0), "");
  EXPECT_EQ(rewound("{\"event\":", 0), "");
  EXPECT_EQ(rewound(line("step", 5), 2), "");
  EXPECT_EQ(rewound("words\n" + line("step", 5), 2), "words\n");
  rewind_log(directory.path("none"), 3);
  EXPECT_FALSE(std::filesystem::exists(directory.path("none")));
  rewind_log(directory.path(""), 3);
}

}  // namespace
}  // namespace neurogen
