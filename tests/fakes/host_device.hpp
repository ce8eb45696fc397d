// SPDX-License-Identifier: Apache-2.0
// A VFIO device made of memory: strict about the kernel's rules for interrupts, and a record of what is done to it.
// State lives apart from the object, so a test can look at it after the device is closed.
#pragma once

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unistd.h>
#include <vector>

#include "devices/vfio/host_device.hpp"
#include "tests/fakes/vfio_device.hpp"
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

        void add_region(unsigned index, std::uint64_t size) {
            auto& region = regions[index];
            region.size = size;
            region.readable = true;
            region.writable = index != vfio::region_rom;
            if (index < vfio::region_rom && size >= page_size)
                region.areas = {{0, size}};
            UniqueFd file{::memfd_create("region", MFD_CLOEXEC)};
            const auto whole = align_up(size, page_size);
            if (::ftruncate(file.get(), static_cast<off_t>(whole)) != 0)
                std::abort();
            auto view = inox::Mapping::create(whole, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
            memory.insert_or_assign(index, Memory{std::move(file), std::move(view).value()});
        }
        /// Under the lock.
        std::span<std::byte> at(unsigned region, std::uint64_t offset, std::size_t size) {
            const auto bytes = memory.at(region).view.bytes();
            if (offset > bytes.size() || size > bytes.size() - offset)
                std::abort();
            return bytes.subspan(offset, size);
        }
        void poke(unsigned region, std::uint64_t offset, std::span<const std::byte> bytes) {
            const std::lock_guard lock{mutex};
            std::ranges::copy(bytes, at(region, offset, bytes.size()).begin());
        }
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
        std::vector<Access> take_config_writes() {
            std::vector<Access> found;
            for (const auto& write : writes)
                if (write.region == vfio::region_config)
                    found.push_back(write);
            writes.clear();
            return found;
        }
        bool enabled(vfio::Interrupt kind) { return wired.contains(kind); }
    };

    explicit FakeHostDevice(std::shared_ptr<State> state) : state_{std::move(state)} {}
    ~FakeHostDevice() override { state_->alive = false; }

    [[nodiscard]] std::string name() const override { return "vfio0 (0000:01:00.0)"; }
    [[nodiscard]] const vfio::RegionInfo& region(unsigned index) const override { return state_->regions.at(index); }

    [[nodiscard]] bool read(unsigned index, std::uint64_t offset, std::span<std::byte> out) const noexcept override {
        const std::lock_guard lock{state_->mutex};
        const auto& region = state_->regions[index];
        if (state_->io_error || offset + out.size() > region.size)
            return false;
        std::ranges::copy(state_->at(index, offset, out.size()), out.begin());
        for (std::size_t i = 0; state_->gone && i < out.size(); ++i)
            if (index != vfio::region_config || !kept_by_vfio(offset + i))
                out[i] = std::byte{0xff};
        if (index != vfio::region_config)
            state_->reads.push_back({index, offset, out.size(), load_le(out)});
        return true;
    }
    [[nodiscard]] bool write(unsigned index, std::uint64_t offset,
                             std::span<const std::byte> in) const noexcept override {
        const std::lock_guard lock{state_->mutex};
        const auto& region = state_->regions[index];
        if (state_->io_error || !region.writable || offset + in.size() > region.size)
            return false;
        if (state_->gone)
            return true;
        state_->writes.push_back({index, offset, in.size(), load_le(in)});
        std::ranges::copy(in, state_->at(index, offset, in.size()).begin());
        return true;
    }
    Result<inox::Mapping> map(unsigned index, vfio::RegionArea part) const override {
        const bool allowed = std::ranges::any_of(state_->regions[index].areas, [&](const auto& area) {
            return part.offset >= area.offset && part.offset + part.size <= area.offset + area.size;
        });
        if (!allowed || state_->refuse_maps || !is_aligned(part.offset | part.size, page_size))
            return fail(Errc::host_error, "the fake refuses to map");
        return inox::Mapping::create(part.size, PROT_READ | PROT_WRITE, MAP_SHARED, state_->memory.at(index).file.get(),
                                     static_cast<std::int64_t>(part.offset));
    }

    [[nodiscard]] const vfio::InterruptInfo& interrupt(vfio::Interrupt kind) const override {
        return state_->interrupts.at(static_cast<std::size_t>(kind));
    }
    Result<void> enable(vfio::Interrupt kind, unsigned start, std::span<const int> fds) override {
        const auto& info = interrupt(kind);
        const bool pin = kind <= vfio::Interrupt::msix;
        auto& wired = state_->wired;
        for (const auto other : {vfio::Interrupt::intx, vfio::Interrupt::msi, vfio::Interrupt::msix})
            if (pin && other != kind && wired.contains(other))
                return fail(Errc::host_error, "another kind of interrupt is enabled");
        const auto enabled = wired.contains(kind) ? wired[kind].size() : 0;
        const auto end = start + fds.size();
        if (fds.empty() || end > info.count || (enabled && end > enabled && !info.resizable))
            return fail(Errc::host_error, "no such vectors");
        if (end > state_->vectors_left)
            return fail(Errc::host_error, "the host has no more vectors");
        wired[kind].resize(std::max(enabled, end), -1);
        std::ranges::copy(fds, wired[kind].begin() + start);
        state_->calls.push_back(format("enable %s %u+%zu", text(kind), start, fds.size()));
        return {};
    }
    Result<void> disable(vfio::Interrupt kind) override {
        state_->wired.erase(kind);
        state_->calls.push_back(std::string{"disable "} + text(kind));
        return {};
    }
    Result<void> unmask_intx_on(int fd) override {
        if (!state_->wired.contains(vfio::Interrupt::intx))
            return fail(Errc::host_error, "INTx is off");
        state_->unmask = fd;
        return {};
    }

    [[nodiscard]] bool can_reset() const override { return state_->can_reset; }
    [[nodiscard]] bool reset_by_opening() const override { return state_->reset_by_opening; }
    Result<void> reset() override {
        ++state_->resets;
        state_->calls.emplace_back("reset");
        return {};
    }
    Result<std::vector<vfio::ResetPeer>> reset_peers() const override {
        if (state_->peers.empty())
            return fail(Errc::not_found, "the bus has no reset");
        return state_->peers;
    }
    Result<void> hot_reset() override {
        ++state_->bus_resets;
        state_->calls.emplace_back("bus reset");
        return {};
    }

