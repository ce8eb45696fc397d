// SPDX-License-Identifier: Apache-2.0
// The contract, api/openapi.yaml, as JSON text; made at build time.
#pragma once

#include <string_view>

namespace inox::api {

std::string_view openapi_json();

} // namespace inox::api
