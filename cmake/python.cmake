# The Python module, if pybind11 and Python's headers are found: build/python/neurogen to try it, `pip install .` to install it.
# The system's Python, whose NumPy tools/setup.sh installs, before others on PATH; pip names its own.
if(NOT DEFINED Python3_EXECUTABLE AND EXISTS /usr/bin/python3)
  set(Python3_EXECUTABLE /usr/bin/python3)
endif()
find_package(Python3 COMPONENTS Interpreter Development.Module)
if(Python3_Development.Module_FOUND)
  find_package(pybind11 CONFIG QUIET)
endif()
if(NOT pybind11_FOUND)
  message(STATUS "pybind11 or Python's headers not found: building without the Python module")
  return()
endif()

# In a wheel, and so with `pip install .`, the package neurogen is an installation that contains the module.
set(package ${CMAKE_BINARY_DIR}/python/neurogen)
pybind11_add_module(neurogen_python MODULE NO_EXTRAS python/module.cpp)
target_link_libraries(neurogen_python PRIVATE neurogen)
set_target_properties(neurogen_python PROPERTIES OUTPUT_NAME _engine LIBRARY_OUTPUT_DIRECTORY ${package}
  INSTALL_RPATH "$ORIGIN/${libraries}:$ORIGIN/../../${libraries}")
install(TARGETS neurogen_python LIBRARY DESTINATION . COMPONENT python EXCLUDE_FROM_ALL)
foreach(file __init__.py __init__.pyi _programs.py py.typed)
  configure_file(python/neurogen/${file} ${package}/${file} COPYONLY)
  install(FILES python/neurogen/${file} DESTINATION . COMPONENT python EXCLUDE_FROM_ALL)
endforeach()
