// SPDX-License-Identifier: Apache-2.0
#include "api/openapi.hpp"

// NOLINTBEGIN
asm(".pushsection .rodata, \"a\"\n"
    "inox_openapi_start:\n"
    ".incbin \"" INOX_OPENAPI "\"\n"
    "inox_openapi_end:\n"
    ".popsection");
extern "C" {
[[gnu::visibility("hidden")]] extern const char inox_openapi_start[];
[[gnu::visibility("hidden")]] extern const char inox_openapi_end[];
}
// NOLINTEND

namespace inox::api {

std::string_view openapi_json() {
    return {inox_openapi_start, static_cast<std::size_t>(inox_openapi_end - inox_openapi_start)};
}

} // namespace inox::api
