// Symbols that the shared library exports.
#pragma once

#define NEUROGEN_API __attribute__((visibility("default")))
