// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/verdict/places.hpp"

#include <algorithm>
#include <cstring>

#include "vmm/base/hex.hpp"

namespace inox {
namespace {

constexpr std::uint64_t rflags_if = 1U << 9;
constexpr std::size_t most_frames = 16;
constexpr std::uint64_t stack_size = 16 * KiB;
/// Where x86-64 Linux and its modules are linked (Documentation/arch/x86/x86_64/mm.rst).
constexpr std::uint64_t text_start = 0xffffffff80000000;
constexpr std::uint64_t text_last = 0xfffffffffeffffff;

std::optional<std::uint64_t> read_word(const Machine& machine, const Vcpu& vcpu, std::uint64_t address) {
    if (address % 8 != 0)
        return std::nullopt;
    const auto place = vcpu.physical(address);
    return place ? machine.memory().read<std::uint64_t>(*place) : std::nullopt;
}

class Stack {
public:
    Stack(const Machine& machine, const Vcpu& vcpu, const Symbols* symbols, std::uint64_t moved)
        : machine_{machine}, vcpu_{vcpu}, symbols_{symbols}, moved_{moved} {}

    /// Each frame has the caller's frame pointer, and behind it the return address.
    [[nodiscard]] std::vector<std::uint64_t> by_frames(const kvm_regs& regs) const {
        std::vector<std::uint64_t> out;
        auto frame = regs.rbp;
        for (auto least = regs.rsp; out.size() < most_frames; least = frame + 16) {
            if (frame < least || frame - regs.rsp >= stack_size)
                break;
            const auto caller = read_word(machine_, vcpu_, frame);
            const auto address = read_word(machine_, vcpu_, frame + 8);
            if (!caller || !address || !is_text(*address))
                break;
            out.push_back(*address);
            least = frame;
            frame = *caller;
        }
        return out;
    }

    [[nodiscard]] std::vector<std::uint64_t> by_looks(const kvm_regs& regs) const {
        std::vector<std::uint64_t> out;
        for (auto at = regs.rsp & ~std::uint64_t{7}; at - regs.rsp < stack_size && out.size() < most_frames; at += 8) {
            const auto word = read_word(machine_, vcpu_, at);
            if (!word)
                break;
            if (is_text(*word))
                out.push_back(*word);
        }
        return out;
    }

private:
    [[nodiscard]] bool is_text(std::uint64_t address) const {
        return address >= text_start && address <= text_last && (!symbols_ || symbols_->at(address - moved_));
    }

    const Machine& machine_;
    const Vcpu& vcpu_;
    const Symbols* symbols_;
    std::uint64_t moved_;
};

VcpuPlace place_of(Machine& machine, unsigned id, const Symbols* symbols, std::uint64_t moved) {
    const Vcpu& vcpu = machine.vcpu(id);
    VcpuPlace out{.id = id};
    const auto regs = vcpu.regs();
    const auto sregs = vcpu.sregs();
    const auto state = vcpu.mp_state();
    if (!regs || !sregs || !state)
        return out;
    out.rip = regs->rip;
    out.user = (sregs->cs.selector & 3) == 3;
    out.interrupts = (regs->rflags & rflags_if) != 0;
    out.halted = *state == KVM_MP_STATE_HALTED;
    out.started = *state == KVM_MP_STATE_RUNNABLE || out.halted;
    if (out.user || !out.started)
        return out;
    const Stack stack{machine, vcpu, symbols, moved};
    out.trace = stack.by_frames(*regs);
    if (out.trace.size() < 2)
        out.trace = stack.by_looks(*regs);
    return out;
}

} // namespace

std::vector<VcpuPlace> find_places(Machine& machine, const Symbols* symbols, std::uint64_t moved) {
    machine.hold(Machine::Holder::report);
    std::vector<VcpuPlace> out;
    for (unsigned id = 0; id < machine.vcpu_count(); ++id)
        out.push_back(place_of(machine, id, symbols, moved));
    machine.release(Machine::Holder::report);
    return out;
}

std::string address_text(std::uint64_t address, const Symbols* symbols, std::uint64_t moved) {
    const auto name = symbols ? symbols->at(address - moved) : std::nullopt;
    return name ? *name : format("%#llx", hex(address));
}

std::string place_text(const VcpuPlace& place, const Symbols* symbols, std::uint64_t moved) {
    std::string out = format("vCPU %u: ", place.id);
    if (!place.started)
        return out + "not started by the guest";
    out += format("RIP %#llx", hex(place.rip));
    if (symbols && !place.user)
        out += " " + address_text(place.rip, symbols, moved);
    out += place.user ? ", in a program" : ", in the kernel";
    out += place.interrupts ? ", interrupts on" : ", interrupts off";
    out += place.halted ? ", halted" : "";
    for (std::size_t i = 0; i < place.trace.size(); ++i)
        out += (i == 0 ? "; from " : ", ") + address_text(place.trace[i], symbols, moved);
    return out;
}

} // namespace inox
