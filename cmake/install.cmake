# What is installed, and the package made of it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS neurogen-engine plan corpus RUNTIME)
install(TARGETS neurogen EXPORT neurogenTargets LIBRARY)
install(DIRECTORY engine/api/neurogen TYPE INCLUDE)
set(package_files ${CMAKE_INSTALL_LIBDIR}/cmake/neurogen)
install(EXPORT neurogenTargets NAMESPACE neurogen:: DESTINATION ${package_files})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/neurogenConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/neurogenConfig.cmake ${CMAKE_BINARY_DIR}/neurogenConfigVersion.cmake DESTINATION ${package_files})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/neurogen-engine RENAME copyright)
install(FILES README.md THIRD_PARTY.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/neurogen-engine)

# Manual pages and completions come from the tables of options that the programs themselves parse with.
add_executable(manual tools/manual/main.cpp $<FILTER:$<TARGET_OBJECTS:neurogen-engine>,EXCLUDE,/\(main|heap\)\\.cpp>
  $<FILTER:$<TARGET_OBJECTS:corpus>,EXCLUDE,/main\\.cpp>)
target_link_libraries(manual PRIVATE neurogen_tools ${MIMALLOC} ${EDIT})
set_target_properties(manual PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})
foreach(program neurogen-engine corpus plan)
  set(manual_page ${CMAKE_BINARY_DIR}/share/${program}.1)
  set(completion ${CMAKE_BINARY_DIR}/share/${program})
  add_custom_command(OUTPUT ${manual_page} ${completion} COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/share
    COMMAND manual page ${program} > ${manual_page} COMMAND manual completion ${program} > ${completion} DEPENDS manual)
  list(APPEND manual_files ${manual_page} ${completion})
  install(FILES ${manual_page} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${completion} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
endforeach()
add_custom_target(manual_files ALL DEPENDS ${manual_files})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME neurogen-engine)
set(CPACK_PACKAGE_CONTACT "The NeuroGen engine's maintainers <maintainers@neurogen.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "trains a brain-shaped language model in a planned memory budget")
set(CPACK_PACKAGE_DESCRIPTION "Six cortical modules learn a text on a small GPU or on none, in memory that is planned to the byte
 beforehand. With the programs come the engine as a C++ library, manual pages and shell completion.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS libopenblas0-pthread)  # loaded at run time, where no tool finds it
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)
include(CPack)
