#include "engine/data/text.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "arena/error.h"

namespace neurogen {

TextFile::TextFile(const std::string& path) : file_(path) {
  if (text().empty()) throw Error(fmt::format("{} is empty: give a file with text in it", path));
  if (const std::size_t wrong = find_invalid_utf8(text()); wrong != std::string_view::npos) {
    throw Error(fmt::format("{} is not UTF-8 text at byte {}: convert it with iconv -t UTF-8", path, wrong));
  }
}

namespace {

constexpr std::size_t kPiece = 1 << 20;

int open_text(const std::string& path) {
  if (path == "-") return STDIN_FILENO;
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0 && errno == ENOENT) throw Error(fmt::format("{} does not exist: check the path", path));
  if (descriptor < 0) throw Error(fmt::format("{} cannot be read: {}", path, std::strerror(errno)));
  if (std::filesystem::is_directory(path)) {
    close(descriptor);
    throw Error(fmt::format("{} is a directory: name a file in it", path));
  }
  return descriptor;
}

}  // namespace

TextStream::TextStream(const std::string& path, bool replace)
    : name_(path == "-" ? "standard input" : path), descriptor_(open_text(path)), replace_(replace), buffer_(kPiece, '\0') {}

TextStream::~TextStream() {
  if (descriptor_ != STDIN_FILENO) close(descriptor_);
}

std::string_view TextStream::next() {
  while (!ended_) {
    const std::size_t begun = begun_.copy(buffer_.data(), begun_.size());
    ssize_t got;
    do {
      got = read(descriptor_, buffer_.data() + begun, kPiece - begun);
    } while (got < 0 && errno == EINTR);
    if (got < 0) throw Error(fmt::format("{} cannot be read: {}", name_, std::strerror(errno)), Error::kRunTime);
    ended_ = got == 0;
    read_ += static_cast<std::uint64_t>(got);
    begun_.clear();
    clean_.clear();
    std::string_view rest(buffer_.data(), begun + static_cast<std::size_t>(got));
    for (std::size_t wrong; (wrong = find_invalid_utf8(rest)) != std::string_view::npos;) {
      const std::string_view good = rest.substr(0, wrong);
      rest.remove_prefix(wrong);
      if (!ended_ && incomplete_utf8(rest)) {
        begun_ = rest;
        rest = good;
        break;
      }
      if (!replace_) {
        throw Error({fmt::format("{} is not UTF-8 text at byte {}: convert it with iconv -t UTF-8, or use corpus make ", name_,
                                 read_ - rest.size()),
                     Field("replace_invalid")});
      }
      std::size_t bytes = 1;
      while (bytes < rest.size() && incomplete_utf8(rest.substr(0, bytes + 1))) ++bytes;
      clean_.append(good).append("\uFFFD");
      rest.remove_prefix(bytes);
      ++replaced_;
    }
    if (!clean_.empty()) rest = clean_.append(rest);
    if (!rest.empty()) return rest;
  }
  return {};
}

std::size_t count_lines(std::string_view text) {
  const auto newlines = static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
  return newlines + (!text.empty() && text.back() != '\n');
}

std::uint64_t held_out_lines(std::uint64_t lines, double held_out, const std::string& name) {
  const auto last = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(static_cast<double>(lines) * held_out)));
  if (last >= lines) {
    throw Error({fmt::format("{} has {} line{}, of which {} would be held out: give a longer text or a smaller ", name, lines,
                             lines == 1 ? "" : "s", std::min(last, lines)),
                 Field("held_out")});
  }
  return last;
}

std::pair<std::string_view, std::string_view> split_lines(std::string_view text, double held_out, const std::string& name) {
  const std::uint64_t lines = count_lines(text);
  std::size_t begin = 0;
  for (std::uint64_t line = held_out_lines(lines, held_out, name); line < lines; ++line) begin = text.find('\n', begin) + 1;
  return {text.substr(0, begin), text.substr(begin)};
}

}  // namespace neurogen
