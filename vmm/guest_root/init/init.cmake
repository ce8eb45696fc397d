# SPDX-License-Identifier: Apache-2.0
# The first program of a guest with --root: static, so that it needs nothing of the root, and made with the host's C
# compiler without the project's own flags. vmm/guest_root/init_program.cpp embeds it.
set(init_dir ${CMAKE_SOURCE_DIR}/vmm/guest_root/init)
set(init_program ${CMAKE_BINARY_DIR}/generated/guest-init)
file(GLOB init_sources CONFIGURE_DEPENDS ${init_dir}/*.c)
file(GLOB init_headers CONFIGURE_DEPENDS ${init_dir}/*.h)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/generated)
add_custom_command(
  OUTPUT ${init_program}
  COMMAND ${CMAKE_C_COMPILER} -std=gnu17 -Os -Wall -Wextra -Werror -D_GNU_SOURCE -ffunction-sections -static -s
    -Wl,--gc-sections -Wl,--build-id=none -o ${init_program} ${init_sources}
  DEPENDS ${init_sources} ${init_headers}
  COMMENT "Building the init of guests with a root" VERBATIM)
set_source_files_properties(${CMAKE_SOURCE_DIR}/vmm/guest_root/init_program.cpp
  PROPERTIES
  OBJECT_DEPENDS ${init_program} COMPILE_DEFINITIONS "INOX_INIT_PROGRAM=\"${init_program}\"")
