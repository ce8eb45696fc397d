// SPDX-License-Identifier: Apache-2.0
// Who made a machine, as far as devices are concerned: keeps what it is told of them.
#pragma once

#include <vector>

#include "vmm/machine/device_table.hpp"
#include "vmm/machine/machine_events.hpp"

namespace inox::fakes {

struct RecordingEvents : MachineEvents, SerialOutput, ConsolePeer {
    std::vector<inox::DeviceEvent> devices{};

    void on_device(const inox::DeviceEvent& event) override { devices.push_back(event); }
    void on_end(GuestEnd /*end*/) override {}
    void on_device_error(const DeviceName& /*name*/, const std::string& /*what*/) override {}
    void on_panic(const GuestPanic& /*panic*/) override {}
    void on_user_space_up() override {}
    void on_stalled(const Error& /*why*/) noexcept override {}
    void on_iommu_fault(const iommu::Faults::Entry& /*entry*/) override {}
    void serial_output(std::span<const std::byte> /*bytes*/) override {}
    void on_input_room() override {}
    std::size_t console_output(std::span<const std::byte> bytes) override { return bytes.size(); }
};

} // namespace inox::fakes
