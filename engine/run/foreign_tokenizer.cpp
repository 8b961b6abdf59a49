#include "engine/run/foreign_tokenizer.h"

namespace neurogen {

ForeignTokenizer foreign_tokenizer(const Tokenizer*) { return {}; }

}  // namespace neurogen
