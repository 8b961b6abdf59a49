#include "neurogen/tokenizer.h"

#include <fmt/format.h>

#include "arena/error.h"
#include "engine/api/answer.h"
#include "engine/api/check_ids.h"
#include "engine/data/text.h"
#include "engine/data/tokenizer.h"
#include "engine/files/file_io.h"

namespace neurogen {

Result<TextTokenizer> TextTokenizer::create(const std::string& path) {
  return answer<TextTokenizer>([&] {
    const CopiedFiles copied;
    return TextTokenizer(read_tokenizer(path));
  });
}

TextTokenizer::TextTokenizer(std::unique_ptr<Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {}
TextTokenizer::TextTokenizer(TextTokenizer&&) noexcept = default;
TextTokenizer& TextTokenizer::operator=(TextTokenizer&&) noexcept = default;
TextTokenizer::~TextTokenizer() = default;

std::int64_t TextTokenizer::vocabulary() const { return tokenizer_->vocabulary(); }
std::int64_t TextTokenizer::line_end() const { return tokenizer_->line_end(); }
std::int64_t TextTokenizer::document_end() const { return tokenizer_->document_end(); }

Result<std::vector<std::int32_t>> TextTokenizer::encode(std::string_view text, bool special) const {
  return answer<std::vector<std::int32_t>>([&] {
    if (const std::size_t wrong = find_invalid_utf8(text); wrong != std::string_view::npos)
      throw Error({Field("text"), fmt::format(" is not UTF-8 at byte {}: convert it", wrong)});
    return special ? tokenizer_->encode_marked(text) : tokenizer_->encode(text);
  });
}

Result<std::string> TextTokenizer::decode(std::span<const std::int32_t> ids) const {
  return answer<std::string>([&] {
    check_ids("ids", ids, 0, vocabulary());
    return tokenizer_->decode(ids);
  });
}

}  // namespace neurogen
