// SPDX-License-Identifier: Apache-2.0
// A state file from anybody. Whatever it holds, it is refused or becomes values that are within their limits; what is
// saved of those is read again as the same.
//
//   input   a letter: s, the rest is a whole file; else a part with right checksums around it: c a configuration,
//           v a vCPU, m memory, k the machine's chips
#include "tests/fuzz/input.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/instance/snapshot/contents.hpp"
#include "vmm/kvm/vcpu_state.hpp"
#include "vmm/kvm/vm_state.hpp"
#include "vmm/snapshot/parts.hpp"
#include "vmm/snapshot/state_file.hpp"

using namespace inox;

namespace {

using fuzz::require;

/// Restores a part; what was accepted is saved and restored once more.
template <class Value, class F> void both_ways(const snapshot::Parts& parts, Value value, F each) {
    if (!parts.restore("part", [&](State& state) { each(state, value); }))
        return;
    snapshot::Parts saved;
    saved.save("part", [&](State& state) { each(state, value); });
    const auto decoded = snapshot::decode(snapshot::encode(saved.value()));
    require(decoded.has_value() && *decoded == saved.value());
    Value other{};
    require(saved.restore("part", [&](State& state) { each(state, other); }).has_value());
}

struct Memory {
    snapshot::MemoryContents contents{};
    snapshot::MemoryId id{};
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0)
        return 0;
    const std::span<const std::uint8_t> rest{data + 1, size - 1};
    if (*data == 's') {
        if (const auto decoded = snapshot::decode(std::as_bytes(rest)))
            require(snapshot::decode(snapshot::encode(*decoded)).has_value());
        return 0;
    }
    const auto bytes = snapshot::wrap("part", std::as_bytes(rest));
    auto decoded = snapshot::decode(bytes);
    if (!decoded)
        return 0;
    const snapshot::Parts parts{std::move(*decoded)};
    switch (*data) {
    case 'c':
        both_ways(parts, Config{}, [](State& state, Config& config) { config_state(state, config); });
        break;
    case 'v':
        both_ways(parts, VcpuState{}, [](State& state, VcpuState& cpu) { cpu.state(state); });
        break;
    case 'm':
        both_ways(parts, Memory{},
                  [](State& state, Memory& memory) { memory_state(state, memory.contents, memory.id); });
        break;
    default:
        both_ways(parts, VmState{}, [](State& state, VmState& vm) { vm.state(state); });
    }
    return 0;
}
