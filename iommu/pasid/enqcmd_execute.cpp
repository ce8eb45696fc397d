// SPDX-License-Identifier: Apache-2.0
#include "iommu/pasid/enqcmd_execute.hpp"

#include "vmm/base/bytes.hpp"

namespace inox::iommu {
namespace {

constexpr std::uint32_t command_reserved = 0x7ff00000; // bits 30:20 of the first word
constexpr std::uint32_t command_privileged = 1U << 31;

template <class T> using OrFault = std::expected<T, CpuFault>;

std::uint64_t low_bits(unsigned bytes) { return bytes >= 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << 8 * bytes) - 1; }

bool is_canonical(std::uint64_t linear, const CpuState& cpu) {
    const unsigned unused = (cpu.cr4 & cpu_bit::cr4_la57) != 0 ? 64 - 57 : 64 - 48;
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(linear << unused) >> unused) == linear;
}

/// Exceptions in real mode push no error code.
CpuFault fault(const CpuState& cpu, std::uint8_t vector) {
    const bool pushes = (cpu.cr0 & cpu_bit::cr0_pe) != 0 && vector != CpuFault::ud;
    return {vector, pushes ? std::optional<std::uint32_t>{0} : std::nullopt, {}};
}

class Execution {
public:
    Execution(const EnqueueInstruction& instruction, const CpuState& cpu, EnqueueMachine& machine)
        : instruction_{instruction}, cpu_{cpu}, machine_{machine} {}

    EnqueueOutcome run() {
        EnqueueOutcome out;
        if (const auto done = steps(out); !done) {
            if (out.verdict != EnqueueOutcome::Verdict::no_translation)
                out.verdict = EnqueueOutcome::Verdict::fault;
            out.fault = done.error();
            return out;
        }
        out.verdict = EnqueueOutcome::Verdict::retired;
        out.rip = next_rip();
        out.rflags = cpu_.rflags & ~cpu_bit::flags_rf;
        if (instruction_.kind != EnqueueKind::movdir64b) {
            out.rflags &= ~(cpu_bit::flags_cf | cpu_bit::flags_pf | cpu_bit::flags_af | cpu_bit::flags_zf |
                            cpu_bit::flags_sf | cpu_bit::flags_of);
            if (!out.accepted)
                out.rflags |= cpu_bit::flags_zf;
        }
        return out;
    }

private:
    [[nodiscard]] std::unexpected<CpuFault> raise(std::uint8_t vector) const {
        return std::unexpected{fault(cpu_, vector)};
    }

    OrFault<void> steps(EnqueueOutcome& out) {
        if (instruction_.lock)
            return raise(CpuFault::ud);
        if (instruction_.kind == EnqueueKind::enqcmds && cpu_.cpl != 0)
            return raise(CpuFault::gp);
        if (instruction_.kind == EnqueueKind::enqcmd && (cpu_.ia32_pasid & ia32_pasid_valid) == 0)
            return raise(CpuFault::gp);
        const auto destination = linear(SegmentName::es, cpu_.registers[instruction_.destination], true);
        if (!destination)
            return std::unexpected{destination.error()};
        if (!is_aligned(*destination, enqueue_size))
            return raise(CpuFault::gp);
        EnqueueCommand command;
        if (const auto read = read_source(command); !read)
            return read;
        if (instruction_.kind != EnqueueKind::movdir64b)
            return submit(*destination, command, out);
        const auto to = machine_.translate(*destination, true);
        if (!to)
            return std::unexpected{to.error()};
        machine_.store(*to, command);
        return {};
    }

