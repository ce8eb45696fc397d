// SPDX-License-Identifier: Apache-2.0
// What ENQCMD, ENQCMDS and MOVDIR64B do once decoded (Intel SDM volume 2), on a CPU described as values: checks in the
// architecture's order, the source read through the guest's page tables, the PASID put in, the answer in the flags.
// Nothing here knows KVM. Single-step traps (RFLAGS.TF) are not raised.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <optional>
#include <span>

#include "iommu/ids.hpp"
#include "iommu/pasid/enqcmd_decode.hpp"
#include "vmm/base/address.hpp"

namespace inox::iommu {

inline constexpr std::size_t enqueue_size = 64;
using EnqueueCommand = std::array<std::byte, enqueue_size>;

/// IA32_PASID (SDM volume 4): bits 19:0 and a valid bit; writing any other is #GP.
inline constexpr std::uint32_t msr_ia32_pasid = 0xd93;
inline constexpr std::uint64_t ia32_pasid_valid = 1U << 31;
inline constexpr std::uint32_t pasid_mask = 0xfffff;
[[nodiscard]] constexpr bool ia32_pasid_writable(std::uint64_t value) {
    return (value & ~(ia32_pasid_valid | pasid_mask)) == 0;
}

/// Bit numbers of the registers looked at.
namespace cpu_bit {
inline constexpr std::uint64_t cr0_pe = 1U << 0;
inline constexpr std::uint64_t cr4_la57 = 1U << 12;
inline constexpr std::uint64_t flags_cf = 1U << 0;
inline constexpr std::uint64_t flags_pf = 1U << 2;
inline constexpr std::uint64_t flags_af = 1U << 4;
inline constexpr std::uint64_t flags_zf = 1U << 6;
inline constexpr std::uint64_t flags_sf = 1U << 7;
inline constexpr std::uint64_t flags_of = 1U << 11;
inline constexpr std::uint64_t flags_rf = 1U << 16;
} // namespace cpu_bit

/// A segment register's hidden part. Outside 64-bit mode all of it counts, inside only the base of FS and GS.
struct CpuSegment {
    std::uint64_t base{};
    std::uint32_t limit{0xffffffff}; ///< last byte
    bool usable{true};               ///< false after a null selector was loaded
    bool readable{true};
    bool writable{true};
    bool expand_down{false};
    bool big{true}; ///< upper bound of an expand-down segment: 4 GiB instead of 64 KiB
};

/// The CPU at the instruction. Registers in the encoding's order.
struct CpuState {
    std::array<std::uint64_t, 16> registers{};
    std::uint64_t rip{};
    std::uint64_t rflags{};
    std::array<CpuSegment, 6> segments{}; ///< by SegmentName
    std::uint64_t cr0{};
    std::uint64_t cr4{};
    CodeSize code{CodeSize::bits64};
    std::uint8_t cpl{};
    std::uint64_t ia32_pasid{};
};

/// An exception to be raised at the instruction.
struct CpuFault {
    static constexpr std::uint8_t ud = 6;
    static constexpr std::uint8_t ss = 12;
    static constexpr std::uint8_t gp = 13;
    static constexpr std::uint8_t pf = 14;

    std::uint8_t vector{};
    std::optional<std::uint32_t> error_code{};
    std::optional<std::uint64_t> cr2{};
    bool operator==(const CpuFault&) const = default;
};

/// What the instruction reaches of the machine.
class EnqueueMachine {
public:
    EnqueueMachine() = default;
    EnqueueMachine(const EnqueueMachine&) = delete;
    EnqueueMachine& operator=(const EnqueueMachine&) = delete;
    virtual ~EnqueueMachine() = default;

    /// The CPU's own paging, with its present privilege. Sets accessed and dirty bits as an access would.
    virtual std::expected<Gpa, CpuFault> translate(std::uint64_t linear, bool write) noexcept = 0;
    /// RAM or device registers; within one page.
    virtual void read(Gpa from, std::span<std::byte> to) noexcept = 0;
    /// A posted 64-byte write; aligned.
    virtual void store(Gpa to, const EnqueueCommand& bytes) noexcept = 0;
    /// A non-posted 64-byte write; aligned. False for "retry", as from anything that is no enqueue register.
    virtual bool enqueue(Gpa to, const EnqueueCommand& command) noexcept = 0;
    /// Calls `submit` with the host's number while the translation cannot go away. False, without the call, when the
    /// guest's number has none.
    virtual bool with_pasid(GuestPasid guest, const std::function<void(HostPasid)>& submit) noexcept = 0;
};

struct EnqueueOutcome {
    enum class Verdict : std::uint8_t {
        retired,        ///< go on at `rip` with `rflags`
        fault,          ///< raise `fault`, at the instruction
        no_translation, ///< the same; the PASID is not in the translation table (VMX exit reasons 72 and 73)
    };
    Verdict verdict{Verdict::fault};
    CpuFault fault{};
    std::uint64_t rip{};
    std::uint64_t rflags{};
    bool accepted{};    ///< retired ENQCMD and ENQCMDS
    GuestPasid pasid{}; ///< what was submitted, or failed to be translated
};

[[nodiscard]] EnqueueOutcome execute_enqueue(const EnqueueInstruction& instruction, const CpuState& cpu,
                                             EnqueueMachine& machine) noexcept;

} // namespace inox::iommu
