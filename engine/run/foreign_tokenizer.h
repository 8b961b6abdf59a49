// A tokenizer in other programs' files.
#pragma once
#include "engine/data/tokenizer.h"
#include "engine/model/pretrained.h"

namespace neurogen {

// `tokenizer` may be null. Empty for a tokenizer that those programs do not know.
ForeignTokenizer foreign_tokenizer(const Tokenizer* tokenizer);

}  // namespace neurogen
