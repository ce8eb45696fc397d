// SPDX-License-Identifier: Apache-2.0
#include "vmm/machine/triple_fault.hpp"

#include <algorithm>
#include <cpuid.h>

#include "vmm/base/bytes.hpp"
#include "vmm/base/hex.hpp"

namespace inox {
namespace {

constexpr std::uint64_t reset_rip = 0xfff0; // SDM volume 3, 10.1.1; APM volume 2, 14.1.3
constexpr std::size_t shown = 15;           // the longest instruction

} // namespace

std::optional<FaultPlace> fault_place(const Vcpu& vcpu, const GuestMemory& ram) {
    const auto general = vcpu.regs();
    const auto special = vcpu.sregs();
    if (!general || !special)
        return std::nullopt;
    FaultPlace place{general->rip, {}};
    const std::uint64_t linear = special->cs.base + general->rip;
    if (const auto physical = vcpu.physical(linear)) {
        // Up to the page's end: the next page may be somewhere else in memory.
        std::vector<std::uint8_t> bytes(std::min<std::uint64_t>(shown, page_size - linear % page_size));
        if (ram.read(*physical, std::as_writable_bytes(std::span{bytes})))
            place.bytes = std::move(bytes);
    }
    return place;
}

Error triple_fault(unsigned vcpu, const std::optional<FaultPlace>& place, bool svm) {
    std::string what = format("vCPU %u triple-faulted", vcpu);
    if (!place) {
        what += " at unknown RIP";
    } else if (svm && place->rip == reset_rip) {
        what += format("; KVM on SVM reset the CPU before it exited, so the place is not known (RIP %#llx)",
                       hex(place->rip));
    } else {
        what += format(" at RIP %#llx, bytes:", hex(place->rip));
        for (const auto byte : place->bytes)
            what += format(" %02x", byte);
        if (place->bytes.empty())
            what += " not in guest memory";
    }
    return make_error(Errc::guest_triple_fault, std::move(what),
                      "the guest has no handler for a fault: see its console, or try another kernel");
}

bool host_has_svm() {
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    return __get_cpuid(0x80000001, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 2 & 1) != 0;
}

} // namespace inox
