// neurogen-engine report: every figure of the page comes from the log, whatever it holds, and invalid logs are refused.
#include "tests/tools/report.h"

#include <algorithm>

namespace neurogen {
namespace {

TEST_F(Report, ShowsWhatTheLogHoldsAndNothingElse) {
  const ProgramResult result = report("run.jsonl -o page.html");
  ASSERT_EQ(result.status, 0) << result.err;
  const json shown = data(), start = events("start").at(0);
  EXPECT_EQ(shown["file"], "run.jsonl");
  EXPECT_EQ(shown["device"], start["device"]);
  EXPECT_EQ(shown["arch"], start["arch"]["name"]);
  EXPECT_EQ(shown["seed"], start["seed"]);
  json plan = start["plan"];
  plan.erase("fits");
  EXPECT_EQ(shown["plan"], plan);  // every buffer's name, bytes, lifetime and address
  EXPECT_EQ(shown["operations"], events("program").at(0)["operations"]);
  const auto steps = events("step");
  ASSERT_EQ(steps.size(), 25u);
  for (const auto& [column, values] : shown["steps"].items()) {
    ASSERT_EQ(values.size(), steps.size()) << column;
    for (std::size_t i = 0; i < steps.size(); ++i) EXPECT_EQ(values[i], steps[i][column]) << column;
  }
  EXPECT_EQ(shown["steps"].size(), 8u);
  for (const auto& [kind, field] : {std::pair{"eval", "evals"}, {"activity", "activity"}, {"sample", "samples"}}) {
    const auto all = events(kind);
    ASSERT_EQ(all.size(), 3u) << kind;
    ASSERT_EQ(shown[field].size(), 3u) << kind;
    for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(shown[field][i], plain(all[i]));
  }
  EXPECT_EQ(shown["times"], plain(events("times").back()));
  EXPECT_EQ(shown["summary"], plain(events("summary").at(0)));
}

TEST_F(Report, TheLogSaysWhatGoesOnInside) {
  const auto operations = events("program").at(0)["operations"].get<std::vector<string>>();
  for (const json& times : events("times")) {
    const auto ms = times["ms"].get<std::vector<double>>();
    ASSERT_GT(ms.size(), 50u);
    ASSERT_LT(ms.size(), operations.size());
    EXPECT_TRUE(std::all_of(ms.begin(), ms.end(), [](double t) { return t >= 0; }));
    double sum = 0;
    for (double t : ms) sum += t;
    for (const json& step : events("step")) {
      if (step["step"] == times["step"]) {
        EXPECT_NEAR(step["device_ms"].get<double>(), sum, 0.05 * sum);
      }
    }
    EXPECT_NE(operations[ms.size() - 1].find("update"), string::npos) << operations[ms.size() - 1];
  }
  for (const json& sample : events("sample")) {
    EXPECT_EQ(read_file(directory_->path("text.txt")).rfind(sample["prompt"].get<string>(), 0), 0u);
    EXPECT_GT(sample["text"].get<string>().size(), 4u);
  }
  EXPECT_NE(events("sample").front()["text"], events("sample").back()["text"]);
}

TEST_F(Report, IsOnePageThatAsksForNothing) {
  ASSERT_EQ(report("run.jsonl --out page.html").status, 0);
  const string text = page();
  for (const char* request :
       {"src=", "href=", "url(", "@import", "fetch(", "XMLHttp", "import(", "innerHTML", "<link", "@DATA@", "@SCRIPT@"}) {
    EXPECT_EQ(text.find(request), string::npos) << request;
  }
  EXPECT_NE(text.find("prefers-color-scheme:dark"), string::npos);
}

TEST_F(Report, TextsCannotLeaveTheirPlace) {
  const string evil = "</script><script>alert(1)</script><!-- \\u0022 & ' \\\\";
  directory_->file("evil.jsonl", read_file(directory_->path("run.jsonl")) + R"({"event":"sample","step":26,"prompt":")" + evil +
                                     R"(","text":"x"})" + "\n");
  ASSERT_EQ(report("run.jsonl -o page.html").status, 0);
  ASSERT_EQ(report("evil.jsonl -o evil.html").status, 0);
  const string text = page("evil.html"), usual = page();
  EXPECT_EQ(text.find("alert(1)</script>"), string::npos);
  EXPECT_EQ(std::count(text.begin(), text.end(), '<'), std::count(usual.begin(), usual.end(), '<'));
  EXPECT_EQ(data("evil.html")["samples"].back()["prompt"], events("sample", "evil.jsonl").back()["prompt"]);
}

