// SPDX-License-Identifier: Apache-2.0
// A machine's configuration as a part of its state: what it has to be made with again before anything else of the state
// can be put into it. Paths are in it as names: whoever restores decides whether they may be opened.
#pragma once

#include <limits>
#include <optional>
#include <vector>

#include "vmm/base/state.hpp"
#include "vmm/config/config_file.hpp"

namespace inox {

/// Bytes of a path, an id or another text of the configuration.
inline constexpr std::size_t most_text = 4096;

/// The machine and its devices, without what was only needed to boot it (a root and its command). After restoring,
/// the rules of check() hold.
void config_state(State& state, Config& config);
/// The metadata service's, without what it tells.
void mmds_state(State& state, std::optional<MmdsConfig>& mmds);

void limits_state(State& state, const char* name, devices::RateLimits& limits);

/// A number that may be missing: a list of none or one.
template <class T> void optional_field(State& state, const char* name, std::optional<T>& field) {
    std::vector<T> values(field ? 1U : 0U, field.value_or(T{}));
    state.list(name, values, 1, [](State& inner, T& value) { inner.number("value", value); });
    if (state.restores() && state.ok())
        field = values.empty() ? std::nullopt : std::optional{values.front()};
}

} // namespace inox
