# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` puts where, and what `cpack` makes of it: a tar file and a Debian package.
include(GNUInstallDirs)
# inox's own folders are open to everybody whatever the umask; those above are made as the caller makes them.
set(CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ
  WORLD_EXECUTE)
install(DIRECTORY DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(TARGETS inox RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
# Callers of Firecracker's jailer name a program and nothing else
file(CREATE_LINK inox ${CMAKE_BINARY_DIR}/inox-jailer SYMBOLIC)
install(FILES ${CMAKE_BINARY_DIR}/inox-jailer DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES README.md SECURITY.md CHANGELOG.md LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
# Man pages and completion say what the program's --help says.
set(manual ${CMAKE_BINARY_DIR}/manual)
add_custom_command(OUTPUT ${manual}/bash/inox
  COMMAND ${CMAKE_COMMAND} -E rm -rf ${manual}
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_CURRENT_LIST_DIR}/lib/manual.py $<TARGET_FILE:inox> ${PROJECT_VERSION} ${manual}
  DEPENDS inox ${CMAKE_CURRENT_LIST_DIR}/lib/manual.py COMMENT "Writing man pages and completion" VERBATIM)
add_custom_target(manual ALL DEPENDS ${manual}/bash/inox)
install(DIRECTORY ${manual}/man1/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${manual}/bash/inox DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${manual}/zsh/_inox DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
install(DIRECTORY docs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/docs)
install(DIRECTORY configs/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/configs)

set(CPACK_GENERATOR TGZ DEB)
set(CPACK_PACKAGE_NAME inox)
set(CPACK_PACKAGE_VENDOR inox)
set(CPACK_PACKAGE_CONTACT "the inox developers <inox@localhost>")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/package_modes.cmake)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_DEBIAN_PACKAGE_SECTION otherosfs)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
if(NOT INOX_STATIC)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
endif()
include(CPack)