private:
    static const char* text(vfio::Interrupt kind) {
        constexpr std::array<const char*, vfio::interrupt_count> names{"intx", "msi", "msix", "error", "request"};
        return names[static_cast<std::size_t>(kind)];
    }
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
    Result<Registration> map(Range<Gpa> range, std::span<std::byte> host, bool read_only, const char*) override {
        if (range.size() != host.size() || !is_aligned(range.start().raw() | range.size(), page_size))
            return fail(Errc::internal, "not whole pages");
        for (const auto& slot : *slots)
            if (slot.range.overlaps(range))
                return fail(Errc::already_exists, "the fake's slots overlap");
        slots->push_back({range, host.data(), read_only});
        return Registration{
            [list = slots, range] { std::erase_if(*list, [&](const Slot& slot) { return slot.range == range; }); }};
    }
    [[nodiscard]] std::vector<std::uint64_t> starts() const {
        std::vector<std::uint64_t> found;
        for (const auto& slot : *slots)
            found.push_back(slot.range.start().raw());
        std::ranges::sort(found);
        return found;
    }

    std::shared_ptr<std::vector<Slot>> slots{std::make_shared<std::vector<Slot>>()};
};

/// Lays out a configuration space, one capability after the other.
class DeviceBuilder {
public:
    explicit DeviceBuilder(unsigned config_size = 4096) {
        state->add_region(vfio::region_config, config_size);
        state->config<std::uint32_t>(0x00, 0x00101b36);
        state->config<std::uint16_t>(0x06, 0x0010);
        state->config<std::uint32_t>(0x08, 0x01080202);
        state->config<std::uint32_t>(0x2c, 0x11001af4);
    }
    DeviceBuilder& bar(unsigned index, std::uint64_t size, std::uint32_t flags = 0) {
        state->add_region(index, size);
        state->config<std::uint32_t>(0x10 + 4 * index, flags);
        return *this;
    }
    DeviceBuilder& interrupts(vfio::Interrupt kind, unsigned count, bool resizable = false) {
        state->interrupts[static_cast<std::size_t>(kind)] = {.count = count, .resizable = resizable};
        if (kind == vfio::Interrupt::intx)
            state->config<std::uint8_t>(0x3d, 1);
        return *this;
    }
    /// `body` are the bytes behind the header.
    unsigned capability(unsigned at, std::uint8_t id, std::vector<std::uint8_t> body = {}) {
        state->config<std::uint8_t>(last_ ? last_ + 1 : 0x34, static_cast<std::uint8_t>(at));
        state->config<std::uint16_t>(at, id);
        state->poke(vfio::region_config, at + 2, std::as_bytes(std::span{body}));
        return last_ = at;
    }
    unsigned extended(unsigned at, std::uint16_t id, std::vector<std::uint8_t> body = {}) {
        state->config<std::uint32_t>(at, id | 1U << 16);
        if (last_extended_)
            state->config<std::uint32_t>(last_extended_,
                                         state->get<std::uint32_t>(vfio::region_config, last_extended_) | at << 20);
        state->poke(vfio::region_config, at + 4, std::as_bytes(std::span{body}));
        return last_extended_ = at;
    }
    unsigned msix(unsigned at, unsigned vectors, std::uint32_t table, std::uint32_t pba, bool resizable = true) {
        interrupts(vfio::Interrupt::msix, vectors, resizable);
        capability(at, 0x11);
        state->config<std::uint16_t>(at + 2, static_cast<std::uint16_t>(vectors - 1));
        state->config<std::uint32_t>(at + 4, table);
        state->config<std::uint32_t>(at + 8, pba);
        return at;
    }
    unsigned msi(unsigned at, unsigned vectors, std::uint16_t control) {
        interrupts(vfio::Interrupt::msi, vectors);
        capability(at, 0x05);
        state->config<std::uint16_t>(at + 2, control);
        return at;
    }
    [[nodiscard]] std::unique_ptr<FakeHostDevice> open() const { return std::make_unique<FakeHostDevice>(state); }

    std::shared_ptr<FakeHostDevice::State> state{std::make_shared<FakeHostDevice::State>()};

private:
    unsigned last_{};
    unsigned last_extended_{};
};

} // namespace inox::fakes
