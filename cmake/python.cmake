# The Python module: build/python/neurogen to try it, `pip install .` to install it. Building it needs no Python, and one build
# serves every Python, since the module calls the engine by ctypes.
# For tests, the system's Python, whose NumPy tools/setup.sh installs, before others on PATH; pip names its own.
if(NOT DEFINED Python3_EXECUTABLE AND EXISTS /usr/bin/python3)
  set(Python3_EXECUTABLE /usr/bin/python3)
endif()
find_package(Python3 COMPONENTS Interpreter)

# In a wheel, and so with `pip install .`, the package neurogen is an installation that contains the module.
set(package ${CMAKE_BINARY_DIR}/python/neurogen)
add_library(neurogen_python MODULE python/functions.cpp)
target_link_libraries(neurogen_python PRIVATE neurogen)
set_target_properties(neurogen_python PROPERTIES PREFIX "" OUTPUT_NAME _functions LIBRARY_OUTPUT_DIRECTORY ${package}
  CXX_VISIBILITY_PRESET hidden INSTALL_RPATH "$ORIGIN/${libraries}:$ORIGIN/../../${libraries}")
install(TARGETS neurogen_python LIBRARY DESTINATION . COMPONENT python EXCLUDE_FROM_ALL)
foreach(file __init__.py _engine.py _errors.py _library.py _programs.py _records.py _tokenizer.py py.typed)
  configure_file(python/neurogen/${file} ${package}/${file} COPYONLY)
  install(FILES python/neurogen/${file} DESTINATION . COMPONENT python EXCLUDE_FROM_ALL)
endforeach()
