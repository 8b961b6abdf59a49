// The project's only error type: a sentence for a person, the settings that it names, and the program's exit status.
#pragma once
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace neurogen {

// A setting or an argument by its name in the library: "window". A program may spell it in its own way, "--seq".
struct Field {
  constexpr explicit Field(std::string_view name_) : name(name_) {}
  std::string_view name;
};
using Spelling = std::string (*)(std::string_view field);
inline std::string plain(std::string_view field) { return std::string(field); }  // the library's own

// The sentence reads "what is wrong: what to do", or only the first half if nothing can be done. Programs print it after their name
// on standard error and exit with `status`.
class Error : public std::runtime_error {
 public:
  static constexpr int kRunTime = 1;  // a failure while running: a file vanished, a loss is not finite
  static constexpr int kMisuse = 2;   // misuse or refusal: a wrong option, a wrong file, a budget too small

  struct Piece {
    Piece(const char* text_) : text(text_) {}
    Piece(std::string text_) : text(std::move(text_)) {}
    Piece(Field field_) : text(field_.name), field(true) {}
    std::string text;
    bool field = false;
  };

  explicit Error(const std::string& sentence, int status = kMisuse) : std::runtime_error(sentence), status_(status) {}
  // A sentence that names fields: Error({Field("window"), " is 0: use 1 to 1048576 tokens"}).
  explicit Error(std::initializer_list<Piece> pieces, int status = kMisuse);

  int status() const { return status_; }
  // The first field of the sentence, empty if it names none.
  std::string field() const;
  // The sentence with a program's names of the fields; what() has the library's.
  std::string sentence(Spelling spelling) const;

 private:
  int status_;
  std::vector<Piece> pieces_;  // none if the sentence names no field
};

}  // namespace neurogen
