// What the shared library shows.
#pragma once

#define NEUROGEN_API __attribute__((visibility("default")))
