// SPDX-License-Identifier: Apache-2.0
#include "devices/pasid_registers.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "iommu/pasid/pasid_commands.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/base/state.hpp"

namespace inox::devices {
namespace {

constexpr std::uint64_t register_bytes = 8;

/// `word` with the bytes at `offset` replaced.
std::uint64_t merged(std::uint64_t word, std::uint64_t offset, std::span<const std::byte> data) {
    std::array<std::byte, register_bytes> bytes{};
    store_le(bytes, word);
    std::memcpy(bytes.data() + offset, data.data(), data.size());
    return load_le(bytes);
}

} // namespace

std::uint64_t PasidRegisters::value(std::uint64_t offset) const {
    switch (offset) {
    case magic:
        return magic_value | std::uint64_t{version_value} << 32;
    case quota: {
        const auto info = service_.set_info();
        return info.quota | std::uint64_t{info.used} << 32;
    }
    case capability:
        return iommu::vcmd::capabilities;
    default:
        break;
    }
    std::lock_guard lock{mutex_};
    return offset == command ? command_ : offset == operand ? operand_ : offset == response ? response_ : 0;
}

void PasidRegisters::read(std::uint64_t offset, std::span<std::byte> data) noexcept {
    const std::uint64_t inside = offset % register_bytes;
    if (inside + data.size() > register_bytes) {
        std::ranges::fill(data, std::byte{0});
        return;
    }
    store_le(data, value(offset - inside) >> 8 * inside);
}

void PasidRegisters::state(State& state) {
    const std::lock_guard lock{mutex_};
    state.version(1);
    state.number("command", command_);
    state.number("operand", operand_);
    state.number("response", response_);
    state.check((response_ & iommu::vcmd::in_progress) == 0, "a command is in progress that nobody carries out");
    if (state.ok())
        state.part("pasids", [this](State& part) { service_.state(part); });
}

void PasidRegisters::write(std::uint64_t offset, std::span<const std::byte> data) noexcept {
    const std::uint64_t inside = offset % register_bytes;
    const std::uint64_t at = offset - inside;
    if (data.size() < 4 || inside + data.size() > register_bytes || (at != command && at != operand))
        return;
    std::uint64_t ready = 0;
    std::uint64_t second = 0;
    {
        std::lock_guard lock{mutex_};
        if ((response_ & iommu::vcmd::in_progress) != 0)
            return;
        auto& word = at == command ? command_ : operand_;
        word = merged(word, inside, data);
        // Writing the low half starts the command, so a guest with two stores writes the upper half first.
        if (at != command || inside != 0)
            return;
        ready = command_;
        second = operand_;
        response_ = iommu::vcmd::in_progress;
    }
    const auto answer = iommu::execute_virtual_command(ready, second, service_);
    std::lock_guard lock{mutex_};
    response_ = answer;
    command_ = operand_ = 0;
}

} // namespace inox::devices
