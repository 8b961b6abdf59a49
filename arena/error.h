// The project's only error type: a sentence for a person, and the program's exit status.
#pragma once
#include <stdexcept>
#include <string>

namespace neurogen {

// The sentence reads "what is wrong: what to do", or only the first half if nothing can be done. Programs print it after their name
// on standard error and exit with `status`.
class Error : public std::runtime_error {
 public:
  static constexpr int kRunTime = 1;  // a failure while running: a file vanished, a loss is not finite
  static constexpr int kMisuse = 2;   // misuse or refusal: a wrong option, a wrong file, a budget too small

  explicit Error(const std::string& sentence, int status = kMisuse) : std::runtime_error(sentence), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

}  // namespace neurogen
