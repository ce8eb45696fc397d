// SPDX-License-Identifier: Apache-2.0
// The configuration space of one PCI function: registers with a write mask per bit, capability chains, BARs.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "vmm/base/bytes.hpp"
#include "vmm/base/error.hpp"

namespace inox {
class State;
}

namespace inox::devices::pci {

struct Identity {
    std::uint16_t vendor{};
    std::uint16_t device{};
    std::uint32_t class_code{}; ///< 24 bits: class, subclass, programming interface
    std::uint8_t revision{};
    std::uint16_t subsystem_vendor{};
    std::uint16_t subsystem{};
};

enum class BarKind : std::uint8_t { io, memory32, memory64 };

struct Bar {
    BarKind kind{BarKind::memory32};
    std::uint64_t size{}; ///< a power of two
    bool prefetchable{};
};

inline constexpr unsigned bar_count = 7; ///< six BARs and the expansion ROM
inline constexpr unsigned rom_bar = 6;

/// Offsets of the type 0 header (PCI 3.0, 6.1).
namespace reg {
inline constexpr unsigned vendor = 0x00;
inline constexpr unsigned device = 0x02;
inline constexpr unsigned command = 0x04;
inline constexpr unsigned status = 0x06;
inline constexpr unsigned revision = 0x08;
inline constexpr unsigned class_code = 0x09;
inline constexpr unsigned cache_line_size = 0x0c;
inline constexpr unsigned header_type = 0x0e;
inline constexpr unsigned bar0 = 0x10;
inline constexpr unsigned subsystem_vendor = 0x2c;
inline constexpr unsigned subsystem = 0x2e;
inline constexpr unsigned expansion_rom = 0x30;
inline constexpr unsigned capabilities = 0x34;
inline constexpr unsigned interrupt_line = 0x3c;
inline constexpr unsigned interrupt_pin = 0x3d;
} // namespace reg

/// Bits of the command register.
namespace command_bit {
inline constexpr std::uint16_t io = 1 << 0;
inline constexpr std::uint16_t memory = 1 << 1;
inline constexpr std::uint16_t bus_master = 1 << 2;
inline constexpr std::uint16_t parity = 1 << 6;
inline constexpr std::uint16_t serr = 1 << 8;
inline constexpr std::uint16_t intx_disable = 1 << 10;
} // namespace command_bit

/// Not synchronised: the owner builds it, then the root bus serialises all access. Calls made while building take host
/// data and report mistakes; guest access cannot fail.
class ConfigSpace {
public:
    static constexpr unsigned conventional = 256; ///< bytes; reads beyond are all ones
    static constexpr unsigned express = 4096;

    /// `size` is conventional or express.
    explicit ConfigSpace(const Identity& identity, unsigned size = express);
    ConfigSpace(const ConfigSpace&) = delete;
    ConfigSpace& operator=(const ConfigSpace&) = delete;
    ~ConfigSpace() = default;

    // The guest's side.

    /// Any offset and width; bytes beyond the end read as ones.
    void read(unsigned offset, std::span<std::byte> data) const noexcept;
    /// Changes the writable bits, then calls each watcher whose bytes were written. Bytes beyond the end are dropped.
    void write(unsigned offset, std::span<const std::byte> data) noexcept;

    // The owner's side. Offsets must lie inside the space.

    [[nodiscard]] unsigned size() const { return static_cast<unsigned>(bytes_.size()); }
    template <std::unsigned_integral T> [[nodiscard]] T get(unsigned offset) const {
        return load_le<T>(std::span{bytes_}.subspan(offset, sizeof(T)));
    }
    template <std::unsigned_integral T> void set(unsigned offset, T value) {
        store_le(std::span{bytes_}.subspan(offset, sizeof(T)), value);
        publish_command();
    }
    /// The bits of `mask` become writable by the guest.
    template <std::unsigned_integral T> void allow_writes(unsigned offset, T mask) {
        for (unsigned i = 0; i < sizeof(T); ++i)
            writable_[offset + i] |= static_cast<std::byte>((std::uint64_t{mask} >> (8 * i)) & 0xff);
    }
    /// `changed` is called after a guest write that touched any of these bytes, under the root bus's lock.
    void watch(unsigned offset, unsigned size, std::function<void()> changed);

    /// Appends to the chain; `body` follows the id and next bytes, `writable` masks its first bytes. Returns the
    /// capability's offset; no_resource when the space is full.
    Result<unsigned> add_capability(std::uint8_t id, std::span<const std::byte> body,
                                    std::span<const std::byte> writable = {});
    /// The same at 0x100 and above; `body` follows the four header bytes.
    Result<unsigned> add_extended_capability(std::uint16_t id, std::uint8_t version, std::span<const std::byte> body,
                                             std::span<const std::byte> writable = {});
    /// Keeps the allocator of capabilities away from bytes laid out by hand.
    void reserve(unsigned offset, unsigned size);
    /// Appends a capability whose body is laid out by hand (and reserved) to the chain; writes its header.
    void link_capability(unsigned offset, std::uint8_t id);
    /// The same at 0x100 and above. If none sits at 0x100, where the chain starts, a null capability there leads on.
    void link_extended_capability(unsigned offset, std::uint16_t id, std::uint8_t version);

    /// A 64-bit BAR takes `index` and `index + 1`; the ROM is `rom_bar`, of kind memory32.
    Result<void> add_bar(unsigned index, Bar bar);
    [[nodiscard]] const std::optional<Bar>& bar(unsigned index) const { return bars_[index]; }
    /// The address programmed now, whether decoded or not. Only for a BAR that exists.
    [[nodiscard]] std::uint64_t bar_address(unsigned index) const;
    void set_bar_address(unsigned index, std::uint64_t address);
    /// True when the command register (and the ROM's enable bit) let the BAR respond.
    [[nodiscard]] bool bar_decoded(unsigned index) const;

    /// 1 to 4 for INTA to INTD.
    void set_interrupt_pin(std::uint8_t pin) { set<std::uint8_t>(reg::interrupt_pin, pin); }
    [[nodiscard]] std::uint8_t interrupt_pin() const { return get<std::uint8_t>(reg::interrupt_pin); }
    void set_multi_function(bool multi);
    /// The command register. From any thread.
    [[nodiscard]] std::uint16_t command() const noexcept { return command_.load(std::memory_order_acquire); }
    /// The interrupt status bit. From any thread.
    void set_interrupt_status(bool asserted) noexcept { interrupt_status_.store(asserted, std::memory_order_relaxed); }
    /// Restoring calls every watcher, and refuses the registers of another function: what the guest cannot write
    /// differs.
    void state(State& state);

private:
    struct Watch {
        unsigned offset;
        unsigned size;
        std::function<void()> changed;
    };

    void publish_command() noexcept { command_.store(get<std::uint16_t>(reg::command), std::memory_order_release); }
    [[nodiscard]] std::optional<unsigned> find_room(unsigned from, unsigned limit, std::size_t size) const;
    void fill(unsigned offset, unsigned header, std::span<const std::byte> body, std::span<const std::byte> writable);
    [[nodiscard]] bool upper_half(unsigned index) const;

    std::vector<std::byte> bytes_;
    std::vector<std::byte> writable_;
    std::vector<bool> used_; // per dword
    std::vector<Watch> watches_{};
    std::array<std::optional<Bar>, bar_count> bars_{};
    unsigned last_capability_{};
    unsigned last_extended_capability_{};
    std::atomic<std::uint16_t> command_{}; // copy of the register
    std::atomic<bool> interrupt_status_{};
};

} // namespace inox::devices::pci
