// SPDX-License-Identifier: Apache-2.0
// What a session needs of the machine that it debugs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "vmm/base/error.hpp"
#include "vmm/gdb/registers.hpp"

namespace inox::gdb {

struct Breakpoint {
    /// In the order of the packets Z0 to Z4.
    enum class Kind : std::uint8_t { software, execute, write, read, access };
    Kind kind{};
    std::uint64_t address{}; ///< linear
    unsigned length{};       ///< bytes: 1, 2, 4 or 8; of an instruction 1
    bool operator==(const Breakpoint&) const = default;
};

/// Why the guest stands still.
struct Stop {
    unsigned vcpu{};
    enum class Why : std::uint8_t { interrupted, step, software, hardware, watch, panic };
    Why why{};
    Breakpoint breakpoint{}; ///< Why::watch
};

/// What the vCPUs do until the next stop.
struct Resume {
    std::optional<unsigned> only{}; ///< the others wait
    std::optional<unsigned> step{}; ///< this one executes a single instruction
};

/// On the loop's thread. All but interrupt() only while the guest stands still. Errors leave things as they were.
class Target {
public:
    virtual ~Target() = default;
    [[nodiscard]] virtual unsigned vcpus() const = 0;
    [[nodiscard]] virtual Result<Registers> registers(unsigned vcpu) const = 0;
    virtual Result<void> set_registers(unsigned vcpu, const Registers& registers) = 0;
    /// Memory at a linear address as this vCPU sees it, without breakpoints. How many bytes, up to the first that is no
    /// RAM.
    virtual std::size_t read(unsigned vcpu, std::uint64_t address, std::span<std::byte> to) const = 0;
    /// All or nothing.
    virtual bool write(unsigned vcpu, std::uint64_t address, std::span<const std::byte> from) = 0;
    /// Twice is once. no_resource: no register is left for it; not_found: no memory there.
    virtual Result<void> insert(unsigned vcpu, const Breakpoint& breakpoint) = 0;
    virtual void remove(const Breakpoint& breakpoint) = 0;
    virtual void remove_all() = 0;
    virtual Result<void> resume(const Resume& how) = 0;
    /// The guest stands still when this returns.
    virtual void interrupt() = 0;
    /// How far the kernel runs from where it was linked; nullopt when it cannot be known (yet).
    [[nodiscard]] virtual std::optional<std::uint64_t> kernel_offset() const = 0;
    /// The answer to "monitor COMMAND"; whole lines.
    virtual std::string monitor(std::string_view command) = 0;
    virtual void kill() = 0;
};

} // namespace inox::gdb
