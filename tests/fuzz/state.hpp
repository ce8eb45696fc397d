// SPDX-License-Identifier: Apache-2.0
// What was saved, damaged as a fuzz target's input says, is restored: a device is saved and another takes its place.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "tests/fuzz/input.hpp"
#include "tests/support/state.hpp"

namespace inox::fuzz {

inline void collect(nlohmann::json& value, std::vector<nlohmann::json*>& leaves) {
    if (value.is_structured())
        for (auto& inner : value)
            collect(inner, leaves);
    if (!value.is_object())
        leaves.push_back(&value);
}

/// One number, flag, text or list becomes another; `input`: which (0: none), and what.
inline void damage(nlohmann::json& saved, Input& input) {
    std::vector<nlohmann::json*> leaves;
    collect(saved, leaves);
    const auto which = input.take<std::uint8_t>();
    if (which == 0 || leaves.empty())
        return;
    auto& value = *leaves[which % leaves.size()];
    const auto how = input.take<std::uint8_t>();
    if (value.is_boolean())
        value = !value.get<bool>();
    else if (value.is_number())
        value = how < 0xf0 ? input.number(how % 8 + 1U) : ~std::uint64_t{how};
    else if (value.is_binary() && !value.get_binary().empty() && how < 0xf0)
        value.get_binary()[how % value.get_binary().size()] = input.take<std::uint8_t>();
    else if (value.is_array() && !value.empty() && how < 0x80)
        value.push_back(value.front());
    else if (value.is_array() && !value.empty())
        value.erase(value.size() - 1);
    else
        value = nullptr;
}

/// Saves `device`, which is at rest after this. Null: it has to go on working.
inline std::optional<nlohmann::json> save(devices::virtio::Device& device) {
    if (!device.drain()) {
        device.resume();
        return std::nullopt;
    }
    return tests::save(device);
}

} // namespace inox::fuzz
