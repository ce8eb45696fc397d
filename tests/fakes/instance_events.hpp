// SPDX-License-Identifier: Apache-2.0
// An owner of an instance that does nothing with what it is told.
#pragma once

#include "vmm/instance/instance.hpp"

namespace inox::fakes {

struct DeafOwner final : InstanceEvents {
    void on_end(GuestEnd /*end*/) override {}
    void on_user_space_up() override {}
    void on_expected(ConsoleOutput::Line /*line*/) override {}
    void on_leave() override {}
    void on_help() override {}
    void on_stalled(const Error& /*why*/) noexcept override {}
};

} // namespace inox::fakes
