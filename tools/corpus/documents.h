// Cuts texts into documents.
#pragma once
#include <string>
#include <string_view>

namespace neurogen {

// file: each input is a document. line: each line is a document, including its line end. until: a document ends before a line that
// equals `end`, which is dropped, or at the end of its input. A line ends with "\n" or "\r\n".
struct DocumentRule {
  enum Kind { file, line, until } kind = file;
  std::string end;
};
// Parses "file", "line" or "until:LINE". Throws Error for anything else.
DocumentRule parse_document_rule(const std::string& text);

// Receives the documents: the text of each in one or several parts, then its end.
class DocumentSink {
 public:
  virtual ~DocumentSink() = default;
  virtual void add(std::string_view text) = 0;
  virtual void end_document() = 0;
};

// Needs only the memory of the rule's line, however long documents and lines are.
class DocumentCutter {
 public:
  DocumentCutter(const DocumentRule& rule, DocumentSink& sink) : rule_(rule), sink_(sink), end_(rule.end + "\r") {}
  void add(std::string_view text);
  void end_input();

 private:
  void add_line(std::string_view part);
  void pass_on(std::string_view text);
  void end();

  bool is_end(std::string_view line) const;

  const DocumentRule& rule_;
  DocumentSink& sink_;
  std::string end_;                        // the rule's line, with its "\r"
  std::string begun_;                      // start of a line that may be the rule's
  bool may_be_end_ = true, open_ = false;  // this line may still be the rule's; the document has text
};

}  // namespace neurogen
