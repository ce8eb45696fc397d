# SPDX-License-Identifier: Apache-2.0
# The lists of system calls (vmm/confine/tables) as programs for the kernel, made by libseccomp at build time, so that a
# start only loads them.
set(filters_inc ${CMAKE_BINARY_DIR}/generated/vmm/confine/filters.inc)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/generated/vmm/confine)
# The tables alone, for tests, too
add_library(confine_tables STATIC ${CMAKE_SOURCE_DIR}/vmm/confine/tables/rule.cpp
  ${CMAKE_SOURCE_DIR}/vmm/confine/tables/tables.cpp)
target_include_directories(confine_tables PUBLIC ${CMAKE_SOURCE_DIR})
target_compile_definitions(confine_tables PUBLIC _GNU_SOURCE)
target_link_libraries(confine_tables PRIVATE inox_hardening)
add_executable(compile_filters ${CMAKE_SOURCE_DIR}/vmm/confine/tables/compile.cpp)
target_include_directories(compile_filters SYSTEM PRIVATE ${LIBSECCOMP_INCLUDE})
target_link_libraries(compile_filters PRIVATE inox_hardening confine_tables ${LIBSECCOMP_LIBRARY})
add_custom_command(
  OUTPUT ${filters_inc}
  COMMAND compile_filters ${filters_inc}
  DEPENDS compile_filters
  COMMENT "Compiling the lists of system calls" VERBATIM)
set_source_files_properties(${CMAKE_SOURCE_DIR}/vmm/confine/filter.cpp
  PROPERTIES OBJECT_DEPENDS ${filters_inc} SKIP_UNITY_BUILD_INCLUSION ON)