TEST_F(Report, LongRunsAreThinnedAndTheLastStepStays) {
  for (const int count : {3999, 4000, 4001, 30'000, 64'001}) {
    std::ostringstream log;
    log << read_file(directory_->path("run.jsonl")).substr(0, read_file(directory_->path("run.jsonl")).find('\n') + 1);
    for (int i = 1; i <= count; ++i) {
      log << R"({"event":"step","step":)" << i << R"(,"tokens":1,"loss":)" << i * 0.5
          << R"(,"lr":1,"grad_norm":1,"tokens_per_s":1,"device_ms":1,"host_allocations":0})"
          << "\n";
    }
    directory_->file("long.jsonl", log.str() + R"({"event":"step","ste)");  // cut short
    ASSERT_EQ(report("long.jsonl -o long.html").status, 0);
    const json shown = data("long.html");
    const auto steps = shown["steps"]["step"].get<std::vector<int>>();
    EXPECT_LE(steps.size(), 4001u);
    EXPECT_GE(steps.size(), std::min<std::size_t>(2000, static_cast<std::size_t>(count)));
    EXPECT_EQ(steps.front(), 1);
    EXPECT_EQ(steps.back(), count);
    const int every = shown["every"].get<int>();
    for (std::size_t i = 0; i < steps.size(); ++i) {
      if (i + 1 < steps.size()) {
        ASSERT_EQ(steps[i], 1 + every * static_cast<int>(i)) << count;
      }
      ASSERT_EQ(shown["steps"]["loss"][i], steps[i] * 0.5);
    }
    EXPECT_TRUE(shown["summary"].is_null() && shown["times"].is_null());
  }
}

TEST_F(Report, RefusesWhatIsNoLog) {
  const string start = read_file(directory_->path("run.jsonl")).substr(0, read_file(directory_->path("run.jsonl")).find('\n') + 1);
  directory_->file("a.jsonl", start + "no json\n"), directory_->file("b.jsonl", start + "[1]\n");
  directory_->file("c.jsonl", start + "{\"event\":\"step\",\"step\":1}\n"), directory_->file("d.jsonl", "{\"event\":\"other\"}\n");
  directory_->file("e.jsonl", start + "{\"event\":\"eval\",\"step\":1,\"valid_loss\":\"<b>\",\"perplexity\":1}\n");
  directory_->file("f.jsonl", ""), directory_->file("g.jsonl", start + "{\"event\":7}\n"),
      directory_->file("h.jsonl", start + "\xFF\n");
  directory_->file("i.jsonl", "{\"event\":\"start\",\"arch\":" + string(200'000, '[') + string(200'000, ']') +
                                  ",\"seed\":1,\"device\":\"x\"}\n");
  for (const auto& [log, part] :
       std::initializer_list<std::pair<const char*, const char*>>{{"a.jsonl", "a.jsonl line 2: not a JSON object"},
                                                                  {"b.jsonl", "b.jsonl line 2: not a JSON object"},
                                                                  {"c.jsonl", "c.jsonl line 2: a field is missing"},
                                                                  {"d.jsonl", "d.jsonl lacks the start"},
                                                                  {"e.jsonl", "\"valid_loss\" is not a number"},
                                                                  {"f.jsonl", "f.jsonl is empty"},
                                                                  {"g.jsonl", "line 2: a field"},
                                                                  {"h.jsonl", "not UTF-8"},
                                                                  {"i.jsonl", "i.jsonl line 1: nested too deeply"},
                                                                  {"none", "none does not exist"},
                                                                  {".", ". is a directory"}}) {
    const ProgramResult result = report(string(log) + " -o wrong.html");
    EXPECT_EQ(result.status, 2) << log;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_NE(result.err.find(part), string::npos) << result.err << "lacks: " << part;
    EXPECT_EQ(page("wrong.html"), "");
  }
  EXPECT_EQ(report("").status, 2);
  const string before = read_file(directory_->path("run.jsonl"));
  EXPECT_NE(report("run.jsonl -o ./run.jsonl").err.find("would overwrite the log"), string::npos);
  EXPECT_EQ(read_file(directory_->path("run.jsonl")), before);
  EXPECT_EQ(report("run.jsonl -o none/page.html").status, 1);
}

}  // namespace
}  // namespace neurogen
