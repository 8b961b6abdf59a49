// Logs: the lines that are kept, removed on resuming, and lost when writing fails.
#include "engine/files/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "tests/expect_error.h"
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
  const std::string before = start + line("step", 1) + line("step", 2);  // saved during training: reported after a later step
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

const std::string kStart = "{\"event\":\"start\",\"run\":\"7a\",\"plan\":{}}\n";
const LoggedRun kRun{"7a", false};

// The file's text after a run has opened it as its log.
std::string opened(const TemporaryDirectory& directory, const std::string& text, LoggedRun run, bool from_checkpoint) {
  run.from_checkpoint = from_checkpoint;
  const std::string path = directory.file("log.jsonl", text);
  Log(path, run).line("{}");
  return read_file(path);
}

TEST(Log, OverwritesNothing) {
  const TemporaryDirectory directory;
  const std::string saved = kStart + "{\"event\":\"step\",\"step\":1}\n{\"event\":\"checkpoint\",\"step\":1}\n";
  EXPECT_EQ(opened(directory, "", kRun, false), "{}\n");
  for (const bool from_checkpoint : {false, true})
    for (const std::string text : {"notes\n", "x", "{\"event\":\"none\"}\n"}) {
      EXPECT_ERROR(opened(directory, text, kRun, from_checkpoint), "log.jsonl already exists and is not a log");
      EXPECT_EQ(read_file(directory.path("log.jsonl")), text);
    }
  EXPECT_EQ(opened(directory, saved, kRun, true), saved + "{}\n");
  EXPECT_ERROR(opened(directory, R"({"event":"start","run":[)" + std::string(100'000, '[') + "\n", kRun, true), "nested too");
  // Any other run keeps the log under the first free name.
  EXPECT_EQ(opened(directory, saved, kRun, false), "{}\n");
  EXPECT_EQ(read_file(directory.path("log.jsonl.1")), saved);
  EXPECT_EQ(opened(directory, kStart, kRun, false), "{}\n");
  EXPECT_EQ(read_file(directory.path("log.jsonl.1")), saved);
  EXPECT_EQ(read_file(directory.path("log.jsonl.2")), kStart);
  EXPECT_EQ(opened(directory, saved, {"7b"}, true), "{}\n");
  EXPECT_EQ(read_file(directory.path("log.jsonl.3")), saved);
  const std::string without = "{\"event\":\"start\",\"plan\":{}}\n";
  EXPECT_EQ(opened(directory, without, kRun, true), "{}\n");
  EXPECT_EQ(read_file(directory.path("log.jsonl.4")), without);
}

TEST(Log, LosesLinesAndNothingElse) {
  const TemporaryDirectory directory;
  const std::string pipe = directory.path("pipe");
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_ERROR(Log(pipe, kRun), "pipe is a pipe that nobody reads");
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  Log log(pipe, kRun);
  log.line("{}");
  char text[4] = {};
  EXPECT_EQ(read(reader, text, sizeof text), 3);
  close(reader);
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  EXPECT_EQ(log.lost(), 0);
  for (int i = 1; i < 3; ++i) {
    log.line("{}");
    EXPECT_EQ(log.lost(), i);
    EXPECT_EQ(log.error(), EPIPE);
  }
  std::signal(SIGPIPE, before);
  // The disk accepts half a line: the next line that fits begins at the same place.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit;
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{16, limit.rlim_max};
  Log file(directory.path("log.jsonl"), kRun);
  setrlimit(RLIMIT_FSIZE, &small);
  for (const char* line : {"{\"a\":1}", "{\"b\":22222222222}", "{\"c\":3}"}) file.line(line);
  setrlimit(RLIMIT_FSIZE, &limit);
  EXPECT_EQ(file.lost(), 1);
  EXPECT_EQ(file.error(), EFBIG);
  EXPECT_EQ(read_file(directory.path("log.jsonl")), "{\"a\":1}\n{\"c\":3}\n");
}

}  // namespace
}  // namespace neurogen