    OrFault<void> submit(std::uint64_t destination, EnqueueCommand& command, EnqueueOutcome& out) {
        const auto head = load_le<std::uint32_t>(command);
        const bool user = instruction_.kind == EnqueueKind::enqcmd;
        if (user ? head != 0 : (head & command_reserved) != 0)
            return raise(CpuFault::gp);
        out.pasid = GuestPasid{static_cast<std::uint32_t>(user ? cpu_.ia32_pasid & pasid_mask : head & pasid_mask)};
        OrFault<void> result{};
        const bool translated = machine_.with_pasid(out.pasid, [&](HostPasid host) {
            const auto to = machine_.translate(destination, true);
            if (!to) {
                result = std::unexpected{to.error()};
                return;
            }
            store_le(std::span{command}.first(4), (host.raw() & pasid_mask) | (head & command_privileged));
            out.accepted = machine_.enqueue(*to, command);
        });
        if (translated)
            return result;
        out.verdict = EnqueueOutcome::Verdict::no_translation;
        return raise(CpuFault::gp);
    }

    [[nodiscard]] std::uint64_t next_rip() const {
        constexpr unsigned ip_bytes[] = {2, 4, 8};
        return (cpu_.rip + instruction_.length) & low_bits(ip_bytes[static_cast<unsigned>(cpu_.code)]);
    }

    [[nodiscard]] std::uint64_t source_offset() const {
        std::uint64_t offset = static_cast<std::uint64_t>(std::int64_t{instruction_.displacement});
        if (instruction_.rip_relative)
            offset += cpu_.rip + instruction_.length;
        if (instruction_.base != EnqueueInstruction::none)
            offset += cpu_.registers[instruction_.base];
        if (instruction_.index != EnqueueInstruction::none)
            offset += cpu_.registers[instruction_.index] << instruction_.shift;
        return offset;
    }

    /// The linear address of 64 bytes at an offset in a segment, with the checks of the current mode.
    [[nodiscard]] OrFault<std::uint64_t> linear(SegmentName name, std::uint64_t offset, bool write) const {
        const CpuSegment& segment = cpu_.segments[static_cast<std::size_t>(name)];
        const std::uint8_t vector = name == SegmentName::ss ? CpuFault::ss : CpuFault::gp;
        offset &= low_bits(instruction_.address_bytes);
        constexpr std::uint64_t last = enqueue_size - 1;
        if (cpu_.code == CodeSize::bits64) {
            const bool based = name == SegmentName::fs || name == SegmentName::gs;
            const std::uint64_t address = (based ? segment.base : 0) + offset;
            if (!is_canonical(address, cpu_) || !is_canonical(address + last, cpu_) || address + last < address)
                return raise(vector);
            return address;
        }
        const bool inside = segment.expand_down
                                ? offset > segment.limit && offset + last <= (segment.big ? 0xffffffffU : 0xffffU)
                                : offset + last <= segment.limit;
        if (!segment.usable || !inside || !(write ? segment.writable : segment.readable))
            return raise(vector);
        return (segment.base + offset) & low_bits(4);
    }

    [[nodiscard]] OrFault<void> read_source(EnqueueCommand& command) const {
        const auto start = linear(instruction_.segment, source_offset(), false);
        if (!start)
            return std::unexpected{start.error()};
        const std::span bytes{command};
        const std::uint64_t room = page_size - *start % page_size;
        const auto head = static_cast<std::size_t>(room < enqueue_size ? room : enqueue_size);
        const auto first = machine_.translate(*start, false);
        if (!first)
            return std::unexpected{first.error()};
        if (head == enqueue_size) {
            machine_.read(*first, bytes);
            return {};
        }
        // Both pages are looked up before a byte is read: a device register behind the first must not be read twice.
        const std::uint64_t next = (*start + head) & low_bits(cpu_.code == CodeSize::bits64 ? 8 : 4);
        const auto second = machine_.translate(next, false);
        if (!second)
            return std::unexpected{second.error()};
        machine_.read(*first, bytes.first(head));
        machine_.read(*second, bytes.subspan(head));
        return {};
    }

    const EnqueueInstruction& instruction_;
    const CpuState& cpu_;
    EnqueueMachine& machine_;
};

} // namespace

EnqueueOutcome execute_enqueue(const EnqueueInstruction& instruction, const CpuState& cpu,
                               EnqueueMachine& machine) noexcept {
    return Execution{instruction, cpu, machine}.run();
}

} // namespace inox::iommu
