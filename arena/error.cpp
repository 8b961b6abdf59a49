#include "arena/error.h"

#include <algorithm>

namespace neurogen {
namespace {

std::string join(std::initializer_list<Error::Piece> pieces) {
  std::string sentence;
  for (const Error::Piece& piece : pieces) sentence += piece.text;
  return sentence;
}

}  // namespace

Error::Error(std::initializer_list<Piece> pieces, int status)
    : std::runtime_error(join(pieces)), status_(status), pieces_(pieces) {}

std::string Error::field() const {
  const auto first = std::find_if(pieces_.begin(), pieces_.end(), [](const Piece& piece) { return piece.field; });
  return first == pieces_.end() ? "" : first->text;
}

std::string Error::sentence(Spelling spelling) const {
  if (pieces_.empty()) return what();
  std::string sentence;
  for (const Piece& piece : pieces_) sentence += piece.field ? spelling(piece.text) : piece.text;
  return sentence;
}

}  // namespace neurogen
