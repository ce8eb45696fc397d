# SPDX-License-Identifier: Apache-2.0
# The contract as JSON, embedded by api/openapi.cpp.
set(openapi_json ${CMAKE_BINARY_DIR}/generated/openapi.json)
add_custom_command(
  OUTPUT ${openapi_json}
  COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/tools/lib/yaml_to_json.py ${CMAKE_SOURCE_DIR}/api/openapi.yaml
    ${openapi_json}
  DEPENDS ${CMAKE_SOURCE_DIR}/api/openapi.yaml ${CMAKE_SOURCE_DIR}/tools/lib/yaml_to_json.py
  COMMENT "Converting the API's contract" VERBATIM)
set_source_files_properties(${CMAKE_SOURCE_DIR}/api/openapi.cpp
  PROPERTIES
  OBJECT_DEPENDS ${openapi_json} COMPILE_DEFINITIONS "INOX_OPENAPI=\"${openapi_json}\"")
