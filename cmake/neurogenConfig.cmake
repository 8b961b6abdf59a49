# find_package(neurogen) provides neurogen::neurogen, the engine as a shared library. A program that uses it needs no other package.
include(${CMAKE_CURRENT_LIST_DIR}/neurogenTargets.cmake)
