// The families of models that the engine knows. A new one is a folder beside brain/ and a line here.
#include "engine/brain/architecture.h"
#include "engine/model/family.h"
#include "engine/transformer/architecture.h"

namespace neurogen {

std::vector<Family> built_in_families() { return {brain_family(), transformer_family()}; }

}  // namespace neurogen
