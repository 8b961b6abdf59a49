# find_package(neurogen) gives neurogen::neurogen, the engine as a shared library. What it is made with is its own affair: a
# program that uses it needs no other package.
include(${CMAKE_CURRENT_LIST_DIR}/neurogenTargets.cmake)
