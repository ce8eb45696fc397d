// SPDX-License-Identifier: Apache-2.0
#include "api/http.hpp"

namespace inox::api {

std::string_view method_name(Method method) {
    static constexpr std::string_view names[] = {"GET", "PUT", "PATCH", "DELETE"};
    return names[static_cast<std::size_t>(method)];
}

std::string status_text(unsigned status) {
    const char* reason = "";
    switch (status) {
    case 200:
        reason = " OK";
        break;
    case 204:
        reason = " No Content";
        break;
    case 400:
        reason = " Bad Request";
        break;
    case 404:
        reason = " Not Found";
        break;
    case 413:
        reason = " Payload Too Large";
        break;
    case 503:
        reason = " Service Unavailable";
        break;
    default:
        break;
    }
    return std::to_string(status) + reason;
}

} // namespace inox::api
