// SPDX-License-Identifier: Apache-2.0
// A VFIO device made of memory: strict about the kernel's rules for interrupts, and a record of what is done to it.
// State lives apart from the object, so a test can look at it after the device is closed.
#pragma once

#include <sys/mman.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>
#include <vector>

#include "devices/vfio/host_device.hpp"
#include "vmm/base/bytes.hpp"
#include "vmm/bus/guest_mappings.hpp"

namespace inox::fakes {

namespace vfio = devices::vfio;

class FakeHostDevice final : public vfio::HostDevice {
public:
    struct Access {
        unsigned region{};
        std::uint64_t offset{};
        std::size_t size{};
        std::uint64_t value{};
        bool operator==(const Access&) const = default;
    };

    struct State {
        std::array<vfio::RegionInfo, vfio::region_count> regions{};
        std::array<vfio::InterruptInfo, vfio::interrupt_count> interrupts{};
        /// A file, so that it can be mapped in parts, and our own view of it: a system call for each register is slow.
        struct Memory {
            UniqueFd file;
            inox::Mapping view;
        };
        std::map<unsigned, Memory> memory{}; ///< behind each region
        std::vector<Access> reads{};         ///< of BARs
        std::vector<Access> writes{};        ///< of anything
        std::map<vfio::Interrupt, std::vector<int>> wired{};
        std::vector<std::string> calls{}; ///< interrupts and resets, in order
        int unmask{-1};
        unsigned resets{};
        unsigned bus_resets{};
        std::vector<vfio::ResetPeer> peers{}; ///< empty: no bus reset
        bool can_reset{true};
        bool reset_by_opening{false};
        /// Pulled out: VFIO answers what it keeps a copy of, all else reads as ones, and writes go nowhere.
        std::atomic<bool> gone{};
        std::atomic<bool> io_error{}; ///< every access fails
        bool refuse_maps{};
        unsigned vectors_left{4096}; ///< what the host can set aside
        bool alive{true};
        std::mutex mutex{};

        void add_region(unsigned index, std::uint64_t size);
        /// Under the lock.
        std::span<std::byte> at(unsigned region, std::uint64_t offset, std::size_t size);
        void poke(unsigned region, std::uint64_t offset, std::span<const std::byte> bytes);
        template <std::unsigned_integral T>
        void set(unsigned region, std::uint64_t offset, std::type_identity_t<T> value) {
            std::array<std::byte, sizeof(T)> bytes{};
            store_le(bytes, value);
            poke(region, offset, bytes);
        }
        template <std::unsigned_integral T> void config(unsigned offset, std::type_identity_t<T> value) {
            set<T>(vfio::region_config, offset, value);
        }
        template <std::unsigned_integral T> T get(unsigned region, std::uint64_t offset) {
            const std::lock_guard lock{mutex};
            return load_le<T>(at(region, offset, sizeof(T)));
        }
        /// The writes to configuration space since the last look.
        std::vector<Access> take_config_writes();
        bool enabled(vfio::Interrupt kind) { return wired.contains(kind); }
    };

    explicit FakeHostDevice(std::shared_ptr<State> state) : state_{std::move(state)} {}
    ~FakeHostDevice() override { state_->alive = false; }

    [[nodiscard]] std::string name() const override { return "vfio0 (0000:01:00.0)"; }
    [[nodiscard]] const vfio::RegionInfo& region(unsigned index) const override { return state_->regions.at(index); }

    [[nodiscard]] bool read(unsigned index, std::uint64_t offset, std::span<std::byte> out) const noexcept override;
    [[nodiscard]] bool write(unsigned index, std::uint64_t offset,
                             std::span<const std::byte> in) const noexcept override;
    Result<inox::Mapping> map(unsigned index, vfio::RegionArea part) const override;

    [[nodiscard]] const vfio::InterruptInfo& interrupt(vfio::Interrupt kind) const override;
    Result<void> enable(vfio::Interrupt kind, unsigned start, std::span<const int> fds) override;
    Result<void> disable(vfio::Interrupt kind) override;
    Result<void> unmask_intx_on(int fd) override;

    [[nodiscard]] bool can_reset() const override { return state_->can_reset; }
    [[nodiscard]] bool reset_by_opening() const override { return state_->reset_by_opening; }
    Result<void> reset() override;
    Result<std::vector<vfio::ResetPeer>> reset_peers() const override;
    Result<void> hot_reset() override;

private:
    static const char* text(vfio::Interrupt kind);
    std::shared_ptr<State> state_;
};

/// Where host memory appears in the guest. Refuses overlaps, as KVM does.
class FakeGuestMappings final : public GuestMappings {
public:
    struct Slot {
        Range<Gpa> range;
        std::byte* host;
        bool read_only;
    };
    Result<Registration> map(Range<Gpa> range, std::span<std::byte> host, bool read_only, const char*) override;
    [[nodiscard]] std::vector<std::uint64_t> starts() const;

    std::shared_ptr<std::vector<Slot>> slots{std::make_shared<std::vector<Slot>>()};
};

/// Lays out a configuration space, one capability after the other.
class DeviceBuilder {
public:
    explicit DeviceBuilder(unsigned config_size = 4096);
    DeviceBuilder& bar(unsigned index, std::uint64_t size, std::uint32_t flags = 0);
    DeviceBuilder& interrupts(vfio::Interrupt kind, unsigned count, bool resizable = false);
    /// `body` are the bytes behind the header.
    unsigned capability(unsigned at, std::uint8_t id, std::vector<std::uint8_t> body = {});
    unsigned extended(unsigned at, std::uint16_t id, std::vector<std::uint8_t> body = {});
    unsigned msix(unsigned at, unsigned vectors, std::uint32_t table, std::uint32_t pba, bool resizable = true);
    unsigned msi(unsigned at, unsigned vectors, std::uint16_t control);
    [[nodiscard]] std::unique_ptr<FakeHostDevice> open() const { return std::make_unique<FakeHostDevice>(state); }

    std::shared_ptr<FakeHostDevice::State> state{std::make_shared<FakeHostDevice::State>()};

private:
    unsigned last_{};
    unsigned last_extended_{};
};

} // namespace inox::fakes
