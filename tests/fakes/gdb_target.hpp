// SPDX-License-Identifier: Apache-2.0
// A debugger's target without a machine: some memory, registers, and a list of what was asked.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "vmm/gdb/target.hpp"

namespace inox::tests {

class FakeGdbTarget final : public gdb::Target {
public:
    static constexpr std::uint64_t memory_at = 0xffffffff81000000;

    [[nodiscard]] unsigned vcpus() const override { return static_cast<unsigned>(all.size()); }
    [[nodiscard]] Result<gdb::Registers> registers(unsigned vcpu) const override { return all.at(vcpu); }
    Result<void> set_registers(unsigned vcpu, const gdb::Registers& registers) override {
        all.at(vcpu) = registers;
        return {};
    }
    std::size_t read(unsigned /*vcpu*/, std::uint64_t address, std::span<std::byte> to) const override {
        if (address < memory_at || address - memory_at >= memory.size())
            return 0;
        const auto count = std::min<std::size_t>(to.size(), memory.size() - (address - memory_at));
        std::copy_n(memory.data() + (address - memory_at), count, to.data()); // of nothing, also to nowhere
        return count;
    }
    bool write(unsigned /*vcpu*/, std::uint64_t address, std::span<const std::byte> from) override {
        if (address < memory_at || address - memory_at > memory.size() ||
            from.size() > memory.size() - (address - memory_at))
            return false;
        std::ranges::copy(from, memory.begin() + static_cast<std::ptrdiff_t>(address - memory_at));
        return true;
    }
    Result<void> insert(unsigned /*vcpu*/, const gdb::Breakpoint& breakpoint) override {
        if (breakpoints.size() == 4)
            return fail(Errc::no_resource, "full");
        if (std::ranges::find(breakpoints, breakpoint) == breakpoints.end())
            breakpoints.push_back(breakpoint);
        return {};
    }
    void remove(const gdb::Breakpoint& breakpoint) override { std::erase(breakpoints, breakpoint); }
    void remove_all() override { breakpoints.clear(); }
    Result<void> resume(const gdb::Resume& how) override {
        resumed.push_back(how);
        return {};
    }
    void interrupt() override { ++interrupts; }
    [[nodiscard]] std::optional<std::uint64_t> kernel_offset() const override { return offset; }
    std::string monitor(std::string_view command) override { return "you said " + std::string{command} + "\n"; }
    void kill() override { ++kills; }

    std::vector<gdb::Registers> all{2};
    std::vector<std::byte> memory = std::vector<std::byte>(256);
    std::vector<gdb::Breakpoint> breakpoints{};
    std::vector<gdb::Resume> resumed{};
    std::optional<std::uint64_t> offset{};
    unsigned interrupts{0};
    unsigned kills{0};
};

} // namespace inox::tests
