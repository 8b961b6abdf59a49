// The version of these headers, and of the library that a program runs with.
#pragma once

#include "neurogen/export.h"

#define NEUROGEN_VERSION_MAJOR 0
#define NEUROGEN_VERSION_MINOR 2
#define NEUROGEN_VERSION_PATCH 0
#define NEUROGEN_VERSION "0.2.0"

namespace neurogen {

NEUROGEN_API const char* version();  // of the library, such as "0.2.0"

}  // namespace neurogen
