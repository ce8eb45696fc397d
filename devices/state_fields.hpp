// SPDX-License-Identifier: Apache-2.0
// Fields that State does not know by itself.
#pragma once

#include <atomic>
#include <concepts>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "vmm/base/state.hpp"

namespace inox::devices {

/// A number that other threads read. In [least, most], inclusive.
template <std::unsigned_integral T> void atomic_number(State& state, const char* name, std::atomic<T>& field,
                                                       std::type_identity_t<T> least = 0,
                                                       std::type_identity_t<T> most = std::numeric_limits<T>::max()) {
    T value = field.load();
    state.number(name, value, least, most);
    field.store(value);
}

inline void atomic_flag(State& state, const char* name, std::atomic<bool>& field) {
    bool value = field.load();
    state.flag(name, value);
    field.store(value);
}

/// A number that may be missing: a list of none or one.
template <std::unsigned_integral T> void optional_number(State& state, const char* name, std::optional<T>& field) {
    std::vector<T> values(field ? 1U : 0U, field.value_or(T{}));
    state.list(name, values, 1, [](State& inner, T& value) { inner.number("value", value); });
    if (state.ok())
        field = values.empty() ? std::nullopt : std::optional{values.front()};
}

} // namespace inox::devices
