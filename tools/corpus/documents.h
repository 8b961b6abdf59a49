// Cutting texts into documents.
#pragma once
#include <string>
#include <string_view>

namespace neurogen {

// file: each input is one. line: each line is one, its '\n' a part of it. until: each ends at a line that is exactly `end`, which
// belongs to none, or at the end of its input.
struct DocumentRule {
  enum Kind { file, line, until } kind = file;
  std::string end;
};
// "file", "line" or "until:LINE". Throws Error for anything else.
DocumentRule parse_document_rule(const std::string& text);

// Who takes the documents: the text of each in one or several parts, then its end.
class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  virtual void add(std::string_view text) = 0;
  virtual void end_document() = 0;
};

// Needs no more memory than the rule's line, however long documents and lines are.
class DocumentCutter {
 public:
  DocumentCutter(const DocumentRule& rule, DocumentSink& sink) : rule_(rule), sink_(sink) {}
  void add(std::string_view text);
  void end_input();

 private:
  void add_line(std::string_view part);
  void pass_on(std::string_view text);
  void end();

  const DocumentRule& rule_;
  DocumentSink& sink_;
  std::string begun_;                      // of a line that may be the rule's
  bool may_be_end_ = true, open_ = false;  // so far this line may be; the document has text
};

}  // namespace neurogen
