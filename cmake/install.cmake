# Installation, and the Debian package made from it.
include(CMakePackageConfigHelpers)

install(TARGETS neurogen-engine RUNTIME)
foreach(program plan corpus)  # in an installation, short names get a prefix
  install(PROGRAMS $<TARGET_FILE:${program}> TYPE BIN RENAME neurogen-${program})
endforeach()
install(TARGETS neurogen_shared LIBRARY DESTINATION ${libraries}/neurogen)
install(TARGETS neurogen EXPORT neurogenTargets LIBRARY)
install(DIRECTORY include/neurogen TYPE INCLUDE)
set(package_files ${libraries}/cmake/neurogen)
install(EXPORT neurogenTargets NAMESPACE neurogen:: DESTINATION ${package_files})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/neurogenConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/neurogenConfig.cmake ${CMAKE_BINARY_DIR}/neurogenConfigVersion.cmake DESTINATION ${package_files})
# Documents keep their relative places, so that their links work.
set(documents ${CMAKE_INSTALL_DATADIR}/doc/neurogen-engine)
file(GLOB pages CONFIGURE_DEPENDS *.md)
install(FILES LICENSE ${pages} DESTINATION ${documents})
install(FILES LICENSE DESTINATION ${documents} RENAME copyright)  # Debian's name for it
install(DIRECTORY docs examples schemas DESTINATION ${documents})
# Bundles libraries that a bare system lacks, for packages and wheels that are taken elsewhere.
install(CODE "execute_process(COMMAND ${CMAKE_SOURCE_DIR}/tools/bundle.sh \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${libraries}/neurogen
    \$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/${documents}/licences $<TARGET_FILE:neurogen-engine> $<TARGET_FILE:plan> $<TARGET_FILE:corpus>
    COMMAND_ERROR_IS_FATAL ANY)" COMPONENT bundle EXCLUDE_FROM_ALL)

# Manual pages and completions are generated from the option tables that the programs parse with.
file(GLOB manual CONFIGURE_DEPENDS tools/manual/*.cpp)
add_executable(manual ${manual} $<FILTER:$<TARGET_OBJECTS:neurogen-engine>,EXCLUDE,/\(main|heap\)\\.cpp>
  $<FILTER:$<TARGET_OBJECTS:corpus>,EXCLUDE,/main\\.cpp>)
target_link_libraries(manual PRIVATE neurogen_tools neurogen_shared ${MIMALLOC} ${EDIT})
set_target_properties(manual PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tools)
set(share ${CMAKE_BINARY_DIR}/share)
foreach(program neurogen-engine neurogen-corpus neurogen-plan)
  set(made ${share}/man/${program}.1 ${share}/bash/${program} ${share}/zsh/_${program} ${share}/fish/${program}.fish)
  add_custom_command(OUTPUT ${made} COMMAND manual ${program} ${made} DEPENDS manual)
  list(APPEND manual_files ${made})
endforeach()
install(DIRECTORY ${share}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(DIRECTORY ${share}/bash/ DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(DIRECTORY ${share}/zsh/ DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(DIRECTORY ${share}/fish/ DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
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
# The package contains the libraries whose package names differ between releases, so it needs only the C and C++ libraries.
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};neurogen;ALL;/;${CMAKE_BINARY_DIR};neurogen;bundle;/")
execute_process(COMMAND getconf GNU_LIBC_VERSION OUTPUT_VARIABLE c_library OUTPUT_STRIP_TRAILING_WHITESPACE)
string(REGEX REPLACE "^glibc " "" c_library "${c_library}")
string(REGEX MATCH "^[0-9]+" gcc "${CMAKE_CXX_COMPILER_VERSION}")
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libc6 (>= ${c_library}), libstdc++6 (>= ${gcc}), libgcc-s1")
set(CPACK_DEBIAN_COMPRESSION_TYPE zstd)
include(CPack)
