// The one error type of the project: a sentence for a person, and the exit status of the program that shows it.
#pragma once
#include <stdexcept>
#include <string>

namespace neurogen {

// The sentence reads "what is wrong: what to do" (or the first half where nothing can be done). Programs print it behind
// their name on standard error and exit with `status`.
class Error : public std::runtime_error {
 public:
  static constexpr int kRunTime = 1;  // a failure while running: a file vanished, a loss that is not finite
  static constexpr int kMisuse = 2;   // misuse or refusal: a wrong option, a wrong file, a budget too small

  explicit Error(const std::string& sentence, int status = kMisuse) : std::runtime_error(sentence), status_(status) {}
  int status() const { return status_; }

 private:
  int status_;
};

}  // namespace neurogen
