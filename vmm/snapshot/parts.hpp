// SPDX-License-Identifier: Apache-2.0
// The parts of a saved machine by name, as the state file holds them.
#pragma once

#include <string>
#include <utility>

#include "vmm/base/state.hpp"

namespace inox::snapshot {

/// One thread at a time; restoring from it changes nothing, so several may.
class Parts {
public:
    Parts() : value_(nlohmann::json::object()) {}
    explicit Parts(nlohmann::json value) : value_(std::move(value)) {}

    /// `each(State&)` saves a part.
    template <class F> void save(const std::string& name, F&& each) {
        State state;
        each(state);
        value_[name] = state.take();
    }
    /// The same function restores it. snapshot_invalid, naming the field.
    template <class F> Result<void> restore(const std::string& name, F&& each) const {
        const auto found = value_.find(name);
        if (found == value_.end() || !found->is_object())
            return fail(Errc::snapshot_invalid, "the snapshot has no part " + name,
                        "it was not written by this inox, or by another version");
        State state{*found, name};
        each(state);
        return state.result();
    }
    [[nodiscard]] const nlohmann::json& value() const { return value_; }

private:
    nlohmann::json value_;
};

} // namespace inox::snapshot
