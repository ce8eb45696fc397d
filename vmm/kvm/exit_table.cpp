// SPDX-License-Identifier: Apache-2.0
#include "vmm/kvm/exit_table.hpp"

#include <algorithm>
#include <tuple>

namespace inox {
namespace {

// A key: in use, reason, direction, address. Guest-physical addresses have at most 52 bits.
constexpr unsigned address_bits = 56;
constexpr unsigned write_bit = address_bits;
constexpr unsigned reason_shift = write_bit + 1;
constexpr std::uint64_t in_use = std::uint64_t{1} << 63;

void bump(std::atomic<std::uint64_t>& counter) noexcept {
    counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); // one writer
}

auto place(const ExitCount& one) { return std::tie(one.reason, one.write, one.address); }

} // namespace

std::string_view exit_reason_text(ExitReason reason) {
    static constexpr std::string_view words[exit_reasons]{"port",  "memory",       "msr",       "halt",   "interrupted",
                                                          "debug", "system-event", "emulation", "failure"};
    return words[static_cast<std::size_t>(reason)];
}

void ExitTable::count(const VmExit& exit) noexcept {
    if (const auto* port = std::get_if<vm_exit::Port>(&exit))
        return add(ExitReason::port, port->write, port->port.raw());
    if (const auto* memory = std::get_if<vm_exit::Mmio>(&exit))
        return add(ExitReason::memory, memory->write, memory->address.raw());
    if (const auto* msr = std::get_if<vm_exit::MsrAccess>(&exit))
        return add(ExitReason::msr, msr->write, msr->index);
    ExitReason reason = ExitReason::failure;
    if (std::holds_alternative<vm_exit::Halt>(exit))
        reason = ExitReason::halt;
    else if (std::holds_alternative<vm_exit::Interrupted>(exit))
        reason = ExitReason::interrupted;
    else if (std::holds_alternative<vm_exit::Debug>(exit))
        reason = ExitReason::debug;
    else if (std::holds_alternative<vm_exit::SystemEvent>(exit))
        reason = ExitReason::system_event;
    else if (std::holds_alternative<vm_exit::EmulationFailure>(exit))
        reason = ExitReason::emulation;
    bump(others_[2 * static_cast<std::size_t>(reason)]);
}

void ExitTable::add(ExitReason reason, bool write, std::uint64_t address) noexcept {
    const std::uint64_t key = in_use | std::uint64_t{static_cast<std::uint8_t>(reason)} << reason_shift |
                              std::uint64_t{write} << write_bit | (address & ((std::uint64_t{1} << address_bits) - 1));
    const std::uint64_t hash = key * 0x9e3779b97f4a7c15; // 2^64 divided by the golden ratio
    for (unsigned i = 0; i < probes; ++i) {
        Slot& slot = slots_[((hash >> (64 - slot_bits)) + i) % slots_.size()];
        const std::uint64_t found = slot.key.load(std::memory_order_relaxed);
        if (found == key)
            return bump(slot.count);
        if (found == 0) {
            slot.count.store(1, std::memory_order_relaxed);
            return slot.key.store(key, std::memory_order_release);
        }
    }
    bump(others_[2 * static_cast<std::size_t>(reason) + (write ? 1 : 0)]);
}

void ExitTable::collect(std::vector<ExitCount>& counts) const {
    for (const auto& slot : slots_)
        if (const std::uint64_t key = slot.key.load(std::memory_order_acquire); key != 0)
            counts.push_back({static_cast<ExitReason>(key >> reason_shift & 0xf), (key >> write_bit & 1) != 0,
                              key & ((std::uint64_t{1} << address_bits) - 1),
                              slot.count.load(std::memory_order_relaxed)});
    for (std::size_t i = 0; i < others_.size(); ++i)
        if (const std::uint64_t count = others_[i].load(std::memory_order_relaxed); count != 0)
            counts.push_back({static_cast<ExitReason>(i / 2), i % 2 != 0, std::nullopt, count});
}

void merge(std::vector<ExitCount>& counts) {
    std::ranges::sort(counts, [](const auto& a, const auto& b) { return place(a) < place(b); });
    std::size_t kept = 0;
    for (std::size_t i = 0; i < counts.size(); ++i)
        if (i != 0 && place(counts[kept - 1]) == place(counts[i]))
            counts[kept - 1].count += counts[i].count;
        else
            counts[kept++] = counts[i];
    counts.resize(kept);
    std::ranges::stable_sort(counts, [](const auto& a, const auto& b) { return a.count > b.count; });
}

} // namespace inox
