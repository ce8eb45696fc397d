# SPDX-License-Identifier: Apache-2.0
# The built-in guest as a flat image, embedded by vmm/boot/hello.cpp. Made with the host's C compiler, without its
# libraries, and free of the project's own flags: sanitizers have no place in a guest.
set(hello_dir ${CMAKE_SOURCE_DIR}/vmm/boot/hello)
set(hello_elf ${CMAKE_BINARY_DIR}/generated/hello.elf)
set(hello_image ${CMAKE_BINARY_DIR}/generated/hello.bin)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/generated)
add_custom_command(
  OUTPUT ${hello_image}
  COMMAND ${CMAKE_C_COMPILER} -std=gnu17 -Os -Wall -Wextra -Werror -Wno-unused-command-line-argument
    -ffreestanding -fno-pie -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fno-asynchronous-unwind-tables
    -fcf-protection=none -nostdlib -static -no-pie -Wl,-T,${hello_dir}/hello.ld -Wl,--build-id=none -Wl,-z,noexecstack
    -o ${hello_elf} ${hello_dir}/hello.c
  COMMAND ${CMAKE_OBJCOPY} -O binary ${hello_elf} ${hello_image}
  DEPENDS ${hello_dir}/hello.c ${hello_dir}/hello.ld
  COMMENT "Building the built-in guest" VERBATIM)
set_source_files_properties(${CMAKE_SOURCE_DIR}/vmm/boot/hello.cpp
  PROPERTIES
  OBJECT_DEPENDS ${hello_image} COMPILE_DEFINITIONS "INOX_HELLO_IMAGE=\"${hello_image}\"")
