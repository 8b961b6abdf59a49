// A run's log and the pages that neurogen-engine report makes from it.
#pragma once
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/tools/run_program.h"

namespace neurogen {

using nlohmann::json;
using std::string;

class Report : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    directory_ = new TemporaryDirectory;
    make_numbered_text(*directory_, " has <b>the</b> number \"", "\"\n");
    ASSERT_EQ(run_program_in(*directory_,
                             "neurogen-engine --arch brain.json --batch 4 --seq 32 --data text.txt --valid text.txt --tokenizer "
                             "t.model --steps 25 --eval-every 10 --progress none --log run.jsonl")
                  .status,
              0);
  }
  static void TearDownTestSuite() { delete directory_; }

  static ProgramResult report(const string& arguments) {
    return run_program_in(*directory_, "neurogen-engine report " + arguments);
  }
  static std::vector<json> events(const string& kind, const string& log = "run.jsonl") {
    std::vector<json> found;
    std::istringstream lines(read_file(directory_->path(log)));
    for (string line; std::getline(lines, line);) {
      const json event = json::parse(line);
      if (event["event"] == kind) found.push_back(event);
    }
    return found;
  }
  static string page(const string& name = "page.html") { return read_file(directory_->path(name)); }
  // The content of the page's data element.
  static json data(const string& name = "page.html") {
    const string text = page(name), begin = "<script type=\"application/json\" id=\"data\">";
    const auto at = text.find(begin) + begin.size();
    return json::parse(text.substr(at, text.find("</script>", at) - at));
  }
  // An event without its kind.
  static json plain(json event) {
    event.erase("event");
    return event;
  }
  inline static TemporaryDirectory* directory_ = nullptr;
};

}  // namespace neurogen
