// SPDX-License-Identifier: Apache-2.0
// Saves and restores one part of a machine, and damages what was saved.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>

#include "tests/fakes/virtio_driver.hpp"
#include "vmm/base/state.hpp"

namespace inox::tests {

/// `part` has a function state(State&).
template <class P> nlohmann::json save(P& part) {
    State state;
    part.state(state);
    return state.take();
}
template <class P> Result<void> restore(P& part, nlohmann::json value) {
    State state{std::move(value), "test"};
    part.state(state);
    return state.result();
}

/// `fresh` takes the place of the driver's device, which is at rest and of which `value` was saved.
Result<void> replace(fakes::VirtioDriver& driver, devices::virtio::Device& fresh, nlohmann::json value);

/// Calls `restore` once for each way to damage one field of `saved`: it is missing, of another kind, or the least, the
/// largest or another number, or a byte longer or shorter. `must_fail`: no part takes this.
void for_each_damage(const nlohmann::json& saved,
                     const std::function<void(const nlohmann::json& damaged, bool must_fail)>& restore);

} // namespace inox::tests
