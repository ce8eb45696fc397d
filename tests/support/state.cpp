// SPDX-License-Identifier: Apache-2.0
#include "tests/support/state.hpp"

#include <vector>

namespace inox::tests {
namespace {

using nlohmann::json;

std::vector<json> wrong_values(const json& good) {
    if (good.is_number())
        return {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{0x7f}, std::uint64_t{0xffff}, ~std::uint64_t{0}, -1};
    if (good.is_boolean())
        return {!good.get<bool>()};
    if (good.is_binary()) {
        auto longer = good.get_binary();
        longer.push_back(0xff);
        auto shorter = good.get_binary();
        if (!shorter.empty())
            shorter.pop_back();
        return {json::binary(longer), json::binary(shorter),
                json::binary(std::vector<std::uint8_t>(longer.size(), 0xff))};
    }
    if (good.is_array()) {
        auto longer = good;
        longer.push_back(good.empty() ? json::object() : good.front());
        auto shorter = good;
        if (!shorter.empty())
            shorter.erase(shorter.size() - 1);
        return {longer, shorter};
    }
    return {};
}

} // namespace

Result<void> replace(fakes::VirtioDriver& driver, devices::virtio::Device& fresh, json value) {
    driver.restore(fresh);
    return restore(fresh, std::move(value));
}

void for_each_damage(const json& saved, const std::function<void(const json&, bool)>& restore) {
    const json flat = saved; // pointers below are into copies of it
    const std::function<void(const json&, const json::json_pointer&)> visit = [&](const json& at,
                                                                                  const json::json_pointer& path) {
        const auto damaged = [&](const json& value, bool must_fail) {
            json copy = flat;
            copy[path] = value;
            restore(copy, must_fail);
        };
        for (const json& value : wrong_values(at))
            damaged(value, false);
        if (!path.empty()) {
            damaged(nullptr, true);
            damaged(1.5, true);
            if (flat[path.parent_pointer()].is_object()) {
                json copy = flat;
                copy[path.parent_pointer()].erase(path.back());
                restore(copy, true);
            }
        }
        if (at.is_object())
            for (const auto& [name, value] : at.items())
                visit(value, path / name);
        if (at.is_array() && !at.empty())
            visit(at.front(), path / std::size_t{0});
    };
    visit(flat, json::json_pointer{});
}

} // namespace inox::tests
