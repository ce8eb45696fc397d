// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/pci_function.hpp"

#include "vmm/base/state.hpp"

namespace inox::fakes {

PciFunction::PciFunction(std::string name)
    : Function{{.vendor = 0x1af4, .device = 0x1041, .class_code = 0x020000, .revision = 1}}, name_{std::move(name)} {}

void PciFunction::bar_read(unsigned bar, std::uint64_t offset, std::span<std::byte> data) noexcept {
    store_le(data, (std::uint64_t{bar} + 1) << 24 | offset);
}

void PciFunction::bar_write(unsigned bar, std::uint64_t offset, std::span<const std::byte> data) noexcept {
    writes.push_back({bar, offset, load_le(data)});
}

Result<void> PciFunction::on_added(devices::pci::Address where) {
    address = where;
    if (refuse_add)
        return fail(Errc::no_resource, "refused by the test");
    return {};
}

void PciFunction::state(State& state) { state.version(1); }

std::uint64_t PciMachine::ecam(devices::pci::Address at, unsigned reg) {
    return layout::ecam.start().raw() + (std::uint64_t{at.index()} << 12) + reg;
}

void PciMachine::select(devices::pci::Address at, unsigned reg) {
    tests::out<std::uint32_t>(ports, 0xcf8, 0x80000000U | at.index() << 8 | (reg & 0xfc));
}

void PciMachine::decode(devices::pci::Address at, std::uint16_t command) {
    set<std::uint16_t>(at, devices::pci::reg::command, command);
}

} // namespace inox::fakes
