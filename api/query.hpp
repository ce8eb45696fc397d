// SPDX-License-Identifier: Apache-2.0
// What stands behind the '?' of a path under /inox/. Pure.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/routes_reply.hpp"
#include "vmm/machine/device_table.hpp"

namespace inox::api {

/// Reads the parameters of one operation. The first that is unknown, given twice or has a bad value becomes the
/// refusal; readers return their default from then on.
class Query {
public:
    Query(std::string_view text, std::initializer_list<std::string_view> known);

    [[nodiscard]] const std::optional<Response>& refusal() const { return refusal_; }
    [[nodiscard]] bool has(std::string_view name) const { return value(name) != nullptr; }

    std::optional<std::uint64_t> number(std::string_view name, std::uint64_t most = UINT64_MAX);
    /// Hexadecimal, with or without 0x.
    std::optional<std::uint64_t> address(std::string_view name);
    bool boolean(std::string_view name);
    std::optional<DeviceKind> kind();
    /// `name` means something only together with `other`.
    void needs(std::string_view name, std::string_view other);
    /// `name` means nothing together with `other`.
    void excludes(std::string_view name, std::string_view other);

private:
    /// Null when absent.
    [[nodiscard]] const std::string* value(std::string_view name) const;
    void refuse(std::string what, std::string hint);

    std::vector<std::pair<std::string, std::string>> values_{};
    std::optional<Response> refusal_{};
};

/// ?offset=&limit=: what part of a list.
struct PageWindow {
    std::size_t offset{0};
    std::size_t limit{100};
};
PageWindow page_window(Query& query);
/// That part, as {"items","offset","total"}.
Response page(const Json& items, const PageWindow& window);

} // namespace inox::api
